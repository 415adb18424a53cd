# What a process can see of the way in which it was started, as lines of text.
import os
import resource
import sys


def link(path):
    try:
        return os.readlink(path)
    except OSError as error:
        return error.__class__.__name__


print("argv", [os.fsencode(argument) for argument in sys.argv])
print("orig_argv", [os.fsencode(argument) for argument in getattr(sys, "orig_argv", [])[1:]])
print("flags", sys.flags)
print("xoptions", sorted(sys._xoptions.items()), "warnings", sys.warnoptions)
print("path", sys.path)
print("file", globals().get("__file__"), "name", __name__, "package", __package__)
print("prefix", sys.prefix, sys.base_prefix, sys.exec_prefix)
print("executable", sys.executable)
print("environment", sorted(os.environb.items()))
# The one that lists the directory is in the list too, and already closed.
fds = [int(name) for name in os.listdir("/proc/self/fd")]
print("descriptors", [(fd, os.get_inheritable(fd)) for fd in sorted(fds)
                      if os.path.exists("/proc/self/fd/%d" % fd)])
print("directory", link("/proc/self/cwd"))
with open("/proc/self/status") as status:
    print("status", [line.split() for line in status
                     if line.startswith(("SigBlk", "SigIgn", "Umask", "NoNewPrivs", "Cap", "Uid"))])
print("limits", [resource.getrlimit(limit) for limit in range(16)])
print("streams", sys.stdin and sys.stdin.encoding, sys.stdout.encoding, sys.stdout.errors)
print("nice", os.nice(0), "leader", os.getsid(0) == os.getpid())
