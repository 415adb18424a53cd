"""Asks a site on and on, by four clients, until a file appears. usage: load.py SOCKET STOP

Prints what it got; ends with 1 where anything failed.
"""

import collections
import http.client
import os
import socket
import sys
import threading
import time

CLIENTS = 4


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(sys.argv[1])


def ask(answers, failures, times):
    while not os.path.exists(sys.argv[2]):
        began = time.monotonic()
        try:
            connection = Unix("localhost", timeout=120)
            connection.request("GET", "/", headers={"Host": "localhost", "X-Forwarded-Proto": "https"})
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            if answer.status == 200:
                answers[text] += 1
            else:
                failures.append("%d: %s" % (answer.status, text[:200]))
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
        times.append(time.monotonic() - began)


def main():
    answers, failures, times = collections.Counter(), [], []
    threads = [threading.Thread(target=ask, args=(answers, failures, times)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    for thread in threads:
        thread.join()
    print("%d requests, %d failed, the slowest took %.2f s: %s"
          % (len(times), len(failures), max(times), dict(answers)))
    for failure in failures[:10]:
        print("failed:", failure)
    return bool(failures)


sys.exit(main())
