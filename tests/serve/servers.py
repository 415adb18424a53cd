"""Real servers: pyram_serve with gunicorn's workers. usage: servers.py PYRAM"""

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PYRAM = os.path.abspath(sys.argv.pop(1))
PATIENCE = 90  # Seconds until a server that says nothing counts as broken.

# Says how many requests its process had answered before, and which version of the code it is.
APPLICATION = """\
import os, sys, threading, time
import pyram_serve
VERSION = %(version)r
%(extra)s
state = {"before": 0, "asked": []}
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if pyram_serve.warming():
        state["before"] += 1
        state["asked"].append(environ["REQUEST_METHOD"] + " " + path)
    if path == "/hang" and pyram_serve.warming():
        time.sleep(3600)
    if path == "/crash" and pyram_serve.warming():
        os.kill(os.getpid(), 11)
    status = "500 Wrong" if path == "/wrong" else "200 OK"
    start_response(status, [("Content-Type", "text/plain")])
    text = "%%s|%%d|%%s|%%d|%%s" %% (VERSION, state["before"], ",".join(sorted(set(state["asked"]))), os.getpid(),
                                     threading.current_thread().name)
    return [text.encode()]
"""

ASGI = """\
import os
from asgiref.sync import sync_to_async
import pyram_serve
state = {"before": 0, "started": 0}
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            state["started"] += message["type"] == "lifespan.startup"
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    state["before"] += pyram_serve.warming()
    await sync_to_async(os.getpid)()  # In a thread that asgiref keeps, and no worker inherits.
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi|%d|%d" % (state["before"], state["started"])})
"""

