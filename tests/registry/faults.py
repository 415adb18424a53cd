"""The table of faults: what a registry can do wrong, at each moment of a pull and a push."""

import base64
import concurrent.futures
import hashlib
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from fetchers import fetchers
from proxy import SECRET, USER, Fault, Proxy

PROGRAM, UPSTREAM, WORK, IMAGE, KEY = sys.argv[1:]
WORK = pathlib.Path(WORK)
BYTES = pathlib.Path(IMAGE).read_bytes()
DIGEST = hashlib.sha256(BYTES).hexdigest()
chance = random.Random(20)

ALWAYS = 1 << 20
# Three seconds of silence are a stall here, and a request is tried three times: far below this, in seconds.
BOUND = 120
# After one of these, another try is to help.
PASSING = {"keep", "stall", "reset", "close", "short", "long", "500", "502", "503", "429", "ignore-range", "other-range", "drip",
           "no-length"}
# With one of these at every try nothing can be had.
LASTING = {"stall", "reset", "500", "503", "404", "403", "garbage", "headers", "loop", "scheme", "drip"}


def run(words, home, auth):
    return subprocess.run([PROGRAM, *words, "--plain-http", "--timeout", "3", "--retries", "2", "-q"],
                          env=environment_of(home, auth), capture_output=True, text=True, timeout=BOUND, errors="replace")


def write_auth(home, host):
    home.mkdir(parents=True, exist_ok=True)
    file = home / "auth.json"
    secret = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    file.write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    return file


def check_line(outcome):
    assert outcome.stderr.startswith("pyram-image: ") and outcome.stderr.count("\n") == 1, repr(outcome.stderr)
    assert outcome.returncode in (3, 6, 9), (outcome.returncode, outcome.stderr)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in outcome.stderr[:-1]), repr(outcome.stderr)


def stored(home, host):
    return home / "data/pyram/store/names" / host / "x:1"


def check_store(home):
    """Whatever has a name is whole."""
    for file in (home / "data/pyram/store/images").glob("*"):
        assert file.read_bytes() == BYTES, f"{file} is not what was pushed"
    for link in (home / "data/pyram/store/names").rglob("*"):
        assert not link.is_symlink() or link.exists(), f"{link} leads nowhere"


def pull_case(number, faults, uses=1 << 30):
    home = WORK / f"pull-{number}"
    proxy = Proxy(UPSTREAM, faults, auth="token", uses=uses)
    try:
        auth = write_auth(home, proxy.host)
        last, lasts = faults[-1], faults[-1].times > 99
        words = ["pull", f"{proxy.host}/x:1", "--key", KEY]
        outcome = run(words, home, auth)
        check_store(home)
        if outcome.returncode == 0:
            assert stored(home, proxy.host).read_bytes() == BYTES
            assert outcome.stderr == "", outcome.stderr
        else:
            check_line(outcome)
            assert not stored(home, proxy.host).exists()
        if lasts and last.kind in LASTING and last.moment != "look":
            assert outcome.returncode != 0, f"{last} and yet it has the image"
        proxy.faults = []
        outcome_later = run(words, home, auth)
        assert outcome_later.returncode == 0, f"without faults: {outcome_later.stderr}"
        assert stored(home, proxy.host).read_bytes() == BYTES
        assert not list((home / "data/pyram/store/partial").iterdir()), "a partial file is left"
        return outcome.stderr
    finally:
        proxy.shutdown()
        proxy.server_close()


def environment_of(home, auth):
    return {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_DATA_HOME": str(home / "data"),
            "REGISTRY_AUTH_FILE": str(auth)}


