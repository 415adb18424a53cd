"""What a small Django program does at its start; recorded while an image is trained."""

try:
    import django
except ImportError:
    raise SystemExit

from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="training",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

import django.core.wsgi
import django.urls
from django.http import HttpResponse
from django.template import Context, Engine


def index(request):
    return HttpResponse("hello")


urlpatterns = [django.urls.path("", index)]
application = django.core.wsgi.get_wsgi_application()
Engine().from_string("{% for i in n %}{{ i|add:1 }} {% endfor %}").render(Context({"n": [1, 2]}))
