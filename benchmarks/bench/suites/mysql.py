"""mysql: PyMySQL's queries a second against a MariaDB server of our own, on a socket."""

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ..machine import SCRIPTS, Missing, need
from ..timing import Command, measure
from .site import packages

TITLE = "PyMySQL against MariaDB"
CONTENDERS = ["original", "pyram", "cpython"]


@contextlib.contextmanager
def server():
    """A server with an empty database in a folder that goes with it; yields the folder, in which
    its socket is, and the commands that start it."""
    program = need("mariadbd", "mariadb-server")
    install = need("mariadb-install-db", "mariadb-server")
    folder = Path(tempfile.mkdtemp(prefix="pyram-mysql-"))  # a socket's path has to be short
    try:
        installs = [install, "--no-defaults", "--user=root", f"--datadir={folder}/data",
                    "--auth-root-authentication-method=normal", "--skip-test-db"]
        serves = [program, "--no-defaults", "--user=root", f"--datadir={folder}/data",
                  f"--socket={folder}/socket", "--skip-networking", f"--pid-file={folder}/pid",
                  "--innodb-buffer-pool-size=32M"]
        done = subprocess.run(installs, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"mariadb-install-db failed: {done.stderr.strip()[-200:]}")
        daemon = subprocess.Popen(serves, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 60
            while not (folder / "socket").exists():
                if daemon.poll() is not None or time.monotonic() > until:
                    raise Missing(f"mariadbd did not start (exit code {daemon.poll()})")
                time.sleep(0.05)
            yield folder, installs, serves
        finally:
            daemon.terminate()
            daemon.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(bench):
    warm_up, seconds = (1, 1) if bench.quick else (8, 6)
    bench.note(f"one connection, {seconds} s after a warm-up of {warm_up} s")
    with server() as (folder, installs, serves):
        lines = [shlex.join(command).replace(str(folder), "$folder")
                 for command in (installs, serves)]
        bench.by_hand("", ["export folder=$(mktemp -d)", f"{lines[0]} >/dev/null",
                           f"{lines[1]} 2>/dev/null &",
                           'until [ -S "$folder/socket" ]; do sleep 0.1; done'],
                      ["kill $!; wait $!", 'rm -r "$folder"'])
        commands = {}
        for contender in bench.contenders:
            contender.mount()
            environment = dict(contender.environment)
            if contender.interpreter == "cpython":
                environment["PYTHONPATH"] = str(packages("cpython"))
            commands[contender.name] = Command(contender.warm(
                [str(SCRIPTS / "mysql_queries.py"), f"{folder}/socket", str(warm_up),
                 str(seconds)]).script, environment)
            bench.command("queries", contender, commands[contender.name], folder=folder)

        def one(contender):
            rate = float(measure(commands[contender.name]).output)
            bench.add("queries", contender, rate, "queries/s")

        bench.tried("queries", bench.contenders, 1 if bench.quick else 5, one, ["queries"])
