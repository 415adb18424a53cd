"""Sends tasks to workers that run out of images. usage: celery_workers.py PYRAM DIRECTORY

DIRECTORY has the images bakehouse.sqfs and shop.sqfs, and the project bakehouse. Everything waits for what a
program says or answers, with one bound for all: PATIENCE seconds.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse

PYRAM, DIRECTORY = sys.argv[1:]
PATIENCE = 120
sys.path.insert(0, os.path.join(DIRECTORY, "bakehouse"))
import celery  # noqa: E402
import celery.exceptions  # noqa: E402
import redis  # noqa: E402
import tasks  # noqa: E402


def check(holds, *what):
    if not holds:
        sys.exit("FAILED: " + " ".join(map(str, what)))


class Program:
    """One that runs out of an image, and what it says."""

    running = []

    def __init__(self, image, *words):
        self.words, self.lines, self.ended, self.changed = words, [], False, threading.Condition()
        self.process = subprocess.Popen(
            [PYRAM, "--image", os.path.join(DIRECTORY, image + ".sqfs"), "-m", "pyram_serve", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.running.append(self)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, pattern):
        """The match of a line that is said, or was."""
        def find():
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)
        with self.changed:
            self.changed.wait_for(lambda: find() or self.ended, PATIENCE)
            found = find()
        check(found, self.words, "doesn't say", repr(pattern), "but:\n" + "".join(self.lines))
        return found

    def has_ended(self):
        """Waits until it has, and all of its children: they hold the pipe as well."""
        with self.changed:
            check(self.changed.wait_for(lambda: self.ended, PATIENCE), self.words, "goes on:\n" + "".join(self.lines))
        code = self.process.wait(PATIENCE)
        self.running.remove(self)
        check(code == 0, self.words, "ended with", code, "\n" + "".join(self.lines))

    def end(self):
        self.process.terminate()
        self.has_ended()

    @classmethod
    def kill_all(cls):
        for program in cls.running:
            program.process.kill()


def answer(task, *arguments):
    return task.delay(*arguments).get(timeout=PATIENCE)


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def memory(pid):
    """PSS, in MB."""
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
        return int(re.search(r"^Pss: *(\d+)", file.read(), re.M).group(1)) // 1024


def work(pool):
    """What every pool does. Returns the processes that run tasks."""
    check(answer(tasks.add, 2, 40) == 42, "the sum")
    where = answer(tasks.whereabouts)
    root = os.path.dirname(os.path.dirname(where["program"]))
    check(where["python"] == "pypy", where)
    check(where["project"] == root + "/app/tasks.py", where)
    check(celery.chord([tasks.add.s(i, i) for i in range(10)])(tasks.add_up.s()).get(timeout=PATIENCE) == 90, "the chord")
    try:
        answer(tasks.fail)
        check(False, "a task that fails has a result")
    except ValueError as error:
        check(str(error) == "no flour", error)
    check(len(tasks.app.control.ping(timeout=PATIENCE, limit=1)) == 1, "the worker doesn't answer")
    if pool == "solo":
        return {where["pid"]}
    met = [tasks.meet.delay(pool, 2) for _ in range(2)]
    return {result.get(timeout=PATIENCE) for result in met}


def lose_processes(processes):
    """A task that is revoked ends with its process, and so does one whose process is killed. Others take their place."""
    store = tasks.store()
    result = tasks.rise.delay("revoked")
    pid = int(tasks.wait_for("revoked:begun"))
    result.revoke(terminate=True)
    try:
        result.get(timeout=PATIENCE)
        check(False, "a revoked task has a result")
    except celery.exceptions.TaskRevokedError:
        pass
    result = tasks.rise.delay("killed")
    killed = int(tasks.wait_for("killed:begun"))
    os.kill(killed, signal.SIGKILL)
    try:
        result.get(timeout=PATIENCE)
        check(False, "the task of a killed process has a result")
    except Exception as error:
        check(type(error).__name__ == "WorkerLostError", repr(error))
    met = [tasks.meet.delay("afterwards", 2) for _ in range(2)]
    after = {result.get(timeout=PATIENCE) for result in met}
    check(len(after) == 2 and not after & {pid, killed}, processes, pid, killed, after)
    store.delete("revoked:go", "killed:go")
    return after


def worker(pool):
    program = Program("bakehouse", "worker", "--pool", pool, "--concurrency", "2", "--loglevel", "INFO")
    main = program.process.pid
    program.wait_for(r"celery@\S+ ready\.")
    processes = work(pool)
    used = {pid: memory(pid) for pid in processes | {main}}
    if pool == "prefork":
        check(len(processes) == 2 and main not in processes, main, processes)
        processes = lose_processes(processes)
    else:
        check(processes == {main}, main, processes)
    # It finishes what it does.
    result = tasks.rise.delay(pool)
    tasks.wait_for(pool + ":begun")
    program.process.terminate()
    program.wait_for("Warm shutdown")
    tasks.store().rpush(pool + ":go", "risen")
    program.has_ended()
    check(result.get(timeout=PATIENCE) == "risen", "the task that ran at the end")
    check(not any(map(is_there, processes | {main})), "processes are left")
    print("   %s: %d process(es), PSS %s MB, ended well" % (pool, len(processes), ", ".join(map(str, used.values()))))


def ask(address, path, **fields):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    if fields:
        connection.request("POST", path, urllib.parse.urlencode(fields),
                           {"Host": "localhost", "Content-Type": "application/x-www-form-urlencoded"})
    else:
        connection.request("GET", path, headers={"Host": "localhost"})
    said = connection.getresponse()
    text = said.read().decode()
    check(said.status == 200, path, said.status, text)
    return json.loads(text)


def site():
    migrate = Program("shop", "manage", "migrate", "--verbosity", "0")
    migrate.has_ended()
    shell = Program("shop", "manage", "shell", "-c",
                    "from django.templatetags.static import static; print('it is', static('bread.css'))")
    shell.wait_for(r"^it is /static/bread\.[0-9a-f]{12}\.css$")
    shell.has_ended()
    server = Program("shop", "--warm-up", "2", "-w", "1", "-b", "127.0.0.1:0")
    baker = Program("shop", "run", "celery", "-A", "shop", "worker", "--concurrency", "1", "--loglevel", "INFO")
    baker.wait_for(r"celery@\S+ ready\.")
    server.wait_for("Booting worker")
    address = server.wait_for(r"Listening at: http://([0-9.:]+)").group(1)
    check(ask(address, "/") == {"orders": 0}, "the warm-up has ordered something")
    order = ask(address, "/", what="Rye bread")
    said = ask(address, "/%d/?task=%s" % (order["order"], order["task"]))
    check(re.fullmatch(r"Rye bread is baked, with /static/bread\.[0-9a-f]{12}\.css", said["said"]), said)
    check(said["baked_by"] != baker.process.pid, said)
    print("   a site orders, and the worker answers:", said["said"])
    store = redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])
    clock = Program("shop", "run", "celery", "-A", "shop", "beat", "--loglevel", "INFO", "--schedule", "schedule")
    stock = [tasks.wait_for("stock") for _ in range(2)]
    check(stock == ["1", "1"], stock)
    clock.end()
    store.delete("stock")
    print("   the scheduler's task ran twice")
    baker.end()
    server.end()
    nothing = Program("shop", "run", "no.such.module")
    check(nothing.process.wait(PATIENCE) == 64, "a module that isn't there")
    nothing.wait_for("^pyram_serve: run takes a module that the image has, not 'no.such.module'$")
    Program.running.remove(nothing)


try:
    print("-- Celery %s, redis %s" % (celery.__version__, redis.__version__))
    for each in ("prefork", "threads", "solo"):
        worker(each)
    print("-- a Django project")
    site()
finally:
    Program.kill_all()
