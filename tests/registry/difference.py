"""Pulls of a new image where an old one is: what is fetched, and that nothing that goes wrong gives another image."""

import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from proxy import Fault, Proxy

PROGRAM, UPSTREAM, WORK, OLD, NEW, KEY = sys.argv[1:]
WORK = pathlib.Path(WORK)
OLD_BYTES, NEW_BYTES = pathlib.Path(OLD).read_bytes(), pathlib.Path(NEW).read_bytes()
ALWAYS = 1 << 20
BLOCKS = "application/vnd.pyram.blocks.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def run(words, home, **more):
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    return subprocess.run([PROGRAM, *words, "--plain-http", "--timeout", "3", "--retries", "2"], env=environment,
                          capture_output=True, text=True, timeout=120, **more)


def store(home):
    return home / "data/pyram/store"


def have_old(name):
    """A home whose store has the old image, as a pull leaves it."""
    home = WORK / name
    outcome = run(["pull", f"{UPSTREAM}/x:old", "-q"], home)
    assert outcome.returncode == 0, outcome.stderr
    return home


def update(home, host, *words):
    """Pulls the new image. Returns how it went, with the name of the registry taken off its place in the store."""
    outcome = run(["pull", f"{host}/x:new", "--key", KEY, *words], home)
    name = store(home) / "names" / host / "x:new"
    if outcome.returncode == 0:
        assert name.read_bytes() == NEW_BYTES
        assert not list((store(home) / "partial").iterdir()), "a partial file is left"
    else:
        assert not name.exists()
    for image in (store(home) / "images").iterdir():
        assert digest_of(image.read_bytes())[7:] == image.stem or image.stem == digest_of(OLD_BYTES)[7:]
    return outcome


def notes(outcome):
    """What it says beside its progress."""
    return [line for line in outcome.stderr.splitlines() if not line.startswith("pyram-image: [")]


def blob_requests(proxy):
    return [entry for entry in proxy.log if entry[0] == "GET" and digest_of(NEW_BYTES) in entry[1]]


# ---- tables of blocks

def make_table(blocks, magic=b"PYRAMBLK", version=1, width=16, size=None, count=None):
    size = sum(length for length, _ in blocks) if size is None else size
    count = len(blocks) if count is None else count
    return (magic + struct.pack("<IIQQ", version, width, size, count) +
            b"".join(struct.pack("<I", length) + name for length, name in blocks))


def read_table(table):
    count = struct.unpack_from("<Q", table, 24)[0]
    return [(struct.unpack_from("<I", table, 32 + 20 * i)[0], table[36 + 20 * i:52 + 20 * i]) for i in range(count)]


def table_of(image):
    file = WORK / "table"
    subprocess.run([PROGRAM, "blocks", image, "-o", str(file)], check=True, stdout=subprocess.DEVNULL)
    return file.read_bytes()


