"""What a start of the service does, once and in one process: recorded while an app's image is trained."""

import importlib
import io
import sys

from . import django_guard, generation

MOST = 50  # Requests.


def environ(method, target, headers):
    path, _, query = target.partition("?")
    result = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
              "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
              "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
              "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": False,
              "wsgi.multiprocess": True, "wsgi.run_once": False}
    result.update(("HTTP_" + name.upper().replace("-", "_"), value) for name, value in headers)
    return result


def run(options, arguments):
    application_class, _ = generation.make_classes(options.app and options.app["application"])
    for module in ("gunicorn.workers.sync", "gunicorn.http.wsgi", "pyram_serve.rehearsal"):
        importlib.import_module(module)
    sys.argv = ["pyram_serve", *arguments]
    app = application_class("%(prog)s", prog="pyram_serve")
    start = generation.Start(lambda said: None, options, 0.0, (), None)
    start.load(app)
    if start.asgi:
        return 0
    headers = django_guard.request_headers(options.warm_up_host)
    with django_guard.guarded(False):
        for method, target in list(dict.fromkeys(start.requests()))[:MOST]:
            try:
                answer = app.callable(environ(method, target, headers), lambda *_: None)
                b"".join(answer)
                if hasattr(answer, "close"):
                    answer.close()
            except Exception as error:  # The warm-up says what fails; here it is only not recorded.
                print("%s %s: %s" % (method, target, error), file=sys.stderr)
    return 0
