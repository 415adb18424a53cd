"""Says, as JSON on stdout, what the builder has to know of the interpreter that runs this.

Everything that differs from one version of PyPy to the next is asked here, and nowhere else.
"""

import importlib.machinery
import json
import os
import platform
import site
import sys
import sysconfig

version = "%d.%d" % sys.version_info[:2]
stdlib = os.path.dirname(os.__file__)
places = site.getsitepackages()
sites = [directory for directory in places if os.path.isdir(directory)]


def site_in_image():
    """Where an image has its packages: a place that this interpreter searches.

    Not in lib/ beside the standard library: virtualenv links whatever is there into its environments.
    """
    library = os.path.join(sys.prefix, "lib") + "/"
    for place in places:
        if place.startswith(stdlib + "/") or not place.startswith(library):
            return place
    return sysconfig.get_path("purelib")


json.dump(
    {
        "implementation": sys.implementation.name,
        "python": platform.python_version(),
        "pypy": "%d.%d.%d" % getattr(sys, "pypy_version_info", sys.version_info)[:3],
        "version": sys.version,
        "short_version": version,
        "cache_tag": sys.implementation.cache_tag,
        "extension_suffixes": importlib.machinery.EXTENSION_SUFFIXES,
        "soabi": sysconfig.get_config_var("SOABI") or "",
        "platform": sysconfig.get_platform(),
        "prefix": sys.prefix,
        "stdlib": stdlib,
        "sites": sites,
        "site_in_image": site_in_image(),
    },
    sys.stdout,
)
