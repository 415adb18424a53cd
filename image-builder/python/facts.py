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
sites = [directory for directory in site.getsitepackages() if os.path.isdir(directory)]
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
        "stdlib": os.path.dirname(os.__file__),
        "sites": sites,
        "site_for_new": sysconfig.get_path("purelib"),
    },
    sys.stdout,
)
