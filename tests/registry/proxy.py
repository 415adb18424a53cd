"""A proxy before a registry that asks who one is, and breaks things when it is told to. Of the tests."""

import base64
import http.client
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

USER, SECRET = "somebody", "opensesame"


class Fault:
    """What goes wrong, at which moment, how far into the bytes (0 to 1), and how often."""

    def __init__(self, moment, kind, where=0.5, times=1):
        self.moment, self.kind, self.where, self.times = moment, kind, where, times

    def __repr__(self):
        return f"{self.kind} at {self.moment} ({self.where:.2f}) {'always' if self.times > 99 else 'once'}"


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream, faults=(), auth=None, uses=1 << 30, referrers=False, port=0, line=None):
        """auth: None, "basic" or "token"; a token is good for `uses` requests. referrers: say that it keeps account of
        them. line: a Line, as slow as the network that it stands for."""
        self.line, self.ranges, self.spoiled = line, [], []
        self.gone = False
        self.holds, self.held, self.changed = (lambda first, last: False), 0, threading.Condition()
        super().__init__(("127.0.0.1", port), Handler)
        self.referrers, self.kept, self.elsewhere, self.told = referrers, None, None, set()
        self.upstream, self.faults, self.auth, self.uses = upstream, list(faults), auth, uses
        self.tokens, self.lock, self.log, self.sent = {}, threading.Lock(), [], 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # Clients that are broken off break off.

    def take_fault(self, moment):
        """The first fault that is still to come has to be of this moment."""
        with self.lock:
            if not self.faults or self.faults[0].moment != moment:
                return None
            fault = self.faults[0]
            fault.times -= 1
            if fault.times <= 0:
                self.faults.pop(0)
            return fault

    def hold(self, holds):
        """From now on, answers with bytes FIRST to LAST of a blob wait as long as holds(FIRST, LAST)."""
        with self.changed:
            self.holds = holds
            self.changed.notify_all()

    def go(self):
        """As if there were no network any more, also for connections that are open."""
        with self.changed:
            self.gone = True
            self.changed.notify_all()
        self.shutdown()
        self.server_close()

    def wait_until_held(self, count):
        """Until so many answers wait."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.held >= count, 60), f"only {self.held} answers wait"

    def note_range(self, first, last):
        with self.changed:
            self.held += 1
            self.changed.notify_all()
            while self.holds(first, last) and not self.gone:
                self.changed.wait(0.05)  # A predicate may change by itself.
            self.held -= 1
            if self.gone:
                raise ConnectionError
            self.ranges.append((first, last))

    def new_token(self):
        with self.lock:
            token = f"token-{len(self.tokens)}"
            self.tokens[token] = self.uses
            return token

    def use_token(self, token):
        with self.lock:
            left = self.tokens.get(token, 0)
            self.tokens[token] = left - 1
            return left > 0


class Line:
    """So many bits a second for all together, and so long there and back."""

    def __init__(self, bits, seconds):
        self.rate, self.delay, self.lock, self.free = bits / 8, seconds, threading.Lock(), 0.0
        self.carried = 0  # Bytes.

    def carry(self, size):
        with self.lock:
            self.carried += size
            self.free = max(self.free, time.monotonic()) + size / self.rate
            until = self.free
        time.sleep(max(0, until - time.monotonic()))


def moment_of(method, path):
    path = urlsplit(path).path
    if path == "/token":
        return "token"
    if "/blobs/uploads/" in path:
        return {"POST": "start", "PATCH": "patch", "PUT": "finish", "GET": "state"}.get(method, "other")
    if "/blobs/" in path:
        return "blob" if method == "GET" else "look"
    if "/manifests/" in path:
        if "/manifests/sha256-" in path:
            return "referrers" if method == "GET" else "put-referrers"
        return "manifest" if method == "GET" else "put-manifest"
    return "other"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def setup(self):
        if self.server.line:
            time.sleep(self.server.line.delay)  # To make a connection.
        super().setup()

    def handle_any(self):
        server = self.server
        if server.gone:
            self.close_connection = True
            return
        moment = moment_of(self.command, self.path)
        server.log.append((self.command, self.path, self.headers.get("Content-Range") or self.headers.get("Range")))
        server.told.add(self.headers.get("Authorization"))
        fault = server.take_fault(moment)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.kind in ("reset", "close", "stall") and length:
            # Goes wrong while the client sends.
            received = self.rfile.read(int(length * fault.where))
            if moment == "patch" and fault.kind != "reset":
                self.forward_part(received)
            return self.break_off(fault.kind)
        if fault and fault.kind == "keep":
            return self.keep_part(self.rfile.read(int(length * fault.where)))
        body = self.rfile.read(length) if length else None
        if moment == "token":
            status, headers, data = self.make_token()
        elif not self.is_allowed():
            status, headers, data = self.challenge()
        elif moment == "state" and server.kept:
            status, headers, data = 204, server.kept, b""
        else:
            if fault and fault.kind == "ignore-range":
                del self.headers["Range"]
            if fault and fault.kind == "other-range" and self.headers["Range"]:
                first = int(self.headers["Range"].split("=")[1].split("-")[0])
                self.headers.replace_header("Range", f"bytes={max(first - 7, 0)}-")
            status, headers, data = self.forward(body)
            if server.referrers and moment == "put-manifest" and b'"subject"' in body:
                headers.append(("OCI-Subject", json.loads(body)["subject"]["digest"]))
        self.reply(fault, status, headers, data)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = handle_any

    # ---- who one is

    def is_allowed(self):
        given = self.headers.get("Authorization") or ""
        if self.server.auth == "basic":
            return given == "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        if self.server.auth == "token":
            return self.server.use_token(given.removeprefix("Bearer "))
        return True

    def challenge(self):
        if self.server.auth == "basic":
            how = 'Basic realm="here"'
        else:
            how = f'Bearer realm="http://{self.server.host}/token",service="here",scope="repository:x:pull,push"'
        return 401, [("WWW-Authenticate", how)], b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}'

    def make_token(self):
        given = self.headers.get("Authorization") or ""
        if given != "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode():
            return 401, [], b"{}"
        assert "scope" in parse_qs(urlsplit(self.path).query)
        return 200, [], json.dumps({"token": self.server.new_token()}).encode()

    # ---- the registry behind

    def forward(self, body):
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in ("authorization", "connection", "expect", "host")}
        # The registry makes its addresses of this: so that all goes through here.
        headers["Host"] = self.server.host
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        kept = [(name, value) for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "date")]
        connection.close()
        return response.status, kept, data

    def forward_part(self, received):
        """A beginning of what is sent comes through, and then the line is cut."""
        target = urlsplit(self.path)
        with socket.create_connection(self.server.upstream.split(":")) as line:
            line.sendall(f"PATCH {target.path}?{target.query} HTTP/1.1\r\nHost: {self.server.host}\r\n"
                         "Content-Type: application/octet-stream\r\n"
                         f"Content-Length: {self.headers['Content-Length']}\r\n\r\n".encode() + received)

    def keep_part(self, received):
        """As registries do that can go on with an upload that broke; Debian's can't."""
        self.headers.replace_header("Content-Length", str(len(received)))
        _, headers, _ = self.forward(received)
        self.server.kept = [(name, value) for name, value in headers if name in ("Location", "Range")]
        self.break_off("close")

    # ---- what goes wrong

    def break_off(self, kind):
        self.close_connection = True
        if kind == "stall":
            self.connection.settimeout(90)
            while self.connection.recv(1 << 16):  # Until the client has had enough.
                pass
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def start(self, status, headers, length):
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def reply(self, fault, status, headers, data):
        is_head = self.command == "HEAD"
        line, given = self.server.line, dict(headers).get("Content-Range")
        if line:
            time.sleep(line.delay)
        if status == 206 and given:
            first, last = map(int, given.split(" ")[1].split("/")[0].split("-"))
            self.server.note_range(first, last)
            for place in self.server.spoiled:
                if first <= place <= last:
                    data = data[:place - first] + bytes([data[place - first] ^ 1]) + data[place - first + 1:]
        if line and not fault:
            self.start(status, headers, len(data))
            for at in range(0, len(data), 8192):
                line.carry(len(data[at:at + 8192]))
                self.wfile.write(data[at:at + 8192])
                self.wfile.flush()
            self.server.sent += len(data)
            return
        if fault is None or fault.kind in ("ignore-range", "other-range", "none"):
            length = dict(headers).get("Content-Length", len(data)) if is_head else len(data)
            self.start(status, headers, length)
            self.wfile.write(b"" if is_head else data)
            self.server.sent += len(data)
            return
        at = min(int(len(data) * fault.where), max(len(data) - 1, 0))
        kind = fault.kind
        if kind.isdigit():
            text = json.dumps({"errors": [{"code": "BROKEN", "message": "on purpose\x1b[31m\n\"\u009b"}]}).encode()
            self.start(int(kind), [("Retry-After", "0")], len(text))
            self.wfile.write(b"" if is_head else text)
        elif kind in ("stall", "reset", "close"):
            self.start(status, headers, len(data) or 100)
            self.wfile.write(data[:at])
            self.wfile.flush()
            self.break_off(kind)
        elif kind == "flip":
            changed = bytearray(data)
            if changed:
                changed[at] ^= 1
            self.start(status, headers, len(changed))
            self.wfile.write(changed)
        elif kind == "short":
            self.start(status, headers, at)
            self.wfile.write(data[:at])
        elif kind == "long":
            self.start(status, headers, len(data) + 1000)
            self.wfile.write(data + bytes(1000))
        elif kind == "no-length":
            self.close_connection = True
            self.start(status, headers + [("Connection", "close")], None)
            self.wfile.write(data)
        elif kind == "garbage":
            self.close_connection = True
            self.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n" + data[:at])
        elif kind == "headers":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 0123456789\r\n" * 20000)
        elif kind == "loop":
            self.start(307, [("Location", self.path)], 0)
        elif kind == "elsewhere":  # As registries do that keep blobs with a storage service.
            self.start(307, [("Location", f"http://localhost:{self.server.elsewhere}{self.path}?signature=secret")], 0)
        elif kind == "scheme":
            self.start(307, [("Location", "file:///etc/passwd")], 0)
        elif kind == "drip":
            self.start(status, headers, len(data) or 100)
            self.close_connection = True
            for index in range(at, len(data)):
                self.connection.settimeout(0.05)
                self.wfile.write(data[index:index + 1])
                try:
                    if not self.connection.recv(1):
                        return
                except TimeoutError:
                    pass
        else:
            raise AssertionError(kind)
