"""What the contenders run from, made once and kept in build/bench: Debian's PyPy as its packages
unpack it ("original"), our image's content unpacked ("same"), and that content in other formats."""

import os
import shutil
import subprocess
from pathlib import Path

from .machine import WORK, Missing, need, sh

SUITE = "trixie"
WANTED = ["pypy3", "python3-django", "python3-pymysql", "tzdata"]
# What apt brings along for Debian's own bookkeeping or for CPython, and PyPy doesn't use.
NOT_PYPYS = ("debconf", "dpkg", "libpython3", "python3-minimal", "python3.", "python3_", "tar_",
             "libacl1", "libselinux1", "libmd0", "libpcre2", "libdb5", "libuuid1")


def _fetch_packages(directory, wanted):
    """Debian's packages, checked by apt against Debian's keys, through a private apt root."""
    need("apt-get", "apt")
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (directory / "etc/sources.list").write_text(
        f"deb [signed-by={keyring}] http://deb.debian.org/debian {SUITE} main\n")
    machine = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True,
                             check=True).stdout.strip()
    configuration = directory / "apt.conf"
    configuration.write_text(
        f'Dir "{directory}"; Dir::State "{directory}/state"; Dir::State::status "{directory}/status";\n'
        f'Dir::Cache "{directory}/cache"; Dir::Etc "{directory}/etc"; Dir::Etc::trusted "-";\n'
        f'Dir::Etc::sourcelist "{directory}/etc/sources.list"; Dir::Etc::sourceparts "-";\n'
        'Dir::Etc::trustedparts "-"; APT::Sandbox::User "root"; Acquire::Languages "none";\n'
        f'APT::Architecture "{machine}"; APT::Architectures {{"{machine}";}};\n'
        'APT::Install-Recommends "false";\n')
    environment = {**os.environ, "APT_CONFIG": str(configuration),
                   "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--download-only", "-y", *wanted]):
        done = subprocess.run(["apt-get", "-q", *arguments], env=environment,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"apt-get {arguments[0]} of {SUITE}'s packages failed: "
                          f"{done.stderr.strip().splitlines()[-1:]}")
    return directory / "cache/archives"


def original():
    """The /usr of Debian's packages on disk, everything byte-compiled by PyPy itself."""
    tree = WORK / "original"
    if (tree / "complete").exists():
        return tree / "usr"
    print("making the original tree (once): fetching, unpacking and byte-compiling", flush=True)
    shutil.rmtree(tree, ignore_errors=True)
    debs = os.environ.get("PYRAM_BENCH_DEBS")
    archives = Path(debs) if debs else _fetch_packages(WORK / "apt", WANTED)
    for package in sorted(archives.glob("*.deb")):
        if not package.name.startswith(NOT_PYPYS):
            sh(f"dpkg-deb -x {package} {tree}")
    usr = tree / "usr"
    library = next(usr.glob("lib/pypy3.*"))
    # Exit code 1 is for the few files that are wrong on purpose (test data).
    subprocess.run([*interpreter_of_original(usr), "-m", "compileall", "-q", str(library),
                    str(usr / "lib/python3/dist-packages")],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    (tree / "complete").touch()
    return usr


def newer_squashfuse():
    """squashfuse_ll of a newer Debian than the machine's, as a command line through its own loader."""
    tree = WORK / "squashfuse"
    if not (tree / "complete").exists():
        print("making a newer squashfuse (once): fetching and unpacking", flush=True)
        shutil.rmtree(tree, ignore_errors=True)
        for package in sorted(_fetch_packages(WORK / "apt-squashfuse", ["squashfuse"]).glob("*.deb")):
            sh(f"dpkg-deb -x {package} {tree}")
        (tree / "complete").touch()
    loader = next((tree / "usr").glob("lib/*-linux-gnu/ld-linux-*.so.*"))
    return f"{loader} --library-path {loader.parent} {tree}/usr/bin/squashfuse_ll"


def interpreter_of_original(usr):
    """Debian's pypy3 through its own loader, as it may need a newer glibc than the machine's."""
    loader = next(usr.glob("lib/*-linux-gnu/ld-linux-*.so.*"))
    return [str(loader), "--argv0", str(usr / "bin/pypy3"), "--library-path", str(loader.parent),
            str(usr / "bin/pypy3")]


def interpreter_of_image(root):
    """The image's PyPy under that directory, started exactly as pyram starts it."""
    return [f"{root}/libexec/pyram/loader/pypy3", "--argv0", f"{root}/bin/pypy3",
            "--library-path", f"{root}/libexec/pyram", f"{root}/libexec/pyram/pypy3"]


# What is made of an image: build/bench/NAME, and the script that makes it.
_SAME = WORK / "same"
_RECIPES = {
    "same": f"unsquashfs -q -n -d {_SAME} {{image}}",
    "same.erofs": f"mkfs.erofs -zlz4hc,12 -Eztailpacking {_SAME}.erofs {_SAME} >/dev/null",
    "same.tar.xz": f"tar -C {_SAME} -cf - . | xz -6 -T0 >{_SAME}.tar.xz",
    "same.tar.zst": f"tar -C {_SAME} -cf - . | zstd -q -19 -T0 -o {_SAME}.tar.zst",
}


def recipe(name, image):
    """The shell command that makes build/bench/NAME, in the place of what is there."""
    return f"rm -rf {WORK / name} && " + _RECIPES[name].format(image=image)


def _derived(image, name):
    """build/bench/NAME, made again for a new image."""
    out = WORK / name
    stamp = WORK / f".{name}.of"
    state = f"{image} {image.stat().st_size} {image.stat().st_mtime_ns}"
    if out.exists() and stamp.exists() and stamp.read_text() == state:
        return out
    print(f"making {name} (once)", flush=True)
    sh(recipe(name, image), env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
    stamp.write_text(state)
    return out


def same(image):
    """The image's content, unpacked on disk."""
    need("unsquashfs", "squashfs-tools")
    return _derived(image, "same")


def erofs(image):
    need("mkfs.erofs", "erofs-utils")
    same(image)
    return _derived(image, "same.erofs")


def tar_xz(image):
    need("xz", "xz-utils")
    same(image)
    return _derived(image, "same.tar.xz")


def tar_zst(image):
    need("zstd")
    same(image)
    return _derived(image, "same.tar.zst")
