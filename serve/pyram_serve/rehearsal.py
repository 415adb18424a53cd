"""The warm-up: one of gunicorn's workers runs in the parent, on a socket that only the warm-up's client knows.

So what gets compiled is all that a worker will run: gunicorn's accept loop, its parser and its responses,
and the application. The workers are forked from this process and have it.
"""

import contextlib
import copy
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

# Requests of the warm-up between two collections of garbage. The workers share what lies dense in memory;
# without these collections the parent's memory grows by a third, most of it holes.
COLLECT_EVERY = 100

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
    """The application with one path more, a secret, on which the worker's loop ends."""

    def __init__(self, application, path):
        self.application = application
        self.path = path
        self.worker = None
        self.requests = 0

    def wsgi(self):
        """What a worker asks its application object for."""
        return self

    def count(self):
        self.requests += 1
        if self.requests % COLLECT_EVERY == 0:
            gc.collect()

    def __call__(self, environ, start_response):
        self.count()
        if environ["PATH_INFO"] == self.path:
            self.worker.alive = False
            start_response("204 No Content", [])
            return []
        return self.application(environ, start_response)


class EndingAsgi(Ending):
    async def __call__(self, scope, receive, send):
        self.count()
        if scope["type"] == "http" and scope["path"] == self.path:
            self.worker.alive = False
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.application(scope, receive, send)


def configuration(cfg):
    """The user's, without what must not be done in the parent: another user, hooks of a worker's life."""
    result = copy.copy(cfg)
    result.settings = {name: copy.copy(setting) for name, setting in cfg.settings.items()}
    for name, value in {
        "user": os.geteuid(), "group": os.getegid(), "initgroups": False, "reload": False, "max_requests": 0,
        "post_worker_init": lambda worker: None, "worker_int": lambda worker: None,
        "worker_abort": lambda worker: None, "certfile": None, "keyfile": None, "proxy_protocol": "off",
    }.items():
        if name not in result.settings:
            continue
        try:
            result.set(name, value)
        except (TypeError, ValueError):
            result.set(name, False)  # A switch, in older versions.
    return result


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


def listeners(cfg, log, directory, several):
    """As many as make the worker's loop the one that it will be: that for one socket or for several."""
    from gunicorn import sock
    return [sock.UnixSocket(os.path.join(directory, name), cfg, log) for name in ["a", "b"][:1 + several]]


def run_worker(app, cfg, log, asgi, path, sockets):
    """Returns when the client has asked for `path`."""
    ending = (EndingAsgi if asgi else Ending)(app.wsgi(), path)
    worker = cfg.worker_class(0, os.getppid(), sockets, ending, cfg.timeout / 2.0, cfg, log)
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


def rehearse(asker, arbiter, options, requests, seconds, asgi):
    """Warms the application of `arbiter` up."""
    log = arbiter.log
    cfg = configuration(arbiter.cfg)
    path = "/-/over-" + secrets.token_hex(16)
    headers = [*django_guard.request_headers(options.warm_up_host), ("User-Agent", "pyram_serve (warm-up)"),
               ("Accept", "*/*"), ("Accept-Encoding", "gzip"), ("Connection", "close")]
    with tempfile.TemporaryDirectory(prefix="pyram-serve-", dir=cfg.worker_tmp_dir) as directory:
        sockets = listeners(cfg, log, directory, len(arbiter.LISTENERS) > 1)
        asker.order({"address": sockets[0].getsockname(), "requests": requests, "over": ["GET", path],
                     "headers": headers, "seconds": seconds, "timeout": options.warm_up_timeout})
        user = find_user(options.warm_up_user, log)
        pyram_serve._warming = True
        try:
            with less_said(log), django_guard.guarded(asgi, user):
                run_worker(arbiter.app, cfg, log, asgi, path, sockets)
        finally:
            pyram_serve._warming = False
            for listener in sockets:
                if listener.sock is not None:
                    listener.close()
    asker.end()
    clear_up(log)