DJANGO = """\
import os
import django
from django.conf import settings
settings.configure(
    DEBUG=False, SECRET_KEY="test", ALLOWED_HOSTS=[".example.org"], ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions", "django.contrib.contenttypes", "django.contrib.auth"], USE_TZ=True,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware",
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware"],
    SECURE_SSL_REDIRECT=True, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    SESSION_ENGINE="django.contrib.sessions.backends.file", SESSION_FILE_PATH=os.environ["SESSIONS"],
    EMAIL_BACKEND="django.core.mail.backends.filebased.EmailBackend", EMAIL_FILE_PATH=os.environ["MAILS"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}})
django.setup()
from django.core.mail import send_mail
from django.db import connection, models, transaction
from django.http import HttpResponse
from django.urls import path
import pyram_serve
before, users = 0, set()
class Visit(models.Model):
    class Meta:
        app_label = "visits"
def home(request):
    global before
    before += pyram_serve.warming()
    if pyram_serve.warming():
        users.add(request.user.get_username())
    with transaction.atomic(durable=True):
        Visit.objects.create()
    transaction.on_commit(lambda: open(os.environ["DATABASE"] + ".committed", "a").close())
    request.session["seen"] = True
    send_mail("subject", "text", "from@example.org", ["to@example.org"])
    return HttpResponse("%%d|%%d|%%s|%%s|%%s" %% (before, Visit.objects.count(), connection.in_atomic_block,
                                                sorted(users), request.user.get_username()))
urlpatterns = [path("", home)]
if __name__ == "__main__":
    from django.contrib.auth.models import User
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    User.objects.create_user("ann")
    with connection.schema_editor() as editor:
        editor.create_model(Visit)
else:
    from django.core.%(kind)s import get_%(kind)s_application
    application = get_%(kind)s_application()
"""


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Notifications:
    """systemd's side of its protocol."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)

    def wait_for(self, word, of=None):
        """Everything that was said until `word` was. None if the process `of` has ended before."""
        said = []
        until = time.monotonic() + PATIENCE
        while word not in said:
            if select.select([self.socket], [], [], 0.2)[0]:
                said += self.socket.recv(4096).decode().split("\n")
            elif (of and of.poll() is not None) or time.monotonic() > until:
                return None
        return said


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.address = self.file("web.sock")
        self.notifications = Notifications(self.file("notify"))
        self.addCleanup(self.notifications.socket.close)
        self.server = None

    def file(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.file(name), "w") as file:
            file.write(text)

    def application(self, version="one", extra=""):
        self.write("site_app.py", APPLICATION % {"version": version, "extra": extra})

    def start(self, *words, urls=None, application="site_app:application", bind=True, launcher=(), **environment):
        if urls is not None:
            self.write("urls", urls)
            words = ("--warm-up-urls", self.file("urls"), *words)
        if not any(word.startswith("--warm-up=") for word in words):
            words = ("--warm-up=2", *words)
        if bind:
            words = ("-b", "unix:" + self.address, *words)
        self.log = open(self.file("log"), "w+")
        self.addCleanup(self.log.close)
        self.server = subprocess.Popen(
            [PYRAM, *launcher, "-m", "pyram_serve", *words, application], cwd=self.directory, stdout=self.log, stderr=self.log,
            env=dict(os.environ, NOTIFY_SOCKET=self.notifications.path, **environment))
        self.addCleanup(self.kill)

    def kill(self):
        if self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.server.kill()  # The others see that their parent is gone.
                self.server.wait()

    def said(self):
        with open(self.file("log")) as file:
            return file.read()

    def ready(self):
        said = self.notifications.wait_for("READY=1", self.server)
        self.assertIsNotNone(said, "not ready: " + self.said())
        return said

    def ask(self, path="/", **headers):
        connection = (Unix(self.address) if isinstance(self.address, str)
                      else http.client.HTTPConnection(*self.address[:2], timeout=60))
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def fields(self, path="/", **headers):
        status, text = self.ask(path, **headers)
        self.assertEqual(status, 200, self.said())
        return text.split("|")

    def wait_for_answer(self, wanted):
        """After a reload a worker of the generation before may still take a request, until it has ended."""
        until = time.monotonic() + PATIENCE
        while self.fields()[0] != wanted:
            self.assertLess(time.monotonic(), until, self.said())

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        self.assertEqual(self.server.wait(PATIENCE), 0, self.said())


class WarmUp(Case):
    def test_the_workers_are_warm_and_nothing_is_logged_of_it(self):
        self.application()
        self.start("-w", "2", "--access-logfile", "-", urls="/a\nHEAD /b\nPOST /never\n/wrong\n")
        self.ready()
        self.assertEqual(self.ask("/-/ready"), (200, "ready\n"))
        workers = set()
        for _ in range(20):
            version, before, asked, pid, _ = self.fields()
            self.assertEqual((version, asked), ("one", "GET /a,GET /wrong,HEAD /b"))
            self.assertGreater(int(before), 3)
            workers.add(pid)
        log = self.said()
        self.assertIn("1 lines of %s are left out: not GET or HEAD" % self.file("urls"), log)
        self.assertIn("warm-up: GET /wrong answered 500; it is left out", log)
        self.assertRegex(log, r"warm after [0-9.]+ s: \d+ requests")
        self.assertNotIn('"GET /a ', log)
        self.assertIn('"GET / HTTP/1.1" 200', log)
        self.stop()
        self.assertFalse(os.path.exists(self.address))

    def test_a_hanging_request_is_left_out(self):
        self.application()
        self.start("--warm-up-timeout=1", urls="/a\n/hang\n/b\n")
        self.ready()
        self.assertEqual(self.fields()[2], "GET /a,GET /b")
        self.assertRegex(self.said(), "GET /hang was not answered within 1 s; it is left out")

    def test_threads_that_hang(self):
        self.application()
        self.start("--threads=3", "--warm-up-timeout=1", urls="/hang\n/a\n")
        self.ready()
        asked, _, thread = self.fields()[2:5]
        self.assertEqual(asked, "GET /a")
        self.assertIn("ThreadPoolExecutor", thread)

    def test_a_crash_means_no_warm_up(self):
        self.application()
        self.start(urls="/crash\n")
        self.ready()
        self.assertEqual(self.fields()[1], "0")
        self.assertIn("the warm-up ended with SIGSEGV; serving without one", self.said())

    def test_none_is_wanted_or_there_is_nothing_to_ask_for(self):
        self.application()
        for words in (["--warm-up=0"], ["--warm-up-urls", self.file("missing")]):
            with self.subTest(words):
                self.start(*words)
                self.ready()
                self.assertEqual(self.fields()[1], "0")
                self.stop()
        self.assertIn("cannot read %s: No such file or directory; serving cold" % self.file("missing"), self.said())

    def test_asgi(self):
        self.write("site_app.py", ASGI)
        self.start("-w", "1")
        self.ready()
        kind, before, started = self.fields()
        self.assertEqual((kind, started), ("asgi", "2"))  # Once in the warm-up, once in the worker.
        self.assertGreater(int(before), 3)
        self.assertEqual(self.ask("/-/ready"), (200, "ready\n"))
        self.stop()


class WorkerMemory(Case):
    # Has what it allocates kept, so that it is written memory of the worker's own.
    GROWING = """
