"""Images that are used before they are here. Each case has a proxy, a store and a mount of its own."""

import json
import hashlib
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import threading
import time

from fetchers import fetchers
from proxy import Fault, Proxy

BIN, UPSTREAM, WORK, TREE = sys.argv[1:]
WORK, TREE = pathlib.Path(WORK), pathlib.Path(TREE)
BYTES = (WORK / "image.sqfs").read_bytes()
DIGEST = hashlib.sha256(BYTES).hexdigest()
FILES = sorted(path.name for path in TREE.iterdir() if path.is_file())
ALWAYS = 1 << 20
BOUND = 90  # Far beyond everything that is waited for, in seconds.
CHUNK = 1 << 16
DATA = int.from_bytes(BYTES[BYTES.rindex(b"PYRAMVTY") + 16:][:8], "little")


def until(condition, what):
    end = time.monotonic() + BOUND
    while not (result := condition()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.01)
    return result


def place_of(name):
    """Where a file's noise lies in the image: it is stored as it is."""
    return BYTES.index((TREE / name).read_bytes()[:4096])


def covers(name):
    begin = place_of(name)
    return lambda first, last: first < begin + 150_000 and last >= begin


def chunks_of(name):
    begin = place_of(name)
    return range(begin // CHUNK, (begin + 150_000 - 1) // CHUNK + 1)


class Case:
    """A client of its own: a store, a mount, what it started."""

    def __init__(self, name, faults=(), options=()):
        self.home, self.options = WORK / name, list(options)
        self.home.mkdir()
        self.mounted = self.home / "mounted"
        self.mounted.mkdir()
        self.proxy = Proxy(UPSTREAM, faults)
        self.port = self.proxy.server_address[1]
        self.reference = f"{self.proxy.host}/x:1"
        self.directory = self.store / f"partial/{DIGEST}.lazy"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data"),
                            "XDG_RUNTIME_DIR": str(self.home)}
        if "PYRAM_TEST_NAMESPACE" in os.environ:
            self.environment["PYRAM_TEST_NAMESPACE"] = "1"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error:
            print(f"--- {self.home.name}: status\n{self.status(check=False)}\n--- requests {self.proxy.ranges}")
        self.proxy.hold(lambda first, last: False)
        for fetcher in self.fetchers():
            os.kill(fetcher, signal.SIGKILL)
        subprocess.run([f"{BIN}/pyram-mount", "--unmount", self.mounted], capture_output=True)
        self.network_goes()

    @property
    def store(self):
        return self.home / "data/pyram/store"

    @property
    def image(self):
        return self.store / f"images/{DIGEST}.sqfs"

    def run(self, *words, code=0):
        outcome = subprocess.run([str(word) for word in words], env=self.environment, capture_output=True, text=True,
                                 timeout=BOUND)
        assert outcome.returncode == code, f"{words}: {outcome.returncode}, {outcome.stdout} {outcome.stderr}"
        return outcome.stdout + outcome.stderr

    def pull(self, *words, code=0):
        return self.run(f"{BIN}/pyram-image", "pull", self.reference, "--plain-http", "--timeout", 3, "--retries", 1,
                        *(words or ["--lazy"]), code=code)

    def mount(self, *words, code=0):
        log = open(self.home / "log", "a")
        process = subprocess.Popen([f"{BIN}/pyram-mount", "-f", "--ready-fd", str(log.fileno()), *map(str, words),
                                    self.reference, str(self.mounted)], env=self.environment, stderr=log, stdout=log,
                                   pass_fds=[log.fileno()])
        self.daemon = process
        until(lambda: process.poll() is not None or os.path.ismount(self.mounted) and self.ready(), "the mount")
        return process

    def ready(self):
        return "+" in (self.home / "log").read_text()

    def log(self):
        return (self.home / "log").read_text()

    def status(self, check=True):
        outcome = subprocess.run([f"{BIN}/pyram-mount", "--status", "--all", self.mounted], capture_output=True, text=True)
        assert outcome.returncode == 0 or not check, outcome.stderr
        return {line[:26].strip(): line[27:] for line in outcome.stdout.splitlines()}

    def fetchers(self):
        return fetchers(self.home)

    def read(self, name):
        return (self.mounted / name).read_bytes()

    def check(self, *names):
        for name in names or FILES:
            assert self.read(name) == (TREE / name).read_bytes(), f"{name} is not what was packed"

    def fails(self, name):
        try:
            self.read(name)
        except OSError as error:
            return error
        raise AssertionError(f"{name} can be read")

    def reading(self, name):
        """A thread that reads, with what it read."""
        result = []

        def read():
            try:
                result.append(self.read(name))
            except OSError as error:
                result.append(error)
        thread = threading.Thread(target=read, daemon=True)
        thread.result = result
        thread.start()
        return thread

    def whole(self):
        """Until everything is here, and the fetcher has ended."""
        until(lambda: self.image.stat().st_size == len(BYTES), "everything comes")
        until(lambda: not self.fetchers(), "the fetcher ends")
        assert self.image.read_bytes() == BYTES
        assert not self.directory.exists(), list(self.directory.iterdir())

    def network_goes(self):
        self.proxy.go()

    def network_comes(self):
        before = self.proxy
        self.proxy = Proxy(UPSTREAM, port=self.port)
        self.proxy.ranges = before.ranges


