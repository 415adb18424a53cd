"""The keeper: the process that was started, and stays until the service ends.

It starts a generation (generation.py: gunicorn with the application, warm), keeps the listening sockets, and
on SIGHUP starts the next one; when that is ready, the one before ends as gunicorn does, after its last
answer. It loads neither gunicorn nor the application, so that each generation sees the files of its time.
With --image the next one is a program of the image of its time, and the keeper follows it (handover.py).
"""

import json
import os
import selectors
import signal
import socket
import time

from . import control, handover

FORWARDED = (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU)
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOADING = (signal.SIGHUP, signal.SIGUSR2)
ALL = (*FORWARDED, *ENDING, *RELOADING, signal.SIGCHLD)
# A generation that hangs or dies in its warm-up is started again without what it was asked for, and after
# that without a warm-up at all.
WARM_ATTEMPTS = 2
SLACK = 10.0  # Seconds beyond a warm-up's own bounds until it counts as hanging.
LOADING = 300.0  # Seconds that a reload's application may take before its warm-up, and its workers after it.
FIRST_INHERITED = 3  # The first descriptor of systemd's.


def say(text):
    try:
        os.write(2, ("pyram_serve: %s\n" % " ".join(text.split())).encode("utf-8", "replace"))
    except OSError:
        pass  # Nobody listens any more; the service goes on.


class Generation:
    """A process of gunicorn's, and what it has said."""

    def __init__(self, pid, channel, attempt=1, skipped=(), image=None):
        self.pid = pid
        self.channel = channel
        self.attempt = attempt  # The first is 1.
        self.skipped = skipped  # Requests that its warm-up leaves out.
        self.image = image  # The file that it runs out of, where that is not the keeper's.
        self.deadline = None  # Of what it does before it serves.
        self.warming = False
        self.hung = False  # It was killed for that.
        self.ended = False
        self.why = ""  # It did not start, in its own words.
        self.workers = None  # How many it forks, once it does.
        self.booted = 0


class Notifier:
    """systemd's readiness protocol, spoken by the keeper alone: neither workers nor the application."""

    def __init__(self, address=None):
        self.address = os.environ.pop("NOTIFY_SOCKET", "") if address is None else address

    def __call__(self, *lines):
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            say("cannot tell systemd: %s" % error)