def killed_case(number, faults, uses=1 << 30):
    """A pull that is killed in the midst: the next one goes on where it was."""
    home = WORK / f"killed-{number}"
    proxy = Proxy(UPSTREAM, faults, auth="token", uses=uses)
    try:
        auth = write_auth(home, proxy.host)
        words = ["pull", f"{proxy.host}/x:1", "--key", KEY]
        wanted = int(len(BYTES) * faults[0].where)
        with subprocess.Popen([PROGRAM, *words, "--plain-http", "-q"], env=environment_of(home, auth)) as process:
            partial = home / "data/pyram/store/partial" / DIGEST
            # It hangs there, and what came is there at some time.
            while process.poll() is None and (not partial.exists() or partial.stat().st_size < wanted):
                time.sleep(0.01)
            process.kill()
        assert not stored(home, proxy.host).exists() and not list((home / "data/pyram/store/images").iterdir())
        proxy.log.clear()
        outcome = run(words, home, auth)
        assert outcome.returncode == 0, outcome.stderr
        assert stored(home, proxy.host).read_bytes() == BYTES
        ranges = [given for method, path, given in proxy.log if "/blobs/" in path and given]
        assert ranges[-1:] == [f"bytes={wanted}-"], f"it did not go on at {wanted}: {proxy.log}"
        return ""
    finally:
        proxy.shutdown()
        proxy.server_close()


def lazy_case(number, faults, uses=1 << 30):
    """An image that is used before it is here: what is noted is right at any time, and in the end everything comes."""
    home = WORK / f"lazy-{number}"
    proxy = Proxy(UPSTREAM, faults, auth="token", uses=uses)
    directory = home / f"data/pyram/store/partial/{DIGEST}.lazy"
    chunk, data_size = 1 << 16, len(BYTES) - len(BYTES[BYTES.rindex(b"PYRAMVTY"):])

    def check_what_is_here():
        try:
            states, data = (directory / "map").read_bytes()[4096:], (directory / "data").read_bytes()
        except OSError:
            return  # Not begun, or whole.
        for index, state in enumerate(states[:-1]):
            part = slice(index * chunk, min((index + 1) * chunk, data_size))
            assert not state or data[part] == BYTES[part], f"chunk {index} is noted, and wrong"

    def is_whole():
        check_what_is_here()
        return stored(home, proxy.host).exists() and stored(home, proxy.host).stat().st_size == len(BYTES)

    try:
        auth = write_auth(home, proxy.host)
        outcome = run(["pull", f"{proxy.host}/x:1", "--lazy", "--key", KEY], home, auth)
        if outcome.returncode != 0:
            check_line(outcome)
            assert not stored(home, proxy.host).exists() and not directory.exists()
        proxy.faults = []
        if outcome.returncode != 0:
            outcome_later = run(["pull", f"{proxy.host}/x:1", "--lazy", "--key", KEY], home, auth)
            assert outcome_later.returncode == 0, f"without faults: {outcome_later.stderr}"
        elif number % 3 == 0:  # A pull in between makes no difference, nor does a fetcher's end.
            for process in fetchers(home):
                os.kill(process, signal.SIGKILL)
            outcome_later = run(["pull", f"{proxy.host}/x:1", "--key", KEY], home, auth)
            assert outcome_later.returncode == 0, f"without faults: {outcome_later.stderr}"
        end = time.monotonic() + BOUND
        while not is_whole():
            assert time.monotonic() < end, "the rest does not come"
            time.sleep(0.02)
        check_store(home)
        while fetchers(home) or directory.exists():
            assert time.monotonic() < end, "the fetcher goes on for ever"
            time.sleep(0.02)
        return outcome.stderr
    finally:
        for process in fetchers(home):
            os.kill(process, signal.SIGKILL)
        proxy.shutdown()
        proxy.server_close()