def joined(thread, expected):
    thread.join(BOUND)
    assert not thread.is_alive(), "a read hangs"
    assert thread.result == [expected], thread.result


def start_before_it_is_here():
    with Case("start") as case:
        rest = place_of("f04")
        case.proxy.hold(lambda first, last: rest <= first < DATA - 5 * CHUNK)
        text = case.pull()
        assert "is being fetched" in text, text
        case.mount()
        case.check("f00", "f01", "f02", "f03")
        assert case.image.stat().st_size < 4096
        # More programs wait than threads serve; others don't wait for them.
        waiting = {name: case.reading(name) for name in ("f09", "f10", "f11", "f12", "f13")}
        case.proxy.wait_until_held(2)
        case.check("f00", "f03")
        assert set(os.listdir(case.mounted)) >= set(FILES)
        assert case.status()["fetch running"] == "1"
        assert int(case.status()["fetch done bytes"]) < len(BYTES)
        assert all(thread.is_alive() for thread in waiting.values())
        case.proxy.hold(lambda first, last: False)
        for name, thread in waiting.items():
            joined(thread, (TREE / name).read_bytes())
        case.whole()
        # Everything came once.
        assert sum(last + 1 - first for first, last in case.proxy.ranges) == len(BYTES), sorted(case.proxy.ranges)
        # And the network is never needed again.
        case.network_goes()
        case.proxy.log.clear()
        case.check()
        case.run(f"{BIN}/pyram-mount", "--unmount", case.mounted)
        case.mount()
        case.check()
        assert "fetch running" not in case.status()
        assert case.proxy.log == []


def what_programs_wait_for_comes_first():
    with Case("first") as case:
        allowed = {"f19"}
        gate = threading.Event()
        case.proxy.hold(lambda first, last: not gate.is_set() and place_of("f04") <= first < DATA - 5 * CHUNK and
                        not any(covers(name)(first, last) for name in allowed))
        case.pull()
        case.mount()
        case.check("f19")  # While the background's own request hangs.
        gate.set()
        case.whole()


def killed_fetcher():
    with Case("killed") as case:
        case.proxy.hold(covers("f06"))
        case.pull()
        case.mount()
        thread = case.reading("f06")
        for _ in range(4):  # At one moment after the other; the daemon has it started again.
            fetcher = until(case.fetchers, "a fetcher")[0]
            case.proxy.wait_until_held(1)
            os.kill(fetcher, signal.SIGKILL)
            until(lambda: fetcher not in case.fetchers(), "its end")
        until(case.fetchers, "another fetcher")
        case.proxy.hold(lambda first, last: False)
        joined(thread, (TREE / "f06").read_bytes())
        case.check()
        case.whole()
        sent = sum(last + 1 - first for first, last in case.proxy.ranges)
        assert sent <= len(BYTES) + 10 * 16 * CHUNK, f"{sent} bytes of {len(BYTES)}"
    with Case("killed-later") as case:  # And a pull starts it again.
        case.proxy.hold(covers("f10"))
        case.pull()
        os.kill(until(case.fetchers, "a fetcher")[0], signal.SIGKILL)
        until(lambda: not case.fetchers(), "its end")
        case.proxy.hold(lambda first, last: False)
        assert "is being fetched" in case.pull()
        case.whole()


