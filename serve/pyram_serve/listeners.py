"""gunicorn's listeners of sockets that are there already: those of the keeper, and of systemd.

gunicorn itself takes each for one of the file system, and asks it for its address. PyPy then reads every address
as one of the file system: after a reload a client's would be nonsense, and count as that of a trusted proxy.
"""

import os
import socket


def _family(descriptor):
    with socket.socket(fileno=os.dup(descriptor), family=socket.AF_UNIX, type=socket.SOCK_STREAM) as any_family:
        return any_family.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)


def taken_over(descriptors, cfg, log):
    """A listener of each. It has a copy of the descriptor."""
    from gunicorn import sock
    classes = {socket.AF_UNIX: sock.UnixSocket, socket.AF_INET: sock.TCPSocket, socket.AF_INET6: sock.TCP6Socket}
    result = []
    for descriptor in descriptors:
        family = _family(descriptor)
        with socket.socket(fileno=os.dup(descriptor), family=family, type=socket.SOCK_STREAM) as listening:
            address = listening.getsockname()
        # gunicorn closes the descriptor that it gets.
        result.append(classes[family](address, cfg, log, fd=os.dup(descriptor)))
    return result
