"""Writes wheels anew without compression: the image compresses better than a wheel does.

usage: repack_wheel.py WHEEL...
"""

import os
import sys
import zipfile

for name in sys.argv[1:]:
    with zipfile.ZipFile(name) as old, zipfile.ZipFile(name + ".new", "w") as new:
        for entry in sorted(old.infolist(), key=lambda entry: entry.filename):
            copy = zipfile.ZipInfo(entry.filename, entry.date_time)
            copy.external_attr = entry.external_attr
            copy.compress_type = zipfile.ZIP_STORED
            new.writestr(copy, old.read(entry))
    os.replace(name + ".new", name)
