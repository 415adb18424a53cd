"""Django as a small site starts it: configure, set up, resolve a URL, render one template."""

import django
from django.conf import settings
from django.template import Context, Engine
from django.test import RequestFactory
from django.urls import path, resolve

settings.configure(
    DEBUG=False, SECRET_KEY="benchmark", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes",
                    "django.contrib.sessions", "django.contrib.messages"],
    USE_TZ=True,
)
django.setup()

from django.http import HttpResponse  # noqa: E402  needs the settings

TEMPLATE = "{% for n in numbers %}{{ n|add:1 }}{% if not forloop.last %},{% endif %}{% endfor %}"


def page(request):
    return HttpResponse(Engine().from_string(TEMPLATE).render(Context({"numbers": range(20)})))


urlpatterns = [path("", page)]

if __name__ == "__main__":
    view = resolve("/", urlconf=type("urls", (), {"urlpatterns": urlpatterns})).func
    print(view(RequestFactory().get("/")).content.decode())
