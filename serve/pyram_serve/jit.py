"""How PyPy's compiler is set for a server.

PyPy counts how often each loop, function and guard runs, and compiles what reaches a threshold. It lets these
counts decay with every minor collection of garbage, so that what runs now and then is never compiled. A
server allocates much for each request: the counts of what runs once in a request decay faster than they grow,
and a Django site is compiled piece by piece over half a minute of full load. Here counts don't decay. In the
warm-up thresholds are lower too, since it asks for little else than what will be served.
"""

import contextlib

try:
    import pypyjit
except ImportError:  # Another Python.
    pypyjit = None

SERVING = "decay=0"
WARMING = "threshold=300,function_threshold=450,trace_eagerness=60"


def serve():
    """The settings of a process that serves."""
    if pypyjit:
        pypyjit.set_param(SERVING)


@contextlib.contextmanager
def warm_up():
    """Those of a warm-up, for as long as it takes."""
    if pypyjit:
        pypyjit.set_param(WARMING)
    try:
        yield
    finally:
        if pypyjit:
            pypyjit.set_param(",".join("%s=%d" % (name, pypyjit.defaults[name])
                                       for name in ("threshold", "function_threshold", "trace_eagerness")))
