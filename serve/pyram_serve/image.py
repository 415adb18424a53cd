"""The image of an app (`pyram-image app`): what it says of itself, in .pyram/app.json.

Its project lies in app/, its collected static files in static/.
"""

import json
import os
import sys


def find():
    """What the image is to serve, with its root as "root"; nothing outside of an app's image."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    try:
        with open(os.path.join(root, ".pyram/app.json"), encoding="utf-8") as file:
            app = json.load(file)
    except OSError:
        return None
    app["root"] = root
    return app


def prepare(app):
    """Has the project's modules found, and its settings. What the environment says comes first."""
    project = os.path.join(app["root"], "app")
    if project not in sys.path:
        sys.path.insert(0, project)
    if "settings" in app:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", app["settings"])


def use_static_files(app, options):
    """The collected files: where the project's own whitenoise looks, or served by one of ours."""
    if "static_url" not in app:
        return
    directory = os.path.join(app["root"], "static")
    from django.conf import settings
    settings.STATIC_ROOT = directory
    if not app.get("whitenoise"):
        options.static.append((app["static_url"], directory))


def apply(app, options):
    """The image's own in place of what the command line doesn't say."""
    urls = os.path.join(app["root"], ".pyram/urls")
    if not options.warm_up_urls and os.path.exists(urls):
        options.warm_up_urls = urls


def find_static_files(app):
    """Has templates find the names of the collected files (ManifestStaticFilesStorage). The settings are not
    loaded before the program does it, as it may choose others."""
    if "static_url" not in app:
        return
    from django.conf import LazySettings
    usual = LazySettings._setup

    def _setup(self, name=None):
        usual(self, name)
        self.STATIC_ROOT = os.path.join(app["root"], "static")

    LazySettings._setup = _setup


def manage(app, words):
    """Django's manage.py."""
    prepare(app)
    if words[:1] != ["collectstatic"]:  # Into a directory of the settings, for a web server.
        find_static_files(app)
    from django.core.management import execute_from_command_line
    execute_from_command_line(["manage.py", *words])
    return 0


def run_module(app, words):
    """Another program of the project or its packages, as by `python -m`, that finds the project's modules."""
    prepare(app)
    find_static_files(app)
    import importlib.util
    import runpy
    try:
        found = importlib.util.find_spec(words[0]) if words else None
    except ModuleNotFoundError as error:
        if not (words[0] + ".").startswith("%s." % error.name):
            raise  # The package that it is in needs another one.
        found = None
    except ValueError:  # No name of a module.
        found = None
    if found is None:
        print("pyram_serve: run takes a module that the image has%s" % (", not %r" % words[0] if words else ""), file=sys.stderr)
        return 64
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    return 0


def run_script(app, words):
    import runpy
    script = os.path.join(app["root"], "app", app["script"])
    sys.argv = [script, *words]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