def elsewhere_case(number, faults, uses=1 << 30):
    """A registry leads to a storage service, whose address has run out at first: who one is stays with the registry."""
    home = WORK / f"elsewhere-{number}"
    proxy, storage = Proxy(UPSTREAM, [Fault("blob", "elsewhere", 0, ALWAYS)], auth="token", uses=uses), Proxy(UPSTREAM, faults)
    proxy.elsewhere = storage.server_address[1]
    lasts = faults[-1].times > 99
    try:
        auth = write_auth(home, proxy.host)
        outcome = run(["pull", f"{proxy.host}/x:1", "--key", KEY], home, auth)
        assert storage.told == {None}, f"the storage service was told {storage.told}"
        if lasts:
            check_line(outcome)
            assert "secret" not in outcome.stderr, outcome.stderr
        else:
            assert outcome.returncode == 0, outcome.stderr
            assert stored(home, proxy.host).read_bytes() == BYTES
        return ""
    finally:
        for server in (proxy, storage):
            server.shutdown()
            server.server_close()


def crowd_case(number, faults, uses=1 << 30):
    """Several pulls of one image by one user: it is fetched once."""
    home = WORK / f"crowd-{number}"
    faults_given = len(faults)
    proxy = Proxy(UPSTREAM, faults, auth="token", uses=uses)
    try:
        auth = write_auth(home, proxy.host)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda _: run(["pull", f"{proxy.host}/x:1", "--key", KEY], home, auth), range(6)))
        assert all(outcome.returncode == 0 for outcome in outcomes), [outcome.stderr for outcome in outcomes]
        check_store(home)
        fetched = [entry for entry in proxy.log if entry[0] == "GET" and "/blobs/" in entry[1]]
        # With a fault, once more, for the rest.
        assert len(fetched) == (2 if faults_given else 1), f"fetched more than once: {fetched}"
        return ""
    finally:
        proxy.shutdown()
        proxy.server_close()


def upstream_manifest(repository):
    request = urllib.request.Request(f"http://{UPSTREAM}/v2/{repository}/manifests/1", headers={
        "Accept": "application/vnd.oci.image.manifest.v1+json"})
    try:
        return urllib.request.urlopen(request, timeout=BOUND).read()
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return None


def push_case(number, faults, uses=1 << 30):
    home = WORK / f"push-{number}"
    keeps = faults[0].kind == "keep"
    proxy = Proxy(UPSTREAM, faults, auth="token", uses=uses)
    try:
        auth = write_auth(home, proxy.host)
        repository = f"push/case-{number}"
        words = ["push", IMAGE, f"{proxy.host}/{repository}:1"]
        outcome = run(words, home, auth)
        if outcome.returncode != 0:
            check_line(outcome)
        else:
            assert upstream_manifest(repository), "it says that it pushed, and there is nothing"
        if keeps:  # What arrived is not sent again.
            ranges = [content_range for method, _, content_range in proxy.log if method == "PATCH" and content_range]
            assert ranges and int(ranges[0].split("-")[0]) > 1000, f"it did not go on: {ranges}"
        proxy.faults = []
        pulled = home / "pulled.sqfs"
        get = ["pull", f"{proxy.host}/{repository}:1", "-o", str(pulled)]
        if upstream_manifest(repository):  # What has a name is whole, whatever was said.
            got = run(get, home, auth)
            assert got.returncode == 0, got.stderr
            assert pulled.read_bytes() == BYTES
        again = run(words, home, auth)
        assert again.returncode == 0, f"without faults: {again.stderr}"
        got = run(get, home, auth)
        assert got.returncode == 0 and pulled.read_bytes() == BYTES, got.stderr
        return outcome.stderr
    finally:
        proxy.shutdown()
        proxy.server_close()


def pull_table():
    kinds = ["stall", "reset", "close", "flip", "short", "long", "no-length", "500", "503", "429", "401", "403", "404",
             "garbage", "headers", "loop", "scheme", "drip"]
    for moment, kind, times in itertools.product(("manifest", "token", "blob"), kinds, (1, ALWAYS)):
        places = (0, chance.random(), 0.9999) if kind in ("reset", "close", "flip", "short") else (chance.random(),)
        for where in places:
            yield [Fault(moment, kind, where, times)], 1 << 30
    # The rest of a blob whose beginning has come.
    for kind, times in itertools.product([*kinds, "ignore-range", "other-range"], (1, ALWAYS)):
        for where in (chance.random(), 0.9999):
            yield [Fault("blob", "close", 0.2 + 0.6 * chance.random()), Fault("blob", kind, where, times)], 1 << 30
    # Tokens that are good for one request.
    for kind in ("close", "reset", "flip"):
        yield [Fault("blob", kind, chance.random(), 1)], 1
    yield [Fault("manifest", "close", 0.5, 1), Fault("blob", "close", 0.5, 2)], 1


