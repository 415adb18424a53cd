"""A generation: gunicorn with the application, from its settings to its workers.

Runs in a child of the keeper. It tells the keeper by messages on a socket what it has: the listening sockets,
the warm-up's results, and that all workers are ready.
"""

import inspect
import json
import os
import socket
import sys

from . import image, jit, listeners, machine, rehearsal, urls, worker_memory


class Channel:
    """The way to the keeper."""

    def __init__(self, to):
        self.to = to

    def __call__(self, said, descriptors=()):
        data = json.dumps(said).encode()
        if descriptors:
            socket.send_fds(self.to, [data], list(descriptors))
        else:
            self.to.send(data)


def is_asgi(application):
    """A coroutine function with three parameters, or an object that is called as one."""
    call = application if inspect.isroutine(application) else getattr(application, "__call__", None)
    return inspect.iscoroutinefunction(call)


def with_watch(application, watch, asgi):
    """Has `watch` see each request."""
    if asgi:
        async def watched(scope, receive, send):
            watch.request()
            await application(scope, receive, send)
    else:
        def watched(environ, start_response):
            watch.request()
            return application(environ, start_response)
    return watched


def ready_answer(asgi):
    """What answers the ready path. Nobody is answered before the warm-up is over, so this is readiness."""
    if asgi:
        async def answer(send):
            await send({"type": "http.response.start", "status": 200,
                        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"6")]})
            await send({"type": "http.response.body", "body": b"ready\n"})
    else:
        def answer(start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
            return [b"ready\n"]
    return answer


def with_special_paths(application, special, asgi):
    """`special` has what answers paths that are not the application's. In the warm-up there is one path more. Workers
    have the same function, and so the code that was compiled for it."""
    if asgi:
        async def application_or_special(scope, receive, send):
            answer = special.get(scope["path"]) if scope["type"] == "http" else None
            if answer is not None:
                await answer(send)
            else:
                await application(scope, receive, send)
    else:
        def application_or_special(environ, start_response):
            answer = special.get(environ.get("PATH_INFO"))
            if answer is not None:
                return answer(start_response)
            return application(environ, start_response)
    return application_or_special


def with_static(application, directories, asgi):
    if not directories:
        return application
    if asgi:
        sys.exit("pyram_serve: --static is for WSGI applications; have the web server in front serve the files")
    try:
        import whitenoise
    except ImportError:
        sys.exit("pyram_serve: --static needs whitenoise, which is not installed; add it to the requirements")
    for url, directory in directories:
        application = whitenoise.WhiteNoise(application, root=directory, prefix=url)
    return application


def asgi_worker():
    """The name of a worker class that serves ASGI: gunicorn's own, or uvicorn's."""
    import importlib.util
    for module, name in (("gunicorn.workers.gasgi", "asgi"),
                         ("uvicorn_worker", "uvicorn_worker.UvicornWorker"),
                         ("uvicorn.workers", "uvicorn.workers.UvicornWorker")):
        try:
            if importlib.util.find_spec(module):
                return name
        except ModuleNotFoundError:
            pass
    sys.exit("pyram_serve: the application is an ASGI one, which this gunicorn does not serve; "
             "install gunicorn 25 or later, or uvicorn")


def make_classes(named=None):
    """gunicorn's application and arbiter, as they are here; `named` is the application where the command line
    has none. A function, as gunicorn is to be imported late."""
    from gunicorn.app.wsgiapp import WSGIApplication
    from gunicorn.arbiter import Arbiter

    class Application(WSGIApplication):
        def load_default_config(self):
            """Ours are gunicorn's defaults: configuration files, variables and options go over them."""
            super().load_default_config()
            workers, threads = machine.workers_and_threads()
            ours = {"threads": threads, "preload_app": True, "control_socket_disable": True,
                    "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None}
            if not os.environ.get("WEB_CONCURRENCY"):
                ours["workers"] = workers
            if named:
                ours["wsgi_app"] = named
            for name, value in ours.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def reload(self):
            pass  # The keeper makes a new generation.

    class ServingArbiter(Arbiter):
        def __init__(self, app, keeper, before_fork):
            self.keeper = keeper
            self.before_fork = before_fork
            super().__init__(app)

        def spawn_worker(self):
            if self.worker_age == self.num_workers:  # From now on they are others' successors.
                self.log.error_log.addFilter(lambda record: not str(record.msg).startswith("Booting worker"))
            return super().spawn_worker()

        def start(self):
            self.before_fork(self)
            self.systemd = True  # The sockets are the keeper's to remove.
            super().start()

        def murder_workers(self):
            if os.getppid() != self.keeper:
                self.log.info("The keeper is gone")
                raise StopIteration
            super().murder_workers()

        def handle_hup(self):
            self.log.warning("SIGHUP and SIGUSR2 are for the keeper, process %d", self.keeper)

        handle_usr2 = handle_hup

    return Application, ServingArbiter


def check(cfg):
    if cfg.daemon:
        sys.exit("pyram_serve: it does not go to the background; systemd or a container does that (--daemon)")
    if cfg.reuse_port:
        sys.exit("pyram_serve: --reuse-port gives each worker a socket of its own, which no reload can keep")


def tell_when_booted(cfg, channel, watch):
    """Each worker tells the keeper when it is about to serve, and its memory is watched."""
    users = cfg.post_worker_init

    def post_worker_init(worker):
        users(worker)
        watch.begin(worker)
        channel({"booted": os.getpid()})

    cfg.set("post_worker_init", post_worker_init)


class Start:
    """Everything from the command line to the first fork."""

    def __init__(self, channel, options, seconds, skipped, asker):
        self.channel = channel
        self.options = options
        self.seconds = seconds
        self.skipped = skipped
        self.asker = asker
        self.asgi = False
        self.special = {}  # By path.
        self.watch = worker_memory.Watch(options.worker_memory)

    def load(self, app):
        os.environ.update(app.cfg.env)
        app.chdir()
        for path in (app.cfg.pythonpath or "").split(","):
            if path and os.path.abspath(path) not in sys.path:
                sys.path.insert(0, os.path.abspath(path))
        if self.options.app:
            image.prepare(self.options.app)  # Before the working directory, which gunicorn takes.
            image.use_static_files(self.options.app, self.options)
        application = app.wsgi()
        self.asgi = is_asgi(application)
        if self.asgi and app.cfg.worker_class_str in ("sync", "gthread"):
            app.cfg.set("worker_class", asgi_worker())
            app.cfg.set("threads", 1)
        application = with_static(application, self.options.static, self.asgi)
        application = with_watch(application, self.watch, self.asgi)
        if self.options.ready_path:
            self.special[self.options.ready_path] = ready_answer(self.asgi)
        app.callable = with_special_paths(application, self.special, self.asgi)

    def requests(self):
        if not self.options.warm_up_urls:
            found, left_out = [("GET", "/")], {}
        else:
            found, left_out = urls.read(self.options.warm_up_urls)
        for reason, count in sorted(left_out.items()):
            self.channel({"say": "warm-up: %d lines of %s are left out: %s"
                                 % (count, self.options.warm_up_urls, reason)})
        return [request for request in found if "%s %s" % request not in self.skipped]

    def warm_up(self, arbiter):
        try:
            requests = self.requests()
        except OSError as error:
            self.channel({"say": "warm-up: cannot read %s: %s; serving cold"
                                 % (self.options.warm_up_urls, error.strerror)})
            requests = []
        if not requests:
            self.asker.end()
            return
        self.channel({"warming": self.seconds + 2 * self.options.warm_up_timeout})
        rehearsal.rehearse(self.asker, arbiter, self.options, requests, self.seconds, self.asgi, self.special)

    def before_fork(self, arbiter, descriptors):
        from gunicorn import sock
        cfg, log = arbiter.cfg, arbiter.log
        arbiter.LISTENERS = (listeners.taken_over(descriptors, cfg, log) if descriptors
                             else sock.create_sockets(cfg, log))
        self.channel({"listeners": True}, [listener.fileno() for listener in arbiter.LISTENERS])
        if self.asker:
            self.warm_up(arbiter)
        self.watch.prepare(log, arbiter.num_workers)
        tell_when_booted(cfg, self.channel, self.watch)
        self.channel({"forking": arbiter.num_workers})


def run(channel, options, arguments, descriptors, seconds, skipped):
    """Serves until it is told to end. The exit code."""
    channel = Channel(channel)
    jit.serve()
    keeper = os.getppid()
    asker = rehearsal.Client(channel) if seconds > 0 else None
    try:
        application_class, arbiter_class = make_classes(options.app and options.app["application"])
    except ImportError as error:
        print("pyram_serve: gunicorn is needed, and cannot be imported: %s" % error, file=sys.stderr)
        return 1
    sys.argv = ["pyram_serve", *arguments]
    app = application_class("%(prog)s [OPTIONS] [MODULE:CALLABLE]", prog="pyram_serve")
    check(app.cfg)
    if app.cfg.print_config or app.cfg.check_config:
        app.run()
    if app.cfg.pidfile:
        channel({"pidfile": os.path.abspath(app.cfg.pidfile)})
        app.cfg.set("pidfile", None)
    start = Start(channel, options, seconds, skipped, asker)
    start.load(app)
    arbiter_class(app, keeper, lambda arbiter: start.before_fork(arbiter, descriptors)).run()
    return 0
