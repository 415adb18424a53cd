"""The client of a warm-up: a process that asks the worker that runs in the parent.

It is forked before the application is loaded, waits until it is told what to ask, and ends with its parent.
"""

import json
import os
import signal
import socket
import time

# A rate is requests per second of the worker's processor time: it tells how far its code is compiled, however
# busy the machine is.
WINDOW = 2.0  # Seconds of that for one measured rate.
PATIENCE = 3  # The rate rises no longer when so many windows in a row bring nothing better ...
RISE = 1.05  # ... than this times the best before. PyPy has plateaus in between.
BATCH = 10  # Requests between two looks at the clock.
LEAST = 4000  # Requests; PyPy compiles a function after 1,619 calls, and a rate before that says nothing.


class Hung(Exception):
    """A request that was not answered in time, as its only argument says it."""


class Alone(Exception):
    """The process that was asked is gone."""


class Plan:
    """What to ask of whom."""

    def __init__(self, order):
        self.parent = os.getppid()
        self.address = order["address"]  # A path, or [host, port, ...].
        self.family = socket.AF_UNIX
        if not isinstance(self.address, str):
            self.address = tuple(self.address[:2])
            self.family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self.most = order["seconds"]
        self.timeout = order["timeout"]
        self.requests = [tuple(request) for request in order["requests"]]
        self.over = tuple(order["over"])  # The request that ends the worker's loop.
        lines = "".join("%s: %s\r\n" % tuple(pair) for pair in order["headers"])
        self.heads = {request: ("%s %s HTTP/1.1\r\n%s\r\n" % (*request, lines)).encode("latin-1")
                      for request in [*self.requests, self.over]}


def ask(plan, request):
    """The status of an answer, which is read to its end; 0 for none."""
    until = time.monotonic() + plan.timeout
    with socket.socket(plan.family) as connection:
        connection.settimeout(plan.timeout)
        try:
            connection.connect(plan.address)
            connection.sendall(plan.heads[request])
            first = data = connection.recv(65536)
            while data:
                if time.monotonic() > until:
                    raise TimeoutError
                data = connection.recv(65536)
        except TimeoutError:
            raise Hung("%s %s" % request) from None
        except OSError:
            if os.getppid() != plan.parent:
                raise Alone from None
            return 0
    words = first.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def first_round(plan, end, report):
    """Asks each once, in time. What fails is not asked again."""
    answered = set()
    for request in dict.fromkeys(plan.requests):
        if time.monotonic() >= end:
            break
        status = ask(plan, request)
        if 200 <= status < 400:
            answered.add(request)
        else:
            report({"failed": "%s %s" % request, "status": status})
    plan.requests = [request for request in plan.requests if request in answered]


def processor_time():
    """Seconds that the parent's threads have run for. Where /proc is not shown, just the time."""
    try:
        with open("/proc/%d/stat" % os.getppid(), encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic()


def rounds(plan, end):
    """Asks on and on until the rate rises no longer, or the time is over. How many, and the rate of each
    window."""
    total, rates, best, since_best = 0, [], 0.0, 0
    while plan.requests and (since_best < PATIENCE or total < LEAST) and time.monotonic() < end:
        start, before = processor_time(), total
        while processor_time() < start + WINDOW and time.monotonic() < end:
            for _ in range(BATCH):
                ask(plan, plan.requests[total % len(plan.requests)])
                total += 1
        used = processor_time() - start
        if used > 0:
            rates.append((total - before) / used)
            since_best = 0 if rates[-1] > best * RISE else since_best + 1
            best = max(best, rates[-1])
    return total, rates


def work(plan, report):
    began = time.monotonic()
    try:
        first_round(plan, began + plan.most, report)
        total, rates = rounds(plan, began + plan.most)
        ask(plan, plan.over)
    except Hung as hung:
        report({"hung": hung.args[0]})
        return
    report({"warm": {"requests": total, "rates": rates, "seconds": time.monotonic() - began}})


def run(orders, report):
    """Waits for an order on the socket `orders`, does it and reports. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The terminal's; the parent ends this process.
    try:
        text = b"".join(iter(lambda: orders.recv(1 << 16), b""))
        if text:
            work(Plan(json.loads(text)), report)
    except (OSError, Alone):
        pass
    finally:
        os._exit(0)
