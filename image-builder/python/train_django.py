"""What a small Django site does at its start and for its first page; recorded while an image is
trained."""

try:
    import django
except ImportError:
    raise SystemExit

import io

from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="training",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    # What startproject sets up, without the admin.
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
)
django.setup()

import django.core.wsgi
import django.urls
from django.db import connection
from django.http import HttpResponse
from django.template import engines

TEMPLATE = "{% for i in n %}{{ i|add:1 }}{% if not forloop.last %}, {% endif %}{% endfor %}"


def index(request):
    with connection.cursor() as cursor:
        cursor.execute("select 1 union select 2")
        numbers = [row[0] for row in cursor.fetchall()]
    return HttpResponse(engines["django"].from_string(TEMPLATE).render({"n": numbers}, request))


urlpatterns = [django.urls.path("", index)]
application = django.core.wsgi.get_wsgi_application()
environment = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "wsgi.errors": io.StringIO(),
}
b"".join(application(environment, lambda status, headers: None))
