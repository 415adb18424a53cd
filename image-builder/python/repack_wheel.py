"""Writes wheels anew without compression: the image compresses better than a wheel does.

Their certifi (pip has one) gets WHERE at its end, in place of what Debian has there.

usage: repack_wheel.py WHERE WHEEL...
"""

import base64
import hashlib
import os
import re
import sys
import zipfile


def adapt(text, where):
    """certifi's core.py without Debian's last word, which knows one place only."""
    for piece in ("\n# Debian: Use system CA certs:", "\n# Pyram: "):
        text = text.partition(piece)[0]
    return text.rstrip("\n") + "\n" + where


def recorded(record, changed):
    for name, content in changed.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        line = f"{name},sha256={digest},{len(content)}"
        record = re.sub(rf"(?m)^{re.escape(name)},[^\r\n]*", line, record)
    return record


def repack(old, new, where):
    changed = {name: adapt(old.read(name).decode(), where).encode()
               for name in old.namelist() if name.endswith("/certifi/core.py")}
    for entry in sorted(old.infolist(), key=lambda entry: entry.filename):
        content = changed.get(entry.filename) or old.read(entry)
        if entry.filename.endswith(".dist-info/RECORD"):
            content = recorded(content.decode(), changed).encode()
        copy = zipfile.ZipInfo(entry.filename, entry.date_time)
        copy.external_attr = entry.external_attr
        copy.compress_type = zipfile.ZIP_STORED
        new.writestr(copy, content)


for name in sys.argv[2:]:
    with zipfile.ZipFile(name) as old, zipfile.ZipFile(name + ".new", "w") as new:
        repack(old, new, sys.argv[1])
    os.replace(name + ".new", name)