kept = []
def growing(environ, start_response):
    if not pyram_serve.warming():
        kept.append(bytearray(b"x" * %d))
    return plain(environ, start_response)
plain, application = application, growing
"""

    def grow(self, size, requests, *words):
        self.write("site_app.py", APPLICATION % {"version": "one", "extra": ""} + self.GROWING % size)
        self.start("-w", "2", *words)
        self.ready()
        pids = [self.fields()[3] for _ in range(requests)]
        return pids

    def test_a_worker_that_has_grown_makes_place(self):
        pids = self.grow(80 << 10, 2000, "--worker-memory=32")  # 160 MB in all: more than twice the limit of two workers.
        self.assertGreater(len(set(pids)), 3)
        # None ends early. (The two that still serve may have answered few.)
        ended = {pid for pid in pids if not os.path.exists("/proc/" + pid)}
        self.assertGreater(len(ended), 1)
        self.assertGreaterEqual(min(map(pids.count, ended)), 100)
        self.assertEqual(self.said().count("Booting worker"), 2)  # The first two; others come silently.
        self.assertNotIn("Autorestarting", self.said())
        self.stop()

    def test_an_application_that_needs_more_keeps_its_workers(self):
        pids = self.grow(1 << 20, 300, "--worker-memory=32")
        self.assertEqual(len(set(pids)), 2)
        self.assertRegex(self.said(), r"A worker has \d+ MB of its own after \d+ requests; it stays")
        self.stop()

    def test_zero_is_no_limit_and_neither_is_much_memory(self):
        self.assertEqual(len(set(self.grow(80 << 10, 1000, "--worker-memory=0"))), 2)
        self.stop()
        self.assertEqual(len(set(self.grow(80 << 10, 1000))), 2)
        self.stop()


class Django(Case):
    def start_django(self, kind, *words):
        self.write("site_app.py", DJANGO % {"kind": kind})
        for name in ("sessions", "mails"):
            os.mkdir(self.file(name))
        environment = {"SESSIONS": self.file("sessions"), "MAILS": self.file("mails"), "DATABASE": self.file("db")}
        subprocess.run([PYRAM, "site_app.py"], cwd=self.directory, env=dict(os.environ, **environment), check=True)
        self.start(*words, **environment)
        self.ready()

    def check_traces(self, kind, *words, user=""):
        self.start_django(kind, "-w", "1", *words)
        self.assertEqual((os.listdir(self.file("sessions")), os.listdir(self.file("mails"))), ([], []))
        self.assertFalse(os.path.exists(self.file("db.committed")))
        before, count, atomic, users, now = self.fields(Host="www.example.org", **{"X-Forwarded-Proto": "https"})
        self.assertGreater(int(before), 3, self.said())
        self.assertEqual((count, atomic, users, now), ("1", "False", str([user]), ""), self.said())
        # What is real is done.
        self.assertEqual((len(os.listdir(self.file("sessions"))), len(os.listdir(self.file("mails")))), (1, 1))
        self.assertTrue(os.path.exists(self.file("db.committed")))
        self.stop()

    def test_wsgi_leaves_no_trace(self):
        self.check_traces("wsgi")

    def test_pages_without_the_database_are_warm_while_it_cannot_be_reached(self):
        self.write("site_app.py", DJANGO % {"kind": "wsgi"} + """