def killed_worker_and_daemon():
    with Case("worker") as case:
        case.proxy.hold(covers("f06"))
        case.pull()
        daemon = case.mount()
        threads = [case.reading("f06") for _ in range(3)]
        case.proxy.wait_until_held(1)
        for _ in range(2):
            worker = int(case.status()["worker pid"])
            os.kill(worker, signal.SIGKILL)
            until(lambda: int(case.status()["worker pid"]) != worker, "another worker")
        case.run(f"{BIN}/pyram-mount", "--reload", case.mounted)
        case.check("f00", "f01")
        case.proxy.hold(lambda first, last: False)
        for thread in threads:
            joined(thread, (TREE / "f06").read_bytes())
        case.check()
        daemon.kill()
        daemon.wait()
        subprocess.run(["umount", "-l", case.mounted], check=True)
        case.mount()
        case.check()
        case.whole()


def wrong_bytes():
    with Case("wrong") as case:
        case.proxy.spoiled = [place_of("f08") + 100_000]
        case.pull()
        case.mount("-o", "fetch_timeout=2")
        assert case.fails("f08").errno == 5
        assert "are not what was packed" in case.log() and "have not come within 2 s" in case.log(), case.log()
        case.check("f07", "f09")
        assert int(case.status()["fetch errors"]) > 0
        # What comes meanwhile clears the error, and the next try sets it again.
        until(lambda: "are not what was packed" in case.status()["fetch last error"], "the error")
        case.proxy.spoiled = []
        until(lambda: not isinstance(case_read(case, "f08"), OSError), "it is fetched again")
        case.check()
        case.whole()
    with Case("spoiled") as case:  # On this machine's disk, before everything is here.
        case.proxy.hold(covers("f12"))
        case.pull()
        until(lambda: all(byte_of(case, chunk) for chunk in chunks_of("f01")), "a file comes")
        with open(case.directory / "data", "r+b") as file:
            file.seek(place_of("f01") + 70_000)
            file.write(b"spoiled")
        case.mount("--prefetch", "none")
        until(lambda: not isinstance(case_read(case, "f01"), OSError), "it is fetched again")
        case.check("f01")
        assert "differs from its Merkle tree" in case.log(), case.log()
        case.proxy.hold(lambda first, last: False)
        case.check()
        case.whole()


def case_read(case, name):
    try:
        return case.read(name)
    except OSError as error:
        return error


def byte_of(case, chunk):
    return (case.directory / "map").read_bytes()[4096 + chunk]


def stalled_server():
    with Case("stalled") as case:
        case.proxy.hold(covers("f15"))
        case.pull()
        case.mount("-o", "fetch_timeout=8")
        assert case.fails("f15").errno == 5
        line = next(line for line in case.log().splitlines() if "have not come" in line)
        assert "f15" in line and "within 8 s" in line and "check the network" in line, line
        case.check("f10", "f18")
        # Nothing that hangs keeps a mount.
        waiting = case.reading("f15")
        case.proxy.wait_until_held(1)
        case.daemon.terminate()
        waiting.join(BOUND)
        assert case.daemon.wait(BOUND) == 0
    with Case("block") as case:
        case.proxy.hold(covers("f15"))
        case.pull()
        case.mount("--block")
        thread = case.reading("f15")
        # Longer than the server is waited for: it is asked more than once.
        until(lambda: sum(covers("f15")(*parse(given)) for _, path, given in case.proxy.log
                          if "/blobs/" in path and given) >= 3, "it is asked again")
        assert thread.is_alive()
        case.proxy.hold(lambda first, last: False)
        joined(thread, (TREE / "f15").read_bytes())
        case.whole()