def push_table():
    moments = ("look", "start", "patch", "finish", "put-manifest", "referrers", "put-referrers", "token")
    kinds = ["stall", "reset", "close", "500", "503", "401", "403", "404", "garbage", "loop"]
    for moment, kind, times in itertools.product(moments, kinds, (1, ALWAYS)):
        places = (0.1, chance.random(), 0.9999) if moment == "patch" and kind in ("reset", "close", "stall") else (0.5,)
        for where in places:
            yield [Fault(moment, kind, where, times)], 1 << 30
    for _ in range(3):
        yield [Fault("patch", "keep", 0.1 + 0.8 * chance.random(), 1)], 1 << 30
    for kind in ("close", "reset", "503"):
        yield [Fault("patch", kind, chance.random(), 1)], 1


def lazy_table():
    kinds = ["stall", "reset", "close", "flip", "short", "long", "500", "503", "401", "403", "404", "garbage", "loop", "drip",
             "ignore-range", "other-range"]
    for kind, times in itertools.product(kinds, (1, 2)):
        for where in (chance.random(), 0.9999):
            # Of the trailer, and of what comes after it.
            yield [Fault("blob", kind, where, times)], 1 << 30
            yield [Fault("blob", "none", 0, 1 + chance.randrange(3)), Fault("blob", kind, where, times)], 1 << 30
    yield [Fault("blob", "close", 0.5, 2)], 1


CASES = {"lazy": lazy_case, "pull": pull_case, "push": push_case, "killed": killed_case, "elsewhere": elsewhere_case, "crowd": crowd_case}


def run_case(which, number, faults, uses):
    name = f"{which} {number}: {faults}{' one request a token' if uses == 1 else ''}"
    must_work = which != "lazy" and all(fault.times == 1 and fault.kind in PASSING for fault in faults)
    try:
        said = CASES[which](number, faults, uses)
        assert not said or not must_work, f"one more try was to help, and it said {said}"
        return None
    except subprocess.TimeoutExpired:
        return f"{name}: it hangs"
    except Exception as error:  # noqa: BLE001 (a table goes on)
        return f"{name}: {type(error).__name__}: {error}"


def main():
    proxy = Proxy(UPSTREAM)
    subprocess.run([PROGRAM, "push", IMAGE, f"{proxy.host}/x:1", "--plain-http", "-q"], check=True)
    cases = [("pull", *case) for case in pull_table()] + [("push", *case) for case in push_table()]
    cases += [("killed", [Fault("blob", "stall", where, 1)], 1 << 30) for where in (0.1, 0.5, 0.9)]
    cases += [("lazy", *case) for case in lazy_table()]
    cases += [("elsewhere", [Fault("blob", kind, 0.5, times)], 1 << 30)
              for kind in ("403", "401", "close", "503") for times in (1, ALWAYS) if (kind, times) != ("close", ALWAYS)]
    cases += [("crowd", faults, 1 << 30) for faults in ([], [Fault("blob", "close", 0.5, 1)])]
    wanted = os.environ.get("PYRAM_TEST_FAULT")  # A part of a case's name, to look at it alone.
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        running = [pool.submit(run_case, which, number, faults, uses)
                   for number, (which, faults, uses) in enumerate(cases)
                   if wanted is None or wanted in f"{which} {number}: {faults}"]
        failures = [text for text in (future.result() for future in running) if text]
    print("\n".join(failures))
    print(f"{len(running)} cases, {len(failures)} failed")
    sys.exit(1 if failures or not running else 0)


main()