def plain(request):
    global before
    before += pyram_serve.warming()
    return HttpResponse(str(before))
urlpatterns.append(path("plain", plain))
""")
        self.start("-w", "1", urls="/\n/plain\n", SESSIONS=self.directory, MAILS=self.directory,
                   DATABASE=self.file("nowhere/db"))
        self.ready()
        self.assertGreater(int(self.fields("/plain", Host="www.example.org", **{"X-Forwarded-Proto": "https"})[0]), 3)
        self.assertIn("warm-up: GET / answered 500; it is left out", self.said())
        self.stop()

    def test_asgi_leaves_no_trace(self):
        self.check_traces("asgi")

    def test_a_user_is_logged_in_in_the_warm_up_only(self):
        self.check_traces("wsgi", "--warm-up-user=ann", user="ann")

    def test_a_user_is_logged_in_under_asgi(self):
        self.check_traces("asgi", "--warm-up-user=ann", user="ann")

    def test_without_that_user_nobody_is_logged_in(self):
        self.check_traces("wsgi", "--warm-up-user=bob")
        self.assertIn("warm-up: nobody is logged in: there is no user 'bob'", self.said())


class Load:
    """Four clients that ask on and on."""

    def __init__(self, case):
        self.case, self.failed, self.answers, self.stop = case, [], [], threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def _ask(self):
        while not self.stop.is_set():
            try:
                status, text = self.case.ask()
                self.answers.append(text.split("|")[0])
                if status != 200:
                    self.failed.append(status)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def wait_for(self, version):
        until = time.monotonic() + PATIENCE
        while version not in self.answers[-20:]:
            if time.monotonic() > until:
                raise AssertionError("no answer of %s: %s" % (version, self.case.said()))
            time.sleep(0.05)

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class Reload(Case):
    def test_no_request_fails_and_the_new_code_is_warm(self):
        for number, words in ((signal.SIGHUP, ["-w", "2"]), (signal.SIGUSR2, ["-w", "1", "--threads=4"])):
            with self.subTest(words):
                self.application("one")
                self.start(*words)
                self.ready()
                with Load(self) as load:
                    load.wait_for("one")
                    self.application("two")
                    self.server.send_signal(number)
                    self.assertIn("RELOADING=1", self.ready())
                    load.wait_for("two")
                    # Nothing more of the generation before.
                    while "one" in load.answers[-50:]:
                        time.sleep(0.05)
                    self.assertGreater(int(self.fields()[1]), 3)
                self.assertEqual(load.failed, [], self.said())
                self.stop()

    def test_broken_code_leaves_the_old_serving(self):
        self.application("one")
        self.start("-w", "1")
        self.ready()
        self.write("site_app.py", "import nowhere\n")
        self.server.send_signal(signal.SIGHUP)
        self.assertIn("RELOADING=1", self.ready())
        self.assertEqual(self.fields()[0], "one")
        self.assertIn("the application did not start (code 1); the one before goes on serving", self.said())
        self.application("two")
        self.server.send_signal(signal.SIGHUP)
        self.ready()
        self.wait_for_answer("two")
        self.stop()

    def test_another_reload_during_a_reload(self):
        self.application("one")
        self.start("-w", "1")
        self.ready()
        self.application("two")
        self.server.send_signal(signal.SIGHUP)
        self.notifications.wait_for("STATUS=Warming up")  # It has loaded the second.
        self.application("three")
        self.server.send_signal(signal.SIGHUP)
        self.ready()
        self.ready()
        self.wait_for_answer("three")
        self.stop()


class Compiled(Case):
    """What the warm-up compiled is what workers run. A branch that is new to PyPy costs 200 slow requests in each."""

    APPLICATION = """
