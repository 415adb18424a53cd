"""site: a small Django site under gunicorn: requests a second and latency, by wrk."""

import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from .. import trees
from ..machine import SCRIPTS, WORK, Missing, need, sh
from ..timing import Command, measure

TITLE = "Django under gunicorn"
CONTENDERS = ["original", "pyram", "cpython"]
PAGES = ("page", "json")
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def packages(interpreter):
    """A directory for PYTHONPATH with gunicorn, which no tree here holds, and for CPython with the
    very Django and PyMySQL that the PyPy contenders run."""
    source = Path("/usr/lib/python3/dist-packages")
    if not (source / "gunicorn").is_dir():
        raise Missing("gunicorn is not installed (package gunicorn)")
    directory = WORK / f"packages-{interpreter}"
    for name in ("gunicorn", "pkg_resources", "packaging"):  # what it imports, old and new
        if (source / name).is_dir() and not (directory / name).exists():
            shutil.copytree(source / name, directory / name,
                            ignore=shutil.ignore_patterns("__pycache__"))
    if interpreter == "cpython" and not (directory / "django").exists():
        for entry in (trees.original() / "lib/python3/dist-packages").iterdir():
            if entry.is_dir():
                shutil.copytree(entry, directory / entry.name, dirs_exist_ok=True, symlinks=True,
                                ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(entry, directory)
        sh(f"/usr/bin/python3 -m compileall -q {directory} >/dev/null 2>&1 || true")
    return directory


def run(bench):
    wrk = need("wrk")
    warm_up, seconds, turns = (1, 1, 1) if bench.quick else (20, 8, 3)
    bench.note(f"2 sync workers; wrk: 1 thread, 8 connections, {seconds} s, after a warm-up of "
               f"{warm_up} s for each page")

    bench.by_hand("", ["export port=8000"])
    bench.by_hand("server", ["# each in a shell of its own, after its database, until a control-C"])
    for page in PAGES:
        bench.by_hand(f"/{page}", [f"# once with -d{warm_up}s before"])

    def one(contender):
        contender.mount()
        try:
            _serve(bench, contender, wrk, warm_up, seconds)
        finally:
            contender.unmount()

    bench.tried("site", bench.contenders, turns, one, [f"/{page}" for page in PAGES])


def _serve(bench, contender, wrk, warm_up, seconds):
    database = WORK / "site.sqlite"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**contender.environment, "BENCHMARK_DATABASE": str(database),
                   "PYTHONPATH": f"{packages(contender.interpreter)}:{SCRIPTS / 'site'}",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    fill = contender.warm([str(SCRIPTS / "site/benchmark_site.py")])
    fill = Command(f"rm -f {database} && {fill.script}", environment)
    bench.command("database", contender, fill)
    measure(fill)
    serve = Command(contender.warm(
        ["-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--log-level", "error",
         "benchmark_site:application"]).script, environment)
    bench.command("server", contender, serve, port=port)
    log = WORK / "gunicorn.log"
    with open(log, "w") as complaints:
        server = serve.started(stderr=complaints)
    try:
        began = time.perf_counter()
        _wait_until_served(server, f"http://127.0.0.1:{port}/json", log)
        bench.add("start until the first answer", contender,
                  (time.perf_counter() - began) * 1000, "ms")
        for page in PAGES:
            url = f"http://127.0.0.1:{port}/{page}"
            line = [wrk, "-t1", "-c8", "--latency", f"-d{seconds}s", url]
            bench.command(f"/{page}", contender, " ".join(line), port=port)
            subprocess.run([*line[:-2], f"-d{warm_up}s", url], capture_output=True, check=True)
            _report(bench, contender, page,
                    subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    finally:
        server.terminate()
        server.wait()


def _wait_until_served(server, url, log):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if server.poll() is not None:
            last = log.read_text().strip().splitlines()[-1:]
            raise Missing(f"the server ended with {server.returncode}: {' '.join(last)}")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise Missing("the server did not answer within a minute")


def _report(bench, contender, page, text):
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if wrong or not rate:
        raise Missing(f"/{page}: {wrong.group(0) if wrong else 'no figures from wrk'}")
    bench.add(f"/{page}", contender, float(rate.group(1)), "requests/s")
    for part in ("50", "99"):
        found = re.search(rf"{part}%\s+([\d.]+)(us|ms|s)", text)
        bench.add(f"/{page} p{part}", contender, float(found.group(1)) * _UNITS[found.group(2)],
                  "ms")
