"""What the warm-up asks for: a list of paths, or an access log. Only requests that change nothing."""

import re

SAFE = ("GET", "HEAD")
MOST = 2000  # Lines; a log's last ones.
_LOGGED = re.compile(r'"([A-Z]+) (\S+)(?: HTTP/[0-9.]+)?" (\d{3})\b')
_WRITTEN = re.compile(r"(?:([A-Z]+)\s+)?(\S+)$")


def _path(target):
    """The path and query of what a line names, or None."""
    if "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    target = target.partition("#")[0]
    if not target.startswith("/") or any(ord(letter) < 33 or ord(letter) > 126 for letter in target):
        return None
    return target


def parse(lines):
    """([(method, path)], {reason: how many lines were left out}). In a log's order, so that what is asked
    for often is warmed up more."""
    requests, left_out = [], {}

    def leave_out(reason):
        left_out[reason] = left_out.get(reason, 0) + 1

    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        logged = _LOGGED.search(line)
        written = None if logged else _WRITTEN.match(line)
        if not logged and not written:
            leave_out("not a request")
            continue
        method, target = (logged or written).group(1, 2)
        path = _path(target)
        if (method or "GET") not in SAFE:
            leave_out("not GET or HEAD")
        elif path is None:
            leave_out("no path")
        elif logged and int(logged.group(3)) >= 400:
            leave_out("answered with an error then")
        else:
            requests.append((method or "GET", path))
    return requests[-MOST:], left_out


def read(name):
    with open(name, encoding="utf-8", errors="replace") as file:
        return parse(file)