import logging
import os
def application(environ, start_response):
    logging.getLogger("site").debug("asked")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""
    HEADERS = {"User-Agent": "test", "Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "close"}

    def bridges_of_a_worker(self, *words):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = free.getsockname()
        self.write("site_app.py", self.APPLICATION)
        # PyPy writes a log for each process, with the number of the process in its name.
        self.start("-w", "1", "--warm-up=30", "-b", "%s:%d" % self.address, *words, bind=False,
                   PYPYLOG="jit-log-opt-bridge:" + self.file("compiled.%d.log"))
        self.ready()
        workers = set()
        for _ in range(300):
            status, worker = self.ask("/", **self.HEADERS)
            self.assertEqual(status, 200)
            workers.add(worker)
        self.assertEqual(len(workers), 1)
        self.stop()
        bridges = {}
        for name in os.listdir(self.directory):
            if name.startswith("compiled."):
                with open(self.file(name)) as file:
                    bridges[name.split(".")[1]] = file.read().count("# bridge out of Guard")
        self.assertGreater(max(bridges.values()), 50)  # The warm-up's: PyPy writes them as we look for them.
        return bridges[worker]

    def test_workers_compile_little_again(self):
        for words in (["--worker-memory=200"], ["--worker-memory=200", "--threads=4"]):
            with self.subTest(words):
                self.assertLessEqual(self.bridges_of_a_worker(*words), 8)

    def test_the_warm_ups_socket(self):
        """Of the family of the real one, but one that only this user can connect to where its client is logged in."""
        import logging

        from gunicorn import config, sock
        from pyram_serve import rehearsal
        cfg, log = config.Config(), logging.getLogger("sockets")
        with contextlib.closing(sock.TCPSocket(("127.0.0.1", 0), cfg, log)) as real:
            with contextlib.closing(rehearsal.listener_like(real, self.file("a"), cfg, log, False)) as like:
                self.assertEqual((like.sock.family, like.getsockname()[0]), (socket.AF_INET, "127.0.0.1"))
            with contextlib.closing(rehearsal.listener_like(real, self.file("b"), cfg, log, True)) as private:
                self.assertEqual(private.sock.family, socket.AF_UNIX)


class Addresses(Case):
    """PyPy takes an address for one of the family that its socket was made with."""

    APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%(version)s|%%s|%%s|%%s" %% (environ["REMOTE_ADDR"], environ["SERVER_NAME"],
                                          environ["wsgi.url_scheme"])).encode()]
