"""Serves a WSGI or ASGI application by gunicorn, warm from its first request.

python -m pyram_serve [OPTIONS] MODULE:CALLABLE. ../README.md says how it works.
"""

_warming = False


def warming():
    """Whether the requests that are answered now are the warm-up's. An application asks before it does
    what cannot be undone (a task for a queue, a request to somebody else)."""
    return _warming
