"""The warm-up: one of gunicorn's workers runs in the parent, on a socket of the warm-up.

So what gets compiled is all that a worker will run: gunicorn's accept loop, its parser and its responses,
and the application. The workers are forked from this process and have it.
"""

import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading

import pyram_serve

from . import client, django_guard

SIGNALS = [getattr(signal, "SIG" + name) for name in "ABRT HUP QUIT INT TERM USR1 USR2 WINCH CHLD".split()]


class Client:
    """The process that asks; forked before the application is loaded, while this one is still small."""

    def __init__(self, report):
        self.orders, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.orders.close()
            client.run(theirs, report)
        theirs.close()

    def order(self, what):
        self.orders.sendall(json.dumps(what).encode())
        self.orders.shutdown(socket.SHUT_WR)

    def end(self):
        self.orders.close()  # Without an order it ends by that.
        os.waitpid(self.pid, 0)


class Ending:
    """The answer to a secret path, on which the worker's loop ends."""

    def __init__(self):
        self.worker = None

    def __call__(self, start_response):
        self.worker.alive = False
        start_response("204 No Content", [])
        return []


class EndingAsgi(Ending):
    async def __call__(self, send):
        self.worker.alive = False
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def warm_up_settings(cfg):
    """The user's settings, without what must not be done in the parent: another user, hooks of a worker's life. In the
    same objects: PyPy compiles other code for copies."""
    before = {}
    for name, value in {
        "user": os.geteuid(), "group": os.getegid(), "initgroups": False, "reload": False, "max_requests": 0,
        "post_worker_init": lambda worker: None, "worker_int": lambda worker: None,
        "worker_abort": lambda worker: None, "certfile": None, "keyfile": None, "proxy_protocol": "off",
    }.items():
        if name not in cfg.settings:
            continue
        before[name] = cfg.settings[name].value
        try:
            cfg.set(name, value)
        except (TypeError, ValueError):
            cfg.set(name, False)  # A switch, in older versions.
    try:
        yield
    finally:
        for name, value in before.items():
            cfg.settings[name].value = value


@contextlib.contextmanager
def kept_signals():
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def shorter(record):
    """An exception of the warm-up's is one line: the client says what becomes of its request."""
    if record.exc_info:
        error = record.exc_info[1]
        record.msg, record.args = "%s: %s: %s", (record.getMessage(), type(error).__name__, error)
        record.exc_info = None
    return True


@contextlib.contextmanager
def less_said(log):
    """The warm-up's requests are in no access log, and its errors have no tracebacks."""
    drop = lambda record: False  # noqa: E731
    log.access_log.addFilter(drop)
    log.error_log.addFilter(shorter)
    try:
        yield
    finally:
        log.access_log.removeFilter(drop)
        log.error_log.removeFilter(shorter)


def listener_like(real, name, cfg, log, private):
    """Of the same family, as gunicorn runs other code for clients with other addresses. A TCP socket on the machine's
    own address is open to its users, as the real one is: not where that asks for certificates, nor where the warm-up's
    client is logged in (`private`)."""
    from gunicorn import sock
    if isinstance(real, sock.TCPSocket) and not private:
        address = ("::1" if isinstance(real, sock.TCP6Socket) else "127.0.0.1", 0)
        try:
            return type(real)(address, cfg, log)
        except OSError:
            pass  # There is no such family here but for sockets that the service was given.
    return sock.UnixSocket(name, cfg, log)


def listeners(real, cfg, log, directory, private):
    """As many as make the worker's loop the one that it will be: that for one socket or for several."""
    return [listener_like(listener, os.path.join(directory, name), cfg, log, private)
            for listener, name in zip(real, ["a", "b"])]


def run_worker(app, cfg, log, ending, sockets):
    """Returns when the client has asked for the path of `ending`."""
    worker = cfg.worker_class(0, os.getppid(), sockets, app, cfg.timeout / 2.0, cfg, log)
    ending.worker = worker
    with kept_signals():
        worker.init_process()
    worker.tmp.close()
    for descriptor in worker.PIPE:
        os.close(descriptor)


def forget_threads():
    """asgiref keeps a thread for plain functions, which a forked worker would wait for without having it."""
    module = sys.modules.get("asgiref.sync")
    executor = getattr(getattr(module, "SyncToAsync", None), "single_thread_executor", None)
    if executor is not None:
        executor.shutdown(wait=True)
        module.SyncToAsync.single_thread_executor = type(executor)(max_workers=1)


def clear_up(log):
    forget_threads()
    alive = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if alive:
        log.warning("the application has threads, which workers will not have: %s", ", ".join(sorted(alive)))
    gc.collect()
    gc.collect()  # What finalizers of the first let go of.


def find_user(name, log):
    """Who is logged in in the warm-up's requests, or None."""
    try:
        return django_guard.find_user(name) if name else None
    except django_guard.NoUser as error:
        log.warning("warm-up: nobody is logged in: %s", error)
        return None


def rehearse(asker, arbiter, options, requests, seconds, asgi, special):
    """Warms the application of `arbiter` up; `special` are the paths that the application does not answer."""
    log, cfg = arbiter.log, arbiter.cfg
    path = "/-/over-" + secrets.token_hex(16)
    headers = [*django_guard.request_headers(options.warm_up_host), ("User-Agent", "pyram_serve (warm-up)"),
               ("Accept", "*/*"), ("Accept-Encoding", "gzip"), ("Connection", "close")]
    with tempfile.TemporaryDirectory(prefix="pyram-serve-", dir=cfg.worker_tmp_dir) as directory:
        user = find_user(options.warm_up_user, log)
        sockets = listeners(arbiter.LISTENERS, cfg, log, directory, user is not None or cfg.is_ssl)
        ending = special[path] = (EndingAsgi if asgi else Ending)()
        asker.order({"address": sockets[0].getsockname(), "requests": requests, "over": ["GET", path],
                     "headers": headers, "seconds": seconds, "timeout": options.warm_up_timeout})
        pyram_serve._warming = True
        try:
            with less_said(log), warm_up_settings(cfg), django_guard.guarded(asgi, user):
                run_worker(arbiter.app, cfg, log, ending, sockets)
        finally:
            pyram_serve._warming = False
            del special[path]
            for listener in sockets:
                if listener.sock is not None:
                    listener.close()
    asker.end()
    clear_up(log)