"""

    def check(self, host, family):
        with socket.create_server((host, 0), family=family) as free:
            self.address = free.getsockname()[:2]
        bound = ("[%s]:%d" if ":" in host else "%s:%d") % self.address
        self.write("site_app.py", self.APPLICATION % {"version": "one"})
        # Nobody's word on how the client came is taken.
        self.start("-w", "1", "--warm-up=0", "-b", bound, "--forwarded-allow-ips=192.0.2.1", bind=False)
        self.ready()
        self.assertEqual(self.fields("/", **{"X-Forwarded-Proto": "https"}), ["one", host, host, "http"])
        self.write("site_app.py", self.APPLICATION % {"version": "two"})
        self.server.send_signal(signal.SIGHUP)
        self.ready()
        self.wait_for_answer("two")
        self.assertEqual(self.fields("/", **{"X-Forwarded-Proto": "https"}), ["two", host, host, "http"])
        self.assertNotIn("unix:", self.said())
        self.stop()

    def test_a_reload_keeps_the_clients_addresses(self):
        self.check("127.0.0.1", socket.AF_INET)

    def test_a_reload_keeps_the_clients_addresses_of_version_6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("there is no IPv6 here")
        self.check("::1", socket.AF_INET6)


class OtherImage(Case):
    """Reloads with --image, which is a link here, as that of pyram-app."""

    APPLICATION_EXTRA = "VERSION += os.path.basename(sys.prefix).partition('-')[0]"

    def setUp(self):
        super().setUp()
        for name in ("one.sqfs", "two.sqfs"):
            os.link(os.environ["PYRAM_IMAGE"], self.file(name))
        self.write("broken.sqfs", "no image")
        self.link("one.sqfs")

    def link(self, name):
        os.symlink(name, self.file("next"))
        os.rename(self.file("next"), self.file("current.sqfs"))

    def serve(self, *words):
        self.application("", self.APPLICATION_EXTRA)
        image = self.file("current.sqfs")
        path = os.path.dirname(PYRAM) + os.pathsep + os.environ["PATH"]
        self.start("--image", image, "--control", self.file("control"), *words, launcher=("--image", image), PATH=path)
        self.ready()
        self.assertEqual(self.fields()[0], "one")

    def reload(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(self.file("control"))
            with client.makefile() as answer:
                return answer.readline()

    def runs_out_of(self, pid):
        return os.path.basename(os.readlink("/proc/%d/exe" % pid).partition("/libexec/")[0]).partition("-")[0]

    def mount_of(self, stem):
        with open("/proc/self/mountinfo") as mounts:
            return [line.split()[4] for line in mounts if "/%s-" % stem in line]

    def test_the_keeper_and_no_request_stay_behind(self):
        self.serve("-w", "2", "--pid", self.file("pid"))
        self.assertEqual(self.runs_out_of(self.server.pid), "one")
        with Load(self) as load:
            self.link("two.sqfs")
            self.assertEqual(self.reload(), "ready\n", self.said())
            load.wait_for("two")
            while "one" in load.answers[-50:]:
                time.sleep(0.05)
            self.assertGreater(int(self.fields()[1]), 3)
            until = time.monotonic() + PATIENCE
            while self.runs_out_of(self.server.pid) != "two":
                self.assertLess(time.monotonic(), until, "the keeper stays in the old image: " + self.said())
            # And from there on to another one, by a signal.
            self.ready()
            self.link("one.sqfs")
            self.server.send_signal(signal.SIGHUP)
            self.ready()
            load.wait_for("one")
            while "two" in load.answers[-50:]:
                time.sleep(0.05)
        self.assertEqual(load.failed, [])
        # No process holds the image that was left.
        until = time.monotonic() + PATIENCE
        while self.runs_out_of(self.server.pid) != "one" or self.mount_of("two"):
            for mount in self.mount_of("two"):
                subprocess.run([PYRAM + "-mount", "--unmount", mount], stderr=subprocess.DEVNULL)
            self.assertLess(time.monotonic(), until, self.said())
        with open(self.file("pid")) as file:
            self.assertEqual(int(file.read()), self.server.pid)
        self.stop()
        for name in ("web.sock", "control", "pid"):
            self.assertFalse(os.path.exists(self.file(name)), name)

    def test_what_cannot_serve_leaves_the_old_serving(self):
        self.serve("-w", "1")
        self.link("broken.sqfs")
        self.assertEqual(self.reload(), "failed: code 125\n")
        self.assertIn("it is not a SquashFS", self.said())
        self.link("two.sqfs")
        self.write("site_app.py", "import nowhere\n")
        self.assertEqual(self.reload(), "failed: ModuleNotFoundError: No module named 'nowhere'\n")
        self.assertEqual(self.fields()[0], "one")
        self.assertEqual(self.runs_out_of(self.server.pid), "one")
        self.application("", self.APPLICATION_EXTRA + "\nsys.exit('pyram_serve: not today')")
        self.assertEqual(self.reload(), "failed: not today\n")
        self.application("", self.APPLICATION_EXTRA)
        self.assertEqual(self.reload(), "ready\n")
        self.wait_for_answer("two")
        self.stop()

    def test_a_hanging_request_is_left_out_in_the_new_image_too(self):
        self.write("urls", "/a\n")
        self.serve("--warm-up-timeout=1", "--warm-up-urls", self.file("urls"))
        self.link("two.sqfs")
        self.write("urls", "/a\n/hang\n")
        self.assertEqual(self.reload(), "ready\n", self.said())
        self.assertRegex(self.said(), "GET /hang was not answered within 1 s; it is left out")
        self.wait_for_answer("two")
        self.assertEqual(self.fields()[2], "GET /a")
        self.stop()

    def test_a_keeper_of_another_version_is_refused(self):
        self.serve("-w", "1")
        package = os.path.dirname(os.path.abspath(self.pyram_serve()))
        shutil.copytree(package, self.file("pyram_serve"))
        with open(self.file("pyram_serve/handover.py"), "a") as file:
            file.write("PROTOCOL += 1\n")
        self.link("two.sqfs")
        self.assertEqual(self.reload(), "failed: the image's pyram_serve cannot take over from the one that runs; "
                                        "restart the service\n", self.said())
        self.assertEqual(self.fields()[0], "one")
        self.stop()

    @staticmethod
    def pyram_serve():
        return next(os.path.join(path, "pyram_serve/__init__.py") for path in sys.path
                    if os.path.exists(os.path.join(path, "pyram_serve/__init__.py")))


class Processes(Case):
    def test_an_application_that_does_not_start_ends_the_program(self):
        self.write("site_app.py", "import nowhere\n")
        self.start()
        self.assertEqual(self.server.wait(PATIENCE), 1)
        self.assertIn("No module named 'nowhere'", self.said())

    def test_gunicorns_options_go_through_and_its_pidfile_is_the_keepers(self):
        self.application()
        self.write("gunicorn.conf.py", "workers = 1\nraw_env = ['FROM_FILE=1']\n")
        self.start("--pid", self.file("pid"), "-c", self.file("gunicorn.conf.py"), "--log-level", "debug")
        self.ready()
        with open(self.file("pid")) as file:
            self.assertEqual(int(file.read()), self.server.pid)
        self.assertIn("workers: 1", self.said())
        self.server.send_signal(signal.SIGUSR1)  # Opens log files again; serves on.
        self.assertEqual(self.fields()[0], "one")
        self.stop()
        self.assertFalse(os.path.exists(self.file("pid")))

    def test_a_check_of_the_configuration_is_no_failure(self):
        self.application()
        self.start("--check-config")
        self.assertEqual(self.server.wait(PATIENCE), 0, self.said())

    def test_everything_ends_with_the_keeper(self):
        self.application()
        self.start("-w", "1")
        self.ready()
        worker = int(self.fields()[3])
        descriptor = os.pidfd_open(worker) if hasattr(os, "pidfd_open") else None
        self.server.kill()
        if descriptor is not None:
            self.assertTrue(select.select([descriptor], [], [], PATIENCE)[0])
        else:
            while os.path.exists("/proc/%d" % worker):
                time.sleep(0.1)

    def test_sockets_of_systemd(self):
        self.application()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        listener.listen()
        self.addCleanup(listener.close)
        self.write("activate.sh", 'exec 3<&"$1"; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"\n')
        self.log = open(self.file("log"), "w+")
        self.addCleanup(self.log.close)
        self.server = subprocess.Popen(
            ["bash", self.file("activate.sh"), str(listener.fileno()), PYRAM, "-m", "pyram_serve", "--warm-up=2",
             "site_app:application"], cwd=self.directory, stdout=self.log, stderr=self.log,
            pass_fds=[listener.fileno()], env=dict(os.environ, NOTIFY_SOCKET=self.notifications.path))
        self.addCleanup(self.kill)
        self.ready()
        self.assertEqual(self.fields()[0], "one")
        self.application("two")
        self.server.send_signal(signal.SIGHUP)
        self.ready()
        self.wait_for_answer("two")
        self.stop()
        self.assertTrue(os.path.exists(self.address))


unittest.main(verbosity=2)