def parse(given):
    first, last = given.removeprefix("bytes=").split("-")
    return int(first), int(last)


def outage():
    with Case("outage") as case:
        case.proxy.hold(lambda first, last: place_of("f04") <= first < DATA - 5 * CHUNK)
        case.pull()
        case.mount("-o", "fetch_timeout=2")
        case.check("f00", "f01", "f02", "f03")
        case.network_goes()
        case.check("f00", "f01", "f02", "f03")
        until(lambda: int(case.status()["fetch errors"]) > 0, "a failure")
        names = [name for name in FILES if isinstance(case_read(case, name), OSError)]
        assert "cannot reach" in case.status()["fetch last error"], case.status()
        case.network_comes()
        for name in names:
            until(lambda: not isinstance(case_read(case, name), OSError), "it goes on by itself")
        case.check()
        case.whole()
        assert case.status()["fetch done bytes"] == str(len(BYTES))


def no_room():
    if os.geteuid() != 0 or "PYRAM_TEST_NAMESPACE" not in os.environ:
        return
    with Case("room") as case:
        data = case.home / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "pyram-test", data], check=True)
        try:
            text = case.pull(code=7)
            assert "make room there" in text and text.count("\n") == 1, text
            assert [path for path in data.rglob("*") if not path.is_dir()] == []
        finally:
            subprocess.run(["umount", data], check=True)


def server_without_ranges():
    with Case("whole", [Fault("blob", "ignore-range", 0, ALWAYS)]) as case:
        text = case.pull()
        assert "can only be fetched as a whole" in text and ": whole, " in text, text
        assert case.image.read_bytes() == BYTES
        assert not case.directory.exists()
    with Case("later-whole") as case:  # One that forgets it later.
        case.proxy.hold(lambda first, last: first == 0)
        case.pull()
        case.proxy.wait_until_held(1)
        case.proxy.faults = [Fault("blob", "ignore-range", 0, ALWAYS)]
        case.proxy.hold(lambda first, last: False)
        case.whole()


