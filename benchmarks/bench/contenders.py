"""The ways to run Python that are compared. Each knows how to be mounted, started and removed,
as shell commands that a person can type."""

import shlex
import shutil
import subprocess
from pathlib import Path

from . import trees
from .machine import WORK, Missing, limits, need, sh
from .timing import Command


class Contender:
    """REQUIRES of a subclass: `name`, `title`, `arguments`; prepare() before anything else."""

    name = ""
    title = ""
    mounts = False            # whether a cold start has something to mount
    interpreter = "pypy"      # or "cpython"
    slow = False              # whether a start takes seconds, warm or cold
    environment: dict = {}

    def prepare(self, settings):
        """Makes what it needs (outside every measurement). Raises Missing where that can't be."""

    def arguments(self):
        """The interpreter's command line up to where Python's own arguments begin."""
        raise NotImplementedError

    def mount_script(self):
        return ""

    def unmount_script(self):
        return ""

    def mount_command(self):
        """What mounts it and nothing else; None where there is nothing to mount."""
        return Command(self.mount_script(), self.environment) if self.mount_script() else None

    def mount(self):
        if command := self.mount_command():
            sh(command.script, env=command.surroundings())

    def unmount(self):
        """Leaves nothing mounted and nothing running, whatever state it was in."""

    def root(self):
        """The directory in which the tree is seen once mounted; None where there is none."""
        return None

    def warm(self, arguments):
        """A start while everything is mounted."""
        return Command(f"exec {shlex.join([*self.arguments(), *arguments])}", self.environment)

    def cold(self, arguments):
        """A start that mounts first: what the person waits for."""
        mount = self.mount_script()
        started = f"exec {shlex.join([*self.arguments(), *arguments])}"
        return Command(f"{mount} && {started}" if mount else started, self.environment)


class Original(Contender):
    name, title = "original", "Debian's PyPy, unpacked on disk"

    def prepare(self, settings):
        self.usr = trees.original()

    def arguments(self):
        return trees.interpreter_of_original(self.usr)

    def root(self):
        return self.usr


class Same(Contender):
    name, title = "same", "the image's content, unpacked on disk"

    def prepare(self, settings):
        self.tree = trees.same(settings.image)

    def arguments(self):
        return trees.interpreter_of_image(self.tree)

    def root(self):
        return self.tree


class _Mounted(Contender):
    """Something mounted on a directory of its own under build/bench/mnt."""

    mounts = True

    def prepare(self, settings):
        self.image = settings.image
        self.mountpoint = WORK / "mnt" / self.name
        self.mountpoint.mkdir(parents=True, exist_ok=True)

    def arguments(self):
        return trees.interpreter_of_image(self.mountpoint)

    def unmount_script(self):
        return f"umount {self.mountpoint}"

    def unmount(self):
        while _is_mounted(self.mountpoint):
            _tidy(self.unmount_script())

    def root(self):
        return self.mountpoint


class Squashfs(_Mounted):
    name, title = "squashfs", "kernel squashfs, same image"

    def prepare(self, settings):
        _needs("mounts")
        super().prepare(settings)

    def mount_script(self):
        return f"mount -t squashfs -o loop,ro {self.image} {self.mountpoint}"


class Erofs(_Mounted):
    name, title = "erofs", "kernel erofs, lz4hc, same content"

    def prepare(self, settings):
        _needs("mounts")
        super().prepare(settings)
        self.image = trees.erofs(settings.image)

    def mount_script(self):
        return f"mount -t erofs -o loop,ro {self.image} {self.mountpoint}"


class SquashfuseLl(_Mounted):
    name, title = "squashfuse_ll", "Debian's squashfuse_ll, same image"

    def prepare(self, settings):
        _needs("fuse")
        self.program = need("squashfuse_ll", "squashfuse")
        super().prepare(settings)

    def mount_script(self):
        return f"{self.program} {self.image} {self.mountpoint}"


class NewerSquashfuseLl(SquashfuseLl):
    name, title = "squashfuse_ll-new", f"squashfuse_ll of Debian {trees.SUITE}, same image"

    def prepare(self, settings):
        super().prepare(settings)
        self.program = trees.newer_squashfuse()


class PyramMount(_Mounted):
    """The daemon by itself: the mounted PyPy started as the directory's is, without the launcher."""

    name, title = "pyram-mount", "pyram-mount, PyPy started without the launcher"

    def prepare(self, settings):
        _needs("fuse")
        self.program = settings.program("pyram-mount")
        super().prepare(settings)

    def mount_script(self):
        return f"{self.program} {self.image} {self.mountpoint}"


