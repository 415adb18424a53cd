"""A small Django site in one file: a page (ORM on SQLite, a template with a loop) and JSON.

Its database is the file that BENCHMARK_DATABASE names; `python benchmark_site.py` fills it."""

import os

import django
from django.conf import settings

settings.configure(
    DEBUG=False, SECRET_KEY="benchmark", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    INSTALLED_APPS=[], MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": None,
                           "NAME": os.environ["BENCHMARK_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {
        "loaders": [("django.template.loaders.locmem.Loader", {"books.html": """<html><body>
<h1>{{ title }}</h1><table>{% for book in books %}
<tr class="{% cycle 'odd' 'even' %}"><td>{{ book.title }}</td><td>{{ book.author|upper }}</td>
<td>{{ book.year|add:1 }}</td></tr>{% endfor %}</table></body></html>"""})]}}],
)
django.setup()

from django.db import connection, models  # noqa: E402  needs the settings
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.template.loader import render_to_string  # noqa: E402
from django.urls import path  # noqa: E402


class Book(models.Model):
    title = models.CharField(max_length=80)
    author = models.CharField(max_length=80)
    year = models.IntegerField()

    class Meta:
        app_label = "benchmark"


def page(request):
    books = Book.objects.filter(year__gte=1950).order_by("title")[:30]
    return HttpResponse(render_to_string("books.html", {"title": "Books", "books": books}))


def data(request):
    books = Book.objects.order_by("-year").values("id", "title", "author", "year")[:30]
    return JsonResponse({"books": list(books)})


urlpatterns = [path("page", page), path("json", data)]


def fill():
    with connection.schema_editor() as editor:
        editor.create_model(Book)
    Book.objects.bulk_create(Book(title=f"Title {n * 7919 % 500}", author=f"Author {n % 37}",
                                  year=1900 + n % 120) for n in range(500))


if __name__ == "__main__":
    fill()
else:
    from django.core.wsgi import get_wsgi_application
    application = get_wsgi_application()