def bad_tables():
    good = read_table(table_of(NEW))
    old = read_table(table_of(OLD))
    yield "none", b""
    yield "of another form", b"x" * 1000
    yield "cut", make_table(good)[:-1]
    yield "with more behind it", make_table(good) + b"x"
    yield "of another version", make_table(good, version=2)
    yield "with other hashes", make_table(good, width=32)
    yield "with a huge count", make_table(good, count=1 << 62)
    yield "with a count that wraps", make_table(good, count=(1 << 64) // 20 + len(good))
    yield "with a huge size", make_table(good, size=1 << 62)
    yield "of the other image", make_table(old)
    yield "with empty blocks", make_table([(0, good[0][1])] * 1000 + good)
    yield "with too long a block", make_table([((1 << 32) - 1, good[0][1])])
    yield "with blocks out of range", make_table([*good, (1 << 20, good[0][1])])
    yield "with one block less", make_table(good[:-1])
    mixed = list(good)
    random.Random(4).shuffle(mixed)
    yield "in another order", make_table(mixed)
    yield "that says that all is old", make_table([(length, old[i % len(old)][1]) for i, (length, _) in enumerate(good)])
    size = len(NEW_BYTES)
    fitting = [(length, name) for length, name in old if length < size]
    fake = [fitting[0]] * (size // fitting[0][0])
    yield "with one block over and over", make_table([*fake, (size - sum(length for length, _ in fake), bytes(16))])
    yield "with unknown hashes", make_table([(length, bytes(16)) for length, _ in good])
    yield "of a tebibyte", make_table([(1 << 20, bytes(16))] * (1 << 20))
    yield "with too many blocks", make_table([(1, bytes(16))] * ((1 << 20) + 1))
    yield "with single bytes", make_table([(1, bytes(16))] * size)


# ---- a registry's account of what refers to an image

def request(path, method="GET", data=None, kind=None, host=UPSTREAM):
    headers = {"Content-Type": kind, "Accept": kind} if kind else {}
    url = path if path.startswith("http") else f"http://{host}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as response:
        return response.read(), response.headers


def put_blob(data):
    _, headers = request("/v2/x/blobs/uploads/", "POST", b"")
    place = headers["Location"]
    request(place + ("&" if "?" in place else "?") + "digest=" + digest_of(data), "PUT", data, "application/octet-stream")
    return {"digest": digest_of(data), "size": len(data)}


def set_table(table, **changes):
    """Puts a table in place of the one that push made."""
    layer = {"mediaType": BLOCKS, **put_blob(table), **changes}
    subject, _ = request("/v2/x/manifests/new", kind=MANIFEST)
    config = {"mediaType": "application/vnd.oci.empty.v1+json", **put_blob(b"{}")}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BLOCKS, "config": config,
                           "layers": [layer], "subject": {"mediaType": MANIFEST, "digest": digest_of(subject),
                                                          "size": len(subject)}}).encode()
    request("/v2/x/manifests/" + digest_of(manifest), "PUT", manifest, MANIFEST)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest), "artifactType": BLOCKS}]}).encode()
    request("/v2/x/manifests/" + digest_of(subject).replace(":", "-"), "PUT", index, INDEX)


# ---- any HTTP server

class Files(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), FilesHandler)
        self.files, self.sent = files, 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/site.sqfs"


class FilesHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        data = self.server.files.get(self.path.split("?")[0])
        if data is None:
            self.send_error(404)
            return
        given = self.headers["Range"]
        if given:
            first, last = given.removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
            if first >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first:last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.server.sent += len(data)


# ---- the cases

def few_bytes(changed):
    """Only what changed comes; the table is part of what is counted."""
    proxy = Proxy(UPSTREAM)
    outcome = update(have_old("few"), proxy.host)
    assert outcome.returncode == 0 and notes(outcome) == [], outcome.stderr
    assert ", reused " in outcome.stdout, outcome.stdout
    print(f"   of {len(NEW_BYTES)} bytes, of which {changed} changed, {proxy.sent} came in {len(proxy.log)} requests")
    assert proxy.sent < 1.1 * changed + 12000, proxy.log
    # Once more: it is there.
    before = proxy.sent
    outcome = update(WORK / "few", proxy.host)
    assert outcome.returncode == 0 and proxy.sent - before < 2000
    # Out of a file that is named, to a file; and in place of the file that is replaced.
    for words, old in ((["--from", OLD], None), ([], OLD)):
        target = WORK / f"file-{len(words)}.sqfs"
        if old:
            shutil.copyfile(old, target)
        proxy = Proxy(UPSTREAM)
        outcome = run(["pull", f"{proxy.host}/x:new", "-o", str(target), *words], WORK / "nothing")
        assert outcome.returncode == 0 and target.read_bytes() == NEW_BYTES, outcome.stderr
        assert proxy.sent < 1.1 * changed + 12000
    # Nothing is asked for where there is no old image.
    proxy = Proxy(UPSTREAM)
    assert update(WORK / "empty", proxy.host).returncode == 0
    assert len(proxy.log) == 2, proxy.log


