"""Says which Python runs this, and shows that Django and PyMySQL are there."""

import platform
import sys

import django
import pymysql
from django.conf import settings
from django.template import Context, Engine

settings.configure(USE_TZ=True)
django.setup()

template = Engine().from_string("Hello from {{ name }}: {% for n in numbers %}{{ n }} {% endfor %}")

print("interpreter ", platform.python_implementation(), ".".join(map(str, sys.pypy_version_info[:3])),
      "for Python", platform.python_version())
print("pyram       ", ".".join(map(str, sys.pyram_version_info[:3])))
print("executable  ", sys.executable)
print("prefix      ", sys.prefix)
print("django      ", django.get_version())
print("template    ", template.render(Context({"name": "a template", "numbers": range(1, 6)})))
print("pymysql     ", ".".join(map(str, pymysql.VERSION[:3])))
