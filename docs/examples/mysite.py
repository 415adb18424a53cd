"""A Django site in one file: an HTML page with a template, and the same as JSON.

    pyram docs/examples/mysite.py runserver 127.0.0.1:8000
    pyram docs/examples/mysite.py check

It is a WSGI application as well: `gunicorn mysite:application` in this directory, once gunicorn is in
the image or in an environment.
"""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.template import Context, Engine
from django.urls import path

settings.configure(
    DEBUG=os.environ.get("SITE_DEBUG", "") == "1",
    # An example has nothing to protect; a real site reads its key from the environment.
    SECRET_KEY=os.environ.get("SITE_SECRET_KEY", "only-for-the-example"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)

PAGE = Engine().from_string(
    "<!doctype html><title>Pyram</title><h1>{{ title }}</h1>"
    "<ul>{% for name, value in facts.items %}<li>{{ name }}: {{ value }}</li>{% endfor %}</ul>"
)


def facts():
    return {
        "python": sys.version.split()[0],
        "pypy": ".".join(map(str, sys.pypy_version_info[:3])),
        "pyram": ".".join(map(str, sys.pyram_version_info[:3])),
    }


def page(request):
    return HttpResponse(PAGE.render(Context({"title": "Served out of an image", "facts": facts()})))


def as_json(request):
    return JsonResponse(facts())


urlpatterns = [path("", page), path("json", as_json)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