class Pyram(Contender):
    name, title = "pyram", "pyram"
    mounts = True

    def prepare(self, settings):
        _needs("fuse")
        self.program = settings.program("pyram")
        self.daemon = settings.program("pyram-mount")
        self.image = settings.image
        self.runtime = WORK / "run" / self.name
        self.runtime.mkdir(parents=True, exist_ok=True)
        self.runtime.chmod(0o700)
        self.environment = {"XDG_RUNTIME_DIR": str(self.runtime), "PYRAM_IMAGE": str(self.image)}

    def arguments(self):
        return [str(self.program)]

    def mount_command(self):
        return self.warm(["-c", "pass"])

    def mountpoints(self):
        return [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text()
                .splitlines() if line.split()[4].startswith(str(self.runtime))]

    def unmount_script(self):
        return f"findmnt -rno TARGET | grep -F {self.runtime}/ | xargs -r umount"

    def unmount(self):
        if self.mountpoints():
            _tidy(self.unmount_script())

    def root(self):
        return next(iter(self.mountpoints()), None)


class Extraction(Pyram):
    """The launcher's last way, for where nothing can be mounted: the content in RAM."""

    name, title = "extraction", "pyram, extracting into RAM"
    slow = True

    def prepare(self, settings):
        super().prepare(settings)
        self.environment = {**self.environment, "PYRAM_BACKEND": "extract"}

    def root(self):
        return None

    def unmount_script(self):
        # Links to the content, in /dev/shm, where others' content may be beside it.
        return (f'for link in {self.runtime}/pyram/*; do '
                'if content=$(readlink -e "$link") && [ -L "$link" ]; then '
                'rm -r "$content"; rmdir --ignore-fail-on-non-empty "${content%/*}"; fi; done; '
                f'rm -rf {self.runtime}/pyram')

    def unmount(self):
        if (self.runtime / "pyram").exists():
            _tidy(self.unmount_script())


class Ancestor(Contender):
    """A new tmpfs, the whole tree out of a tar.xz, run, remove: at every start."""

    name, title = "ancestor", "PyRAM's way: tmpfs, tar -xJ, run, remove"
    slow = True

    def prepare(self, settings):
        _needs("mounts")
        self.image = trees.tar_xz(settings.image)
        self.mountpoint = WORK / "mnt" / self.name
        self.mountpoint.mkdir(parents=True, exist_ok=True)

    def arguments(self):
        return trees.interpreter_of_image(self.mountpoint)

    def cold(self, arguments):
        started = shlex.join([*self.arguments(), *arguments])
        return Command(f"mount -t tmpfs none {self.mountpoint} && "
                       f"tar -xJf {self.image} -C {self.mountpoint} && {started}; "
                       f"code=$?; umount {self.mountpoint}; exit $code")

    def warm(self, arguments):
        return self.cold(arguments)

    def unmount(self):
        if _is_mounted(self.mountpoint):
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=False)


class CPython(Contender):
    """The machine's CPython. Its program is copied, so that the page cache of the one that runs
    this harness doesn't warm it."""

    name, title = "cpython", "the machine's CPython 3"
    interpreter = "cpython"

    def prepare(self, settings):
        if not Path("/usr/bin/python3").exists():
            raise Missing("/usr/bin/python3 is not installed (package python3)")
        self.program = WORK / "cpython"
        if not self.program.exists():
            shutil.copy("/usr/bin/python3", self.program)
        self.environment = {"PYTHONHOME": "/usr"}

    def arguments(self):
        return [str(self.program)]


ALL = [Original, Same, Squashfs, Erofs, SquashfuseLl, NewerSquashfuseLl, PyramMount, Pyram,
       Extraction, Ancestor, CPython]


def _tidy(script):
    subprocess.run(["sh", "-c", script], capture_output=True, check=False)


def _needs(what):
    if what in limits():
        raise Missing(limits()[what])


def _is_mounted(directory):
    return any(line.split()[4] == str(directory)
               for line in Path("/proc/self/mountinfo").read_text().splitlines())


def prepared(settings, names=None):
    """The contenders that can run here, and {name: why it can't} for the others."""
    usable, missing = [], {}
    for kind in ALL:
        if names and kind.name not in names:
            continue
        contender = kind()
        try:
            contender.prepare(settings)
            usable.append(contender)
        except (Missing, OSError, StopIteration) as reason:
            missing[kind.name] = str(reason) or type(reason).__name__
    return usable, missing