def two_pulls():
    with Case("two") as case:
        outcomes = []

        def pull(*words):
            outcomes.append(case.pull(*words))
        threads = [threading.Thread(target=pull, args=words) for words in (["--lazy"], ["--lazy"], ["-q"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        assert len(outcomes) == 3, outcomes
        case.whole()
        case.pull("--lazy")
        case.pull("-q")
    with Case("two-lazy") as case:
        case.proxy.hold(covers("f10"))
        case.pull()
        case.pull()
        assert len(case.fetchers()) == 1
        # A plain pull waits for the same bytes.
        waiting = threading.Thread(target=lambda: outcomes.append(case.pull("-q")))
        waiting.start()
        case.proxy.hold(lambda first, last: False)
        waiting.join(BOUND)
        case.whole()
        assert sum(last + 1 - first for first, last in case.proxy.ranges) == len(BYTES), sorted(case.proxy.ranges)


def refused():
    with Case("refused") as case:
        text = case.pull("--lazy", "--key", WORK / "stranger.pub", code=9)
        assert "is not signed by the key" in text, text
        assert not case.image.exists() and not case.directory.exists()
        assert not list((case.store / "names").rglob("*:1"))
        assert ": can be used" in case.pull("--lazy", "--key", WORK / "key.pub")
        case.whole()
    with Case("other-tree") as case:
        case.proxy.spoiled = [DATA + 4096 + 40]
        text = case.pull(code=9)
        assert text.startswith("pyram-image: refusing what came from") and text.count("\n") == 1, text
        assert not case.image.exists() and not case.directory.exists()


def removed():
    """Who removes the image doesn't want the rest."""
    with Case("removed") as case:
        case.proxy.hold(covers("f10"))
        case.pull()
        until(case.fetchers, "a fetcher")
        case.image.unlink()
        until(lambda: not case.fetchers(), "the fetcher ends")
        assert not case.directory.exists()


def listed_and_removed():
    """The list says how much has come. Nothing is removed that a mount still needs, and then everything."""
    with Case("remove") as case:
        case.proxy.hold(covers("f10"))
        case.pull()
        def listed():
            images = json.loads(case.run(f"{BIN}/pyram-image", "list", "--json"))
            return next(image for image in images if image["name"] == case.reference)

        until(lambda: 0 < listed()["here"] < listed()["size"], "a part of it")
        assert listed()["size"] == len(BYTES), listed()
        case.mount()
        assert "unmount it first" in case.run(f"{BIN}/pyram-image", "remove", case.reference, code=2)
        case.run(f"{BIN}/pyram-mount", "--unmount", case.mounted)
        case.run(f"{BIN}/pyram-image", "remove", case.reference)
        until(lambda: not case.fetchers(), "the fetcher ends")
        assert not case.directory.exists() and not case.image.exists()
    with Case("remove-dead") as case:
        case.proxy.hold(covers("f10"))
        case.pull()
        for fetcher in case.fetchers():
            os.kill(fetcher, signal.SIGKILL)
        until(lambda: not case.fetchers(), "its end")
        case.run(f"{BIN}/pyram-image", "remove", case.reference)
        assert not case.directory.exists() and not case.image.exists()


def by_url():
    with Case("url") as case:
        url = f"http://{case.proxy.host}/v2/x/blobs/sha256:{DIGEST}"
        text = case.run(f"{BIN}/pyram-image", "verify", WORK / "image.sqfs")
        digest = re.search(r"whole, (\S+)", text)[1]
        case.proxy.hold(covers("f10"))
        file = case.home / "site.sqfs"
        case.run(f"{BIN}/pyram-image", "pull", url, "--lazy", "--digest", digest, "-o", file)
        case.reference = str(file)
        case.mount()
        case.check("f00", "f19")
        # What needs every byte says so.
        assert "it is being fetched" in case.run(f"{BIN}/pyram-image", "verify", file, code=3)
        case.proxy.hold(lambda first, last: False)
        case.check()
        until(lambda: file.stat().st_size == len(BYTES), "everything comes")
        assert file.read_bytes() == BYTES
        until(lambda: not case.fetchers(), "the fetcher ends")
        assert [path.name for path in case.home.iterdir() if "partial" in path.name] == []


def crash_of_the_machine():
    """What is on the disk when the machine dies: chunks that are noted are right, others are fetched."""
    with Case("crash") as case:
        case.proxy.hold(covers("f10"))
        case.pull()
        case.proxy.wait_until_held(1)
        for fetcher in case.fetchers():
            os.kill(fetcher, signal.SIGKILL)
        until(lambda: not case.fetchers(), "its end")
        data, states = (case.directory / "data").read_bytes(), (case.directory / "map").read_bytes()[4096:]
        assert 0 < sum(states) < len(states)
        for chunk, state in enumerate(states[:-1]):
            if state:
                assert data[chunk * CHUNK:(chunk + 1) * CHUNK][:DATA - chunk * CHUNK] == BYTES[chunk * CHUNK:min((chunk + 1) * CHUNK, DATA)]
        # A map that makes no sense is none.
        with open(case.directory / "map", "r+b") as file:
            file.write(struct.pack("<QII", 1, 2, 3))
        case.run(f"{BIN}/pyram-mount", case.reference, case.mounted, code=3)
        case.proxy.hold(lambda first, last: False)
        case.pull()
        case.whole()


CASES = [start_before_it_is_here, what_programs_wait_for_comes_first, killed_fetcher, killed_worker_and_daemon, wrong_bytes,
         stalled_server, outage, no_room, server_without_ranges, two_pulls, refused, removed, listed_and_removed, by_url, crash_of_the_machine]

wanted = os.environ.get("PYRAM_TEST_LAZY", "")  # A part of a case's name, to look at it alone.
for case in CASES:
    if wanted in case.__name__:
        print(f"-- {case.__name__}", flush=True)
        case()
