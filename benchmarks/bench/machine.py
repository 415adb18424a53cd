"""The machine: directories, caches, what we are allowed to do here, and what the machine is."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / "build" / "bench"      # everything that a run leaves behind
SCRIPTS = PROJECT / "benchmarks" / "work"  # the Python programs that are measured


class Missing(Exception):
    """Something that is needed is not here: the part that needs it is left out, with this text."""


def sh(script, **options):
    """Runs a shell script outside every measurement; its error text goes into the exception."""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Missing(f"`{script}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def need(program, package=None):
    """The program's path. Raises Missing with the name of the package that has it."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(f"{program} is not installed (package {package or program})")
    return path


def drop_caches():
    """Makes every later read of a file come from the disk, except for what a process has mapped.

    The shell and mount(8) are read back in: they are in memory on any machine that has booted,
    so no contender is charged for them. Programs of Pyram's and of its peers stay cold.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    subprocess.run(["sh", "-c", "mount --version; umount --version; tar --version; xz --version"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def processor_times():
    """(seconds/100 that all processors worked, those that a hypervisor gave to others meanwhile)."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    stolen = fields[7] if len(fields) > 7 else 0
    return sum(fields[:3]) + sum(fields[5:7]) + stolen, stolen


def limits():
    """What this process may not do here, as {what: reason}. Nothing in it: everything works."""
    found = {}
    if os.geteuid() != 0:
        found["caches"] = "dropping the caches needs root"
        found["mounts"] = "kernel mounts need root"
        found["cgroups"] = "throttling needs root"
        return found
    if not os.access("/proc/sys/vm/drop_caches", os.W_OK):
        found["caches"] = "/proc/sys/vm/drop_caches is not writable"
    if not os.path.exists("/dev/loop-control"):
        found["mounts"] = "there is no /dev/loop-control"
    if not os.path.exists("/dev/fuse"):
        found["fuse"] = "there is no /dev/fuse"
    return found


def isolate():
    """Starts this program again in a mount namespace of its own with nothing in /run/pyram: a
    system mount of the measured image would be used, and warm. What a killed run leaves mounted
    goes with the namespace."""
    inside = "PYRAM_BENCH_ISOLATED"
    if os.geteuid() == 0 and inside not in os.environ and shutil.which("unshare"):
        os.environ[inside] = "1"
        os.makedirs("/run/pyram", mode=0o755, exist_ok=True)
        script = 'mount -t tmpfs -o mode=0755 none /run/pyram && exec "$@"'
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                              script, "sh", sys.executable, *sys.argv])


def disk_of(path):
    """MAJOR:MINOR of the whole disk that holds the path (throttles take no partition)."""
    device = os.stat(path).st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    block = Path("/sys/dev/block") / numbers
    if not block.exists():
        raise Missing(f"{path} does not lie on a block device")
    if (block / "partition").exists():
        return (block.resolve().parent / "dev").read_text().strip()
    return numbers


def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "missing"
    text = (done.stdout or done.stderr).strip()
    return text.splitlines()[0] if text else "missing"


def describe():
    """Processor, memory, kernel, distribution and the versions of what is compared."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    release = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    revision = subprocess.run(["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"],
                              capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "revision": revision,
        "processor": processor.group(1) if processor else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": int(memory.group(1)) // 1024 if memory else 0,
        "load": round(os.getloadavg()[1], 1),
        "kernel": platform.release(),
        "distribution": release.group(1) if release else "unknown",
        "filesystem": sh(f"stat -f -c %T {PROJECT}").strip(),
        "versions": {
            "squashfuse_ll": _first_line("dpkg-query", "-Wf", "${Version}", "squashfuse"),
            "erofs-utils": _first_line("dpkg-query", "-Wf", "${Version}", "erofs-utils"),
            "squashfs-tools": _first_line("dpkg-query", "-Wf", "${Version}", "squashfs-tools"),
            "CPython": _first_line("/usr/bin/python3", "-V"),
        },
    }
