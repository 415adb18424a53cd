"""size: what each form of the same content takes on the disk and to download."""

from .. import trees
from ..machine import Missing, sh

TITLE = "Size"
CONTENDERS = ["original", "same"]
WORK = "bytes on disk"


def run(bench):
    image = bench.settings.image
    forms = {  # each with what makes it
        "original": (trees.original, None),
        "same": (lambda: trees.same(image), "same"),
        "pyram image": (lambda: image, None),
        "tar.xz -6": (lambda: trees.tar_xz(image), "same.tar.xz"),
        "tar.zst -19": (lambda: trees.tar_zst(image), "same.tar.zst"),
        "erofs lz4hc": (lambda: trees.erofs(image), "same.erofs"),
    }
    for name, (made, recipe) in forms.items():
        if bench.quick and name.startswith("tar.zst"):
            continue
        try:
            count = f"du -s --block-size=1 --apparent-size {made()}"
            bench.add(WORK, name, int(sh(count).split()[0]) / 1e6, "MB")
            bench.command(WORK, name,
                          f"{trees.recipe(recipe, image)} && {count}" if recipe else count)
        except (Missing, OSError) as reason:
            bench.missing(f"size of {name}", reason)
    packed = image.stat().st_size / trees.tar_xz(image).stat().st_size
    bench.note(f"the image is {packed:.2f} times a tar.xz -6 of its content, which has to be "
               "unpacked whole")