def inherited_sockets():
    """The descriptors that systemd passes. The application doesn't see the variables."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(FIRST_INHERITED, FIRST_INHERITED + int(count)))


class Keeper:
    def __init__(self, options, arguments, facts=None):
        """`facts`: a predecessor's, which was this process until now."""
        self.options = options
        self.arguments = arguments
        self.current = self.next = None
        self.leaving = {}
        self.reload_again = False
        self.code = None  # The program's, once it is decided that it ends.
        self.selector = selectors.DefaultSelector()
        if facts:
            self._take_facts(facts)
        else:
            self.notify = Notifier()
            self.listeners = inherited_sockets()
            self.activated = bool(self.listeners)
            self.pidfile = None
            self.control = control.Control(options.control)

    def run(self):
        self._watch_signals()
        if self.control.listener:
            self.selector.register(self.control.listener, selectors.EVENT_READ, self._take_request)
        if not self.current:
            self._start()
        elif self.reload_again:
            self.reload_again = False
            self._reload()
        self._reap()  # What ended while this process became another program.
        while self.code is None or self.current or self.next or self.leaving:
            for key, _ in self.selector.select(self._patience()):
                key.data()
            self._check_deadline()
        self._clean_up()
        return self.code

    # Signals: a byte in a pipe for each, so that nothing is done inside of a handler.

    def _watch_signals(self):
        self.wake, wakeup = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wakeup, False)
        for number in ALL:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        handover.unblock(ALL)
        self.wakeup = wakeup
        self.selector.register(self.wake, selectors.EVENT_READ, self._take_signals)

    def _take_signals(self):
        try:
            numbers = os.read(self.wake, 4096)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            if number in RELOADING:
                self._reload()
            elif number in ENDING:
                self._end(0, number)
            elif number in FORWARDED and self.current:
                self._kill(self.current, number)
        self._reap()

    @staticmethod
    def _kill(generation, number):
        try:
            os.kill(generation.pid, number)
        except ProcessLookupError:
            pass

    # Generations.

    def _start(self, attempt=1, skipped=(), image=None):
        """`image`: a file that it is to run out of, in place of the keeper's own image."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become_generation(theirs, attempt, skipped, image)
        theirs.close()
        self.next = Generation(pid, ours, attempt, skipped, image)
        if self.current:
            self.next.deadline = time.monotonic() + LOADING
        self._listen_to(self.next)

    def _listen_to(self, generation):
        self.selector.register(generation.channel, selectors.EVENT_READ, lambda: self._hear(generation))

    def _become_generation(self, channel, attempt, skipped, image):
        """In the child. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for number in ALL:
                signal.signal(number, signal.SIG_DFL)
            self.selector.close()
            os.close(self.wake)
            os.close(self.wakeup)
            for generation in (self.current, *self.leaving.values()):
                if generation:
                    generation.channel.close()
            self.control.close()
            seconds = self.options.warm_up if attempt <= WARM_ATTEMPTS else 0.0
            if image:
                handover.become(image, handover.GENERATION, self.options.words,
                                {"channel": channel.fileno(), "listeners": self.listeners, "seconds": seconds,
                                 "skipped": skipped}, [channel.fileno(), *self.listeners])
            handover.run_generation(channel, self.options, self.arguments, self.listeners, seconds, skipped)
        except Exception as error:  # noqa: B902 nothing may go on as a second keeper
            say(str(error))
            handover.tell(channel, str(error))
        finally:
            os._exit(1)

    def _hear(self, generation):
        """Takes one message. Whether there was one."""
        try:
            text, descriptors, _, _ = socket.recv_fds(generation.channel, 1 << 16, 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            text, descriptors = b"", []
        if not text:  # It has ended, or is about to.
            if generation.channel.fileno() >= 0:
                self.selector.unregister(generation.channel)
                generation.channel.close()
                self._reap()
            return False
        self._take_message(generation, json.loads(text), descriptors)
        return True

    def _take_message(self, generation, said, descriptors):
        if self.listeners:
            for descriptor in descriptors:  # Others of the same sockets.
                os.close(descriptor)
        else:
            self.listeners = descriptors
        if "pidfile" in said:
            self._write_pidfile(said["pidfile"])
        if "warming" in said:
            generation.warming = True
            generation.deadline = time.monotonic() + said["warming"] + SLACK
            self.notify("STATUS=Warming up")
        if "say" in said:
            say(said["say"])
        if "why" in said:
            generation.why = said["why"]
        if "failed" in said:
            self._say_failed(said)
        if "warm" in said:
            self._say_warm(said["warm"])
        if "hung" in said:
            self._without(generation, said["hung"])
        if "forking" in said:
            generation.warming = False
            generation.deadline = time.monotonic() + LOADING if self.current else None
            generation.workers = said["forking"]
        if "booted" in said:
            generation.booted += 1
            ready = generation.workers is not None and generation.booted >= generation.workers
            if generation is self.next and ready and not generation.ended:
                self._take_over(generation)

    @staticmethod
    def _say_failed(said):
        what = "answered %d" % said["status"] if said["status"] else "was not answered"
        say("warm-up: %s %s; it is left out" % (said["failed"], what))

    @staticmethod
    def _say_warm(warm):
        rates = warm["rates"]
        if not rates:
            say("warm-up: there was nothing to ask for; serving cold")
            return
        say("warm after %.1f s: %d requests, at first %.0f, at the end %.0f in a second of processor time"
            % (warm["seconds"], warm["requests"], rates[0], rates[-1]))

    def _without(self, generation, request):
        """A request of the warm-up hangs. Its worker, and so the generation, is of no use."""
        say("warm-up: %s was not answered within %g s; it is left out, and the application loaded again"
            % (request, self.options.warm_up_timeout))
        generation.skipped = (*generation.skipped, request)
        generation.deadline = None
        generation.hung = True
        self._kill(generation, signal.SIGKILL)

    def _take_over(self, generation):
        if self.current:
            self.leaving[self.current.pid] = self.current
            self._kill(self.current, signal.SIGTERM)
        self.current, self.next = generation, None
        self.notify("READY=1", "STATUS=Serving")
        self.control.answer("ready")
        if generation.image and self.code is None:
            self._follow(generation)
        self._reload_if_asked()

    def _take_request(self):
        """Of the control socket."""
        if not self.control.accept():
            return
        if self.code is not None:
            self.control.refuse("failed: the service is about to end")
        elif not self.current:
            self.control.refuse("failed: the service has not got ready yet")
        else:
            self._reload()

    def _reload_if_asked(self):
        if self.reload_again:
            self.reload_again = False
            self._reload()

    def _reload(self):
        if self.code is not None:
            return
        if self.next:
            # What it has loaded may be older than what this signal is about.
            self.reload_again = bool(self.current)
            return
        self.control.begin()
        self.notify("RELOADING=1", "MONOTONIC_USEC=%d" % (time.monotonic() * 1e6), "STATUS=Reloading")
        # Links are followed once: who comes later is to run out of the same file.
        self._start(image=os.path.realpath(self.options.image) if self.options.image else None)

    # The keeper's own way into the image that its generation runs out of.

    def _follow(self, generation):
        listener, waiting = self.control.descriptors()
        generations = [(generation, "current"), *((one, "leaving") for one in self.leaving.values())]
        facts = {"notify": self.notify.address, "activated": self.activated, "listeners": self.listeners,
                 "pidfile": self.pidfile, "control": listener, "waiting": waiting,
                 "reload_again": self.reload_again,
                 "generations": [(role, one.pid, one.channel.fileno()) for one, role in generations]}
        channels = [one.channel.fileno() for one, _ in generations if one.channel.fileno() >= 0]
        handover.block(ALL)
        try:
            handover.become(generation.image, handover.KEEPER, self.options.words, facts,
                            [*self.listeners, *channels, *waiting, *([] if listener is None else [listener])])
        except handover.Failed as error:
            say("the keeper stays in the old image: %s" % error)
            handover.unblock(ALL)

    def _take_facts(self, facts):
        self.notify = Notifier(facts["notify"])
        self.activated, self.listeners = facts["activated"], facts["listeners"]
        self.pidfile = facts["pidfile"]
        self.reload_again = facts["reload_again"]
        self.control = control.Control(listener=facts["control"], waiting=facts["waiting"])
        for role, pid, channel in facts["generations"]:
            # One that has closed its end is about to end.
            one = Generation(pid, handover.channel_of(channel) if channel >= 0 else socket.socketpair()[0])
            self._listen_to(one)
            if role == "current":
                self.current = one
            else:
                self.leaving[pid] = one

    # Ends.

    def _end(self, code, number):
        """Everything is to end, by a signal. A second one goes to those that are left."""
        if self.code is None:
            self.code = code
            self.notify("STOPPING=1")
            self.control.refuse("failed: the service is about to end")
        if self.next:
            self._kill(self.next, signal.SIGKILL)
        for generation in (self.current, *self.leaving.values()):
            if generation:
                self._kill(generation, number)

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid, code):
        for generation in (self.next, self.current):
            if generation and generation.pid == pid:
                generation.ended = True
                while self._hear(generation):
                    pass  # Its last messages: its end may be seen first.
        if pid in self.leaving:
            del self.leaving[pid]
        elif self.next and pid == self.next.pid:
            generation, self.next = self.next, None
            self._not_ready(generation, code)
        elif self.current and pid == self.current.pid:
            self.current = None
            if self.code is None:
                say("gunicorn ended with %s" % ending(code))
                self._end(code if code > 0 else 1, signal.SIGTERM)

    def _not_ready(self, generation, code):
        if self.code is not None:
            return
        if generation.warming:
            if generation.hung and generation.attempt < WARM_ATTEMPTS:
                self._start(generation.attempt + 1, generation.skipped, generation.image)
            else:
                say("the warm-up %s; serving without one"
                    % ("hangs" if generation.hung else "ended with " + ending(code)))
                self._start(WARM_ATTEMPTS + 1, (), generation.image)
        elif self.current:
            how = "it hangs" if generation.hung else ending(code)
            say("the application did not start (%s); the one before goes on serving" % how)
            self.notify("READY=1", "STATUS=Serving; the last reload failed")
            self.control.answer("failed: " + (generation.why or how))
            self._reload_if_asked()
        else:
            self._end(code if code >= 0 else 1, signal.SIGTERM)  # 0: --check-config, for example.

    def _patience(self):
        if self.next and self.next.deadline:
            return max(0.0, self.next.deadline - time.monotonic())
        return None

    def _check_deadline(self):
        if self.next and self.next.deadline and time.monotonic() >= self.next.deadline:
            self.next.deadline = None
            self.next.hung = True
            self._kill(self.next, signal.SIGKILL)

    def _write_pidfile(self, path):
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write("%d\n" % os.getpid())
            self.pidfile = path
        except OSError as error:
            say("cannot write the file %s: %s" % (path, error.strerror))

    def _clean_up(self):
        self.control.end(self.options.control)
        for name in [self.pidfile] + ([] if self.activated else self._socket_files()):
            if name:
                try:
                    os.unlink(name)
                except OSError:
                    pass

    def _socket_files(self):
        names = []
        for descriptor in self.listeners:
            with socket.socket(fileno=descriptor) as listener:
                name = listener.getsockname()
                if listener.family == socket.AF_UNIX and isinstance(name, str):
                    names.append(name)
        return names


def ending(code):
    """An exit code or a signal, in words."""
    if code >= 0:
        return "code %d" % code
    try:
        return signal.Signals(-code).name + (", perhaps for lack of memory" if code == -signal.SIGKILL else "")
    except ValueError:
        return "signal %d" % -code
