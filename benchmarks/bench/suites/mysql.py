"""mysql: PyMySQL's queries a second against a MariaDB server of our own, on a socket."""

import contextlib
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ..machine import SCRIPTS, Missing, need
from ..timing import Command
from .site import packages

TITLE = "PyMySQL against MariaDB"
CONTENDERS = ["original", "pyram", "cpython"]
QUERIES = SCRIPTS / "mysql_queries.py"
_PATIENCE = 120  # seconds


@contextlib.contextmanager
def server():
    """A server with an empty database in a directory that goes with it; yields the directory, in which
    its socket is, and the commands that start it."""
    program = need("mariadbd", "mariadb-server")
    install = need("mariadb-install-db", "mariadb-server")
    directory = Path(tempfile.mkdtemp(prefix="pyram-mysql-"))  # a socket's path has to be short
    try:
        installs = [install, "--no-defaults", "--user=root", f"--datadir={directory}/data",
                    "--auth-root-authentication-method=normal", "--skip-test-db"]
        serves = [program, "--no-defaults", "--user=root", f"--datadir={directory}/data",
                  f"--socket={directory}/socket", "--skip-networking", f"--pid-file={directory}/pid",
                  "--innodb-buffer-pool-size=32M"]
        done = subprocess.run(installs, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"mariadb-install-db failed: {done.stderr.strip()[-200:]}")
        daemon = subprocess.Popen(serves, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 60
            while not (directory / "socket").exists():
                if daemon.poll() is not None or time.monotonic() > until:
                    raise Missing(f"mariadbd did not start (exit code {daemon.poll()})")
                time.sleep(0.05)
            yield directory, installs, serves
        finally:
            daemon.terminate()
            daemon.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Client:
    """A process that has warmed up, and counts its queries of one stretch whenever it is asked.
    Ends, and waits for the process's end, as a context manager."""

    def __init__(self, command):
        self._process = command.started(stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(BrokenPipeError):  # it ended by itself
            self._process.__exit__(*error)

    def line(self):
        """The next one that it says, without its end."""
        if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
            self._process.kill()
            raise Missing(f"{QUERIES.name} said nothing for {_PATIENCE} s")
        if text := self._process.stdout.readline():
            return text.strip()
        why = self._process.stderr.read().strip().splitlines()
        raise Missing(f"{QUERIES.name} ended: {why[-1] if why else 'no message'}")

    def rate(self):
        """Queries a second of the next stretch."""
        with contextlib.suppress(BrokenPipeError):  # line() says why
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return float(self.line())


def run(bench):
    warm_up, seconds = (1, 1) if bench.quick else (10, 1)
    bench.note(f"one connection each, all warmed up for {warm_up} s before; a try is {seconds} s")
    with server() as (directory, installs, serves), contextlib.ExitStack() as stack:
        lines = [shlex.join(command).replace(str(directory), "$directory")
                 for command in (installs, serves)]
        bench.by_hand("", ["export directory=$(mktemp -d)", f"{lines[0]} >/dev/null",
                           f"{lines[1]} 2>/dev/null &",
                           'until [ -S "$directory/socket" ]; do sleep 0.1; done'],
                      ["kill $!; wait $!", 'rm -r "$directory"'])
        clients = {}

        def one(contender):
            if contender.name not in clients:
                clients[contender.name] = stack.enter_context(
                    Client(_queries(bench, contender, directory, warm_up, seconds)))
                clients[contender.name].line()  # each sets the table up: not while another queries
            bench.add("queries", contender, clients[contender.name].rate(), "queries/s")

        bench.tried("queries", bench.contenders, 1 if bench.quick else 25, one, ["queries"])


def _queries(bench, contender, directory, warm_up, seconds):
    contender.mount()
    environment = dict(contender.environment)
    if contender.interpreter == "cpython":
        environment["PYTHONPATH"] = str(packages("cpython"))
    script = contender.warm([str(QUERIES), f"{directory}/socket", str(warm_up), str(seconds)]).script
    bench.command("queries", contender, Command(f"echo | {script}", environment), directory=directory)
    return Command(script, environment)
