"""Looks at a project that becomes an app, in the app's own interpreter, and collects its static files.

usage: app_project.py ORDER

ORDER is a JSON file: "project" (a copy of it, to run in), "name" (of its directory), "static" (a directory to be
made), "application", "script" and "settings" (what the user said; may be empty). Prints what is to be served,
and as "project" what an SPDX document says of the project, as JSON. A failure is
one line on stderr.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import sys


def fail(text):
    print(" ".join(str(text).split()), file=sys.stderr)
    sys.exit(6)


def reason(error):
    return "%s: %s" % (type(error).__name__, " ".join(str(error).split()) or "no reason given")


def settings_of_manage(project):
    """The settings module that manage.py names."""
    try:
        with open(os.path.join(project, "manage.py"), encoding="utf-8", errors="replace") as file:
            found = re.search(r"""DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([\w.]+)['"]""", file.read())
    except OSError:
        return ""
    return found.group(1) if found else ""


def callable_name(dotted):
    """"mysite.wsgi.application" as "mysite.wsgi:application"."""
    module, _, name = dotted.rpartition(".")
    return module + ":" + name


def load(application):
    module, mark, name = application.partition(":")
    if not mark or not module or not name:
        fail("%r is no application; write MODULE:CALLABLE" % application)
    try:
        loaded = importlib.import_module(module)
        for part in name.removesuffix("()").split("."):
            loaded = getattr(loaded, part)
    except (Exception, SystemExit) as error:
        fail("cannot load the application %s: %s" % (application, reason(error)))
    if not callable(loaded):
        fail("cannot serve %s: it is no callable" % application)


def set_up_django(settings, static):
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        import django
    except ImportError:
        fail("the project is one of Django's, which is not among its requirements; add Django to them")
    from django.conf import settings as values
    try:
        # Before anything of the project runs: a storage keeps the directory that it finds at its first use.
        values.STATIC_ROOT = static
        django.setup()
    except (Exception, SystemExit) as error:
        fail("cannot set up Django with %s: %s (a variable that the settings need is given with --env "
             "NAME=VALUE; it is not put into the image)" % (settings, reason(error)))


def check_django():
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    try:
        call_command("check", stdout=io.StringIO(), stderr=io.StringIO())
    except SystemCheckError as error:
        fail("the project's checks fail: %s" % error)
    except Exception as error:
        fail("the project's checks fail: %s" % reason(error))


def collect(directory):
    """The project's static files go to `directory`. The URL of them, or None."""
    from django.conf import settings
    from django.core.management import call_command
    if "django.contrib.staticfiles" not in settings.INSTALLED_APPS or not settings.STATIC_URL:
        return None
    os.makedirs(directory)
    try:
        call_command("collectstatic", interactive=False, verbosity=0)
    except Exception as error:
        fail("cannot collect the static files: %s" % reason(error))
    return settings.STATIC_URL if settings.STATIC_URL.startswith("/") else None


def look_at_django(order, settings):
    set_up_django(settings, order["static"])
    check_django()
    from django.conf import settings as values
    application = order["application"]
    if not application:
        dotted = values.WSGI_APPLICATION or getattr(values, "ASGI_APPLICATION", None)
        if not dotted:
            fail("the settings name no WSGI_APPLICATION; name the application with --app MODULE:CALLABLE")
        application = callable_name(dotted)
    found = {"kind": "django", "settings": settings, "application": application}
    url = collect(order["static"])
    if url:
        found["static_url"] = url
        found["whitenoise"] = any("whitenoise" in name for name in values.MIDDLEWARE)
    return found


def verification_code(project):
    """SPDX's of all files of a package: a digest of their digests."""
    digests = []
    for directory, _, names in os.walk(project):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    digests.append(hashlib.sha1(file.read()).hexdigest())
    return hashlib.sha1("".join(sorted(digests)).encode()).hexdigest()


def describe(order):
    """The project as a package. To be asked before its code runs, which may write files."""
    import tomllib
    try:
        with open(os.path.join(order["project"], "pyproject.toml"), "rb") as file:
            text = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError):  # Whoever needs it says so.
        text = {}
    said = text.get("project") or text.get("tool", {}).get("poetry") or {}
    return {"name": str(said.get("name") or order["name"]), "version": str(said.get("version", "")),
            "verification": verification_code(order["project"])}


def look(order):
    project = order["project"]
    os.chdir(project)
    sys.path.insert(0, project)
    if order["script"]:
        if not os.path.isfile(os.path.join(project, order["script"])):
            fail("there is no script %r in the project" % order["script"])
        return {"kind": "script", "script": os.path.normpath(order["script"])}
    settings = order["settings"] or os.environ.get("DJANGO_SETTINGS_MODULE") or settings_of_manage(project)
    if settings:
        found = look_at_django(order, settings)
    elif order["application"]:
        found = {"kind": "application", "application": order["application"]}
    else:
        fail("cannot tell what of the project is to be served: it has no manage.py; name an application "
             "with --app MODULE:CALLABLE or a program with --script FILE")
    load(found["application"])
    return found


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    with contextlib.redirect_stdout(sys.stderr):  # What the project prints is not the answer.
        project = describe(order)
        found = dict(look(order), project=project)
    print(json.dumps(found))


main()