def damaged_old(changed):
    """An old image of which bytes have changed since: what they are in is fetched."""
    home = have_old("damaged")
    image = next((store(home) / "images").iterdir())
    spoiled = bytearray(OLD_BYTES)
    for position in range(200, len(spoiled) // 2, 10000):
        spoiled[position] ^= 1
    image.unlink()
    image.write_bytes(spoiled)
    proxy = Proxy(UPSTREAM)
    outcome = update(home, proxy.host)
    assert outcome.returncode == 0 and notes(outcome) == [], outcome.stderr
    assert len(NEW_BYTES) // 3 < proxy.sent < len(NEW_BYTES), proxy.sent
    for number, data in enumerate((b"", b"hsqs", bytes(spoiled[:96]), bytes(len(OLD_BYTES)), OLD_BYTES[:len(OLD_BYTES) // 2],
                                   b"\xff" * 4096 + OLD_BYTES[4096:])):
        broken = WORK / "broken.sqfs"
        broken.write_bytes(data)
        outcome = update(WORK / f"broken-{number}", Proxy(UPSTREAM).host, "--from", str(broken))
        assert outcome.returncode == 0, outcome.stderr
        assert len(notes(outcome)) == 1 and "nothing is reused" in outcome.stderr, outcome.stderr


def hostile_tables(changed):
    for number, (name, table) in enumerate(bad_tables()):
        set_table(table)
        proxy = Proxy(UPSTREAM)
        outcome = update(have_old(f"table-{number}"), proxy.host)
        assert outcome.returncode == 0, f"a table {name}: {outcome.stderr}"
        said = notes(outcome)
        assert len(said) <= 1, f"a table {name}: {outcome.stderr}"
        whole = proxy.sent > len(NEW_BYTES)
        assert whole == (", reused " not in outcome.stdout) or "unknown" in name or "single" in name, \
            f"a table {name}: {outcome.stdout}, {proxy.sent} bytes"
        assert said or not whole or "unknown" in name or "single" in name, f"a table {name}: nothing is said"
        # A registry that would have us fetch much more than an image is not followed.
        assert proxy.sent < 2 * len(NEW_BYTES) + 2 * len(table) + 20000, f"a table {name}: {proxy.sent} bytes came"
    for changes in ({"size": 1 << 49}, {"digest": "sha256:" + "0" * 64}, {"size": 1}):
        set_table(table_of(NEW))
        # What a manifest says of a blob that is another one: registries check some of that, and this one does not.
        try:
            set_table(table_of(NEW), **changes)
        except urllib.error.HTTPError:
            continue
        outcome = update(have_old(f"layer-{next(numbers)}"), Proxy(UPSTREAM).host)
        assert outcome.returncode == 0 and len(notes(outcome)) <= 1, f"{changes}: {outcome.stderr}"
    set_table(table_of(NEW))


numbers = itertools.count()


def no_ranges(changed):
    whole = WholeProxy(UPSTREAM)
    outcome = update(have_old("no-ranges"), whole.host)
    assert outcome.returncode == 0, outcome.stderr
    assert len(blob_requests(whole)) <= 2, whole.log


class WholeProxy(Proxy):
    """Before a registry that doesn't know ranges."""

    def take_fault(self, moment):
        return Fault(moment, "ignore-range") if moment == "blob" else None


def faulty(changed):
    """Each fault at each moment: the right image or one line."""
    for moment, kind, times in itertools.product(
            ("referrers", "blob"), ("reset", "close", "flip", "short", "long", "503", "404", "garbage", "other-range"), (1, ALWAYS)):
        if moment == "referrers" and kind == "other-range":
            continue
        for before in (0, 2) if moment == "blob" else (0,):
            proxy = LateProxy(UPSTREAM, [Fault(moment, kind, 0.5, times)], before)
            home = have_old(f"fault-{next(numbers)}")
            outcome = update(home, proxy.host)
            name = f"{kind} at {moment} {before} {'always' if times > 1 else 'once'}"
            if outcome.returncode != 0:
                assert times > 1 and moment == "blob", f"{name}: {outcome.stderr}"
                assert len(notes(outcome)) <= 2, f"{name}: {outcome.stderr}"
            proxy.faults = []
            again = update(home, proxy.host)
            assert again.returncode == 0, f"{name}, and then without it: {again.stderr}"


class LateProxy(Proxy):
    """Whose faults begin with a later request for a blob."""

    def __init__(self, upstream, faults, before):
        super().__init__(upstream, faults)
        self.before = before

    def take_fault(self, moment):
        if moment == "blob" and self.before > 0:
            self.before -= 1
            return None
        return super().take_fault(moment)


def killed(changed):
    """One that is killed in the midst leaves nothing under a name, and the next one goes on."""
    home = have_old("killed")
    proxy = LateProxy(UPSTREAM, [Fault("blob", "stall", 0.5, 1)], 2)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    with subprocess.Popen([PROGRAM, "pull", f"{proxy.host}/x:new", "--plain-http", "-q"], env=environment) as process:
        while process.poll() is None and proxy.faults:
            time.sleep(0.01)
        process.kill()
    assert not (store(home) / "names" / proxy.host).exists() and len(list((store(home) / "images").iterdir())) == 1
    partial = next((store(home) / "partial").iterdir())
    beginning = partial.stat().st_size
    assert 0 < beginning < len(NEW_BYTES) and NEW_BYTES.startswith(partial.read_bytes())
    proxy.log.clear()
    assert update(home, proxy.host).returncode == 0
    firsts = [int(given.removeprefix("bytes=").split("-")[0]) for _, _, given in blob_requests(proxy)]
    assert min(firsts) >= beginning, (beginning, firsts)
    # A beginning that is spoiled: found out by the digest, and then all of it is fetched.
    home = have_old("spoiled")
    (store(home) / "partial" / digest_of(NEW_BYTES)[7:]).write_bytes(bytes(len(NEW_BYTES) // 2))
    outcome = update(home, Proxy(UPSTREAM).host)
    assert outcome.returncode == 0 and len(notes(outcome)) == 1, outcome.stderr


def urls(changed):
    table, other = table_of(NEW), table_of(OLD)
    mixed = read_table(table)
    random.Random(5).shuffle(mixed)
    for name, given, is_reused in (("good", table, True), ("missing", None, False), ("of another image", other, False),
                                   ("damaged", table[:-1], False), ("in another order", make_table(mixed), False)):
        server = Files({"/site.sqfs": NEW_BYTES, **({"/site.sqfs.blocks": given} if given else {})})
        target = WORK / "url.sqfs"
        shutil.copyfile(OLD, target)
        outcome = run(["pull", server.url + "?x=1", "--digest", digest_of(NEW_BYTES), "-o", str(target)], WORK / "nothing")
        assert outcome.returncode == 0 and target.read_bytes() == NEW_BYTES, f"a table that is {name}: {outcome.stderr}"
        assert (server.sent < 1.1 * changed + 12000) == is_reused, f"a table that is {name}: {server.sent} bytes"
        assert len(notes(outcome)) == (1 if given and not is_reused else 0), f"a table that is {name}: {outcome.stderr}"


def main():
    old_blocks = set(name for _, name in read_table(table_of(OLD)))
    new = read_table(table_of(NEW))
    tree = new[-1]
    changed = sum(length for length, name in new if name not in old_blocks and (length, name) != tree)
    assert changed < len(NEW_BYTES) / 4, "the images of this test have too little in common"
    for image, tag in ((OLD, "old"), (NEW, "new")):
        for _ in range(2):  # Deterministic: the second one changes nothing.
            outcome = run(["push", image, f"{UPSTREAM}/x:{tag}", "-q"], WORK / "nothing")
            assert outcome.returncode == 0, outcome.stderr
    for case in (few_bytes, damaged_old, hostile_tables, no_ranges, killed, urls, faulty):
        print(f"-- {case.__name__}", flush=True)
        case(changed)


main()
