"""The control socket (--control FILE): whoever connects has asked for a reload, and gets one line when it is
decided: `ready`, or `failed: ` and why. A signal cannot say that.
"""

import os
import socket

BACKLOG = 16


class Control:
    def __init__(self, path="", listener=None, waiting=()):
        """On a new socket (as the keeper starts), or on descriptors that it has got from its predecessor."""
        self.listener = None
        if listener is not None:
            self.listener = socket.socket(fileno=listener)
        elif path:
            self.listener = self._listen(path)
        self.waiting = [socket.socket(fileno=number) for number in waiting]  # For the next reload.
        self.answering = []  # For the one that goes on.

    @staticmethod
    def _listen(path):
        try:
            os.unlink(path)  # Of a keeper that was killed.
        except OSError:
            pass
        listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)  # Ours and root's.
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener

    def accept(self):
        """Whether somebody has asked."""
        try:
            client, _ = self.listener.accept()
        except OSError:
            return False
        self.waiting.append(client)
        return True

    def begin(self):
        """A reload begins: it is for all who have asked until now."""
        self.answering += self.waiting
        self.waiting = []

    def answer(self, text):
        for client in self.answering:
            with client:
                try:
                    client.setblocking(False)
                    client.sendall(text.encode("utf-8", "replace") + b"\n")
                except OSError:
                    pass  # It has gone.
        self.answering = []

    def refuse(self, text):
        self.begin()
        self.answer(text)

    def descriptors(self):
        """For the next keeper: the socket's, if there is one, and those of who waits."""
        return (self.listener.fileno() if self.listener else None), [client.fileno() for client in self.waiting]

    def close(self):
        """In a generation, which has copies."""
        for one in (self.listener, *self.waiting, *self.answering):
            if one:
                one.close()

    def end(self, path):
        self.close()
        if self.listener:
            try:
                os.unlink(path)
            except OSError:
                pass
