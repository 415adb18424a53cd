"""A reload into another image (--image FILE): what a process hands to its successor through exec.

A generation that is forked runs out of the keeper's image. The next one is to run out of the image that FILE
is now, so the forked child becomes `pyram --image FILE -m pyram_serve --generation`. Once it is ready, the
keeper becomes `... --keeper`, and nothing holds the old image any more. Process numbers, sockets and children
survive an exec; what is known about them goes along in a variable.
"""

import json
import os
import signal
import socket
import sys

# Another version of this package is on the other side. One that doesn't know this number says so before it
# is too late: as a generation, while the old one serves.
PROTOCOL = 1
VARIABLE = "PYRAM_SERVE_HANDOVER"
GENERATION, KEEPER = "--generation", "--keeper"


class Failed(Exception):
    """No successor, in one line."""


def become(image, role, words, facts, descriptors):
    """Ends this program, with `descriptors` open in the next. Throws Failed."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    environment = dict(os.environ)
    environment[VARIABLE] = json.dumps(dict(facts, protocol=PROTOCOL, descriptors=descriptors))
    try:
        os.execvpe("pyram", ["pyram", "--image", image, "-m", "pyram_serve", role, *words], environment)
    except OSError as error:
        raise Failed("cannot start pyram: %s" % error.strerror) from None
    finally:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)


def receive():
    """The facts, in the successor. Throws Failed."""
    try:
        facts = json.loads(os.environ.pop(VARIABLE))
    except (KeyError, ValueError):
        raise Failed("%s and %s are for pyram_serve's own use" % (GENERATION, KEEPER)) from None
    for descriptor in facts["descriptors"]:
        os.set_inheritable(descriptor, False)
    if facts["protocol"] != PROTOCOL:
        why = "the image's pyram_serve cannot take over from the one that runs; restart the service"
        if "channel" in facts:
            tell(channel_of(facts["channel"]), why)
        raise Failed(why)
    return facts


def channel_of(descriptor):
    """Between keeper and generation."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=descriptor)


def block(numbers):
    """Signals wait from here on: a program that just begins would be ended by them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def unblock(numbers):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def tell(channel, why):
    """Why there is no generation."""
    try:
        channel.send(json.dumps({"why": " ".join(why.split())}).encode("utf-8", "replace")[:1 << 15])
    except (OSError, ValueError):
        pass


def run_generation(channel, options, arguments, listeners, seconds, skipped):
    """A generation, in its own process. Never returns. Where it fails it tells the keeper why."""
    code = 1
    try:
        from . import generation
        code = generation.run(channel, options, arguments, listeners, seconds, skipped)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if isinstance(leave.code, str):
            print(leave.code, file=sys.stderr)
            tell(channel, leave.code.removeprefix("pyram_serve: "))
    except BaseException as error:  # noqa: B902 the last one to see it
        import traceback
        traceback.print_exc()
        tell(channel, "%s: %s" % (type(error).__name__, error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
