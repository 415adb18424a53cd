"""size: what each form of the same content takes on the disk and to download."""

from .. import trees
from ..machine import Missing, sh

TITLE = "Size"
CONTENDERS = ["original", "same"]


def _disk_usage(path):
    return int(sh(f"du -s --block-size=1 --apparent-size {path}").split()[0])


def run(bench):
    image = bench.settings.image
    forms = {
        "original": lambda: _disk_usage(trees.original()),
        "same": lambda: _disk_usage(trees.same(image)),
        "pyram image": lambda: image.stat().st_size,
        "tar.xz -6": lambda: trees.tar_xz(image).stat().st_size,
        "tar.zst -19": lambda: trees.tar_zst(image).stat().st_size,
        "erofs lz4hc": lambda: trees.erofs(image).stat().st_size,
    }
    for name, size in forms.items():
        if bench.quick and name.startswith("tar.zst"):
            continue
        try:
            bench.add("bytes on disk", name, size() / 1e6, "MB")
        except (Missing, OSError) as reason:
            bench.missing(f"size of {name}", reason)
    packed = image.stat().st_size / trees.tar_xz(image).stat().st_size
    bench.note(f"the image is {packed:.2f} times a tar.xz -6 of its content, which has to be "
               "unpacked whole")
