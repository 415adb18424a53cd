"""Keeps what a warm-up's requests do from staying, for Django.

- Each request runs in a transaction of every database, which is rolled back. Under ASGI that holds for
  views that are plain functions, not for coroutines and middleware.
- Sessions are not saved, and mails go nowhere.

Where the warm-up is to see what a user sees who is logged in, each request has that user.

It does not know of what a view does elsewhere: caches, files, other servers. There
pyram_serve.warming() helps.
"""

import contextlib
import functools
import sys

try:
    from pypyjit import residual_call
except ImportError:  # Another Python.
    def residual_call(function, *arguments, **named):
        return function(*arguments, **named)


def present():
    """Whether the application that was loaded is one of Django's, with settings."""
    conf = sys.modules.get("django.conf")
    return conf is not None and "django.core.handlers.base" in sys.modules and conf.settings.configured


def request_headers(host):
    """The headers with which the project takes a request: one of its hosts, over HTTPS if it wants that."""
    headers = []
    if present():
        from django.conf import settings
        allowed = [name for name in settings.ALLOWED_HOSTS if name != "*"]
        host = host or (allowed[0].lstrip(".") if allowed else "")
        if settings.SECURE_PROXY_SSL_HEADER:
            name, value = settings.SECURE_PROXY_SSL_HEADER
            headers.append((name.removeprefix("HTTP_").replace("_", "-").title(), value))
    return [("Host", host or "localhost"), *headers]


def _refuse(execute, sql, params, many, context):
    from django.db import OperationalError
    raise OperationalError("this database could not be reached when the warm-up began")


def _reachable(alias, unreachable):
    """Whether a transaction can be begun. A database that isn't reachable once is left alone, and nothing is
    done in it either: what a page without it answers is warmed up all the same."""
    from django.db import connections
    if alias in unreachable:
        return False
    try:
        connections[alias].ensure_connection()
    except Exception:
        unreachable.add(alias)
        return False
    return True


@contextlib.contextmanager
def _rolled_back(unreachable):
    from django.db import connections, transaction
    with contextlib.ExitStack() as stack:
        begun = []
        for alias in connections:
            if not _reachable(alias, unreachable):
                stack.enter_context(connections[alias].execute_wrapper(_refuse))
                continue
            block = transaction.atomic(using=alias)
            block._from_testcase = True  # Within it, a view may ask for a durable one.
            stack.enter_context(block)
            begun.append(alias)
        try:
            yield
        finally:
            for alias in begun:
                transaction.set_rollback(True, using=alias)


def _guard(function, unreachable):
    @functools.wraps(function)
    def guarded(*arguments, **named):
        with _rolled_back(unreachable):
            return function(*arguments, **named)
    return guarded


def _set_user(request, user):
    """Puts the user where Django's AuthenticationMiddleware keeps it once it has looked into the session."""
    request._cached_user = request._acached_user = user


def _logged_in(get_response, user):
    @functools.wraps(get_response)
    def get_response_for_user(handler, request):
        _set_user(request, user)
        return get_response(handler, request)
    return get_response_for_user


# What stays in place of Django's own after a warm-up. Were it put back, PyPy would throw away the code that it
# compiled for the class; and were something else called then, what was compiled behind the call. So both are the
# same in the warm-up and in workers, but for functions in a list, into which PyPy does not look.


def _nothing(*arguments, **named):
    pass


def _begin_nothing(request):
    return _nothing


def _with_begin(get_response):
    """BaseHandler.get_response, with something before it, which returns what is called after it; and the list of that."""
    begin = [_begin_nothing]

    def with_begin(handler, request):
        end = residual_call(begin[0], request)
        try:
            return residual_call(get_response, handler, request)
        finally:
            residual_call(end)
    return with_begin, begin


def _exchangeable(function):
    """A function that calls the one in a list, and the list."""
    called = [function]
    return lambda *arguments, **named: residual_call(called[0], *arguments, **named), called


def _stays(where, name, wrapped):
    """Has what `wrapped` makes of the method in its place, for good. Returns the list of what may be another."""
    method = getattr(where, name)
    if not hasattr(method, "pyram_serve"):
        function, exchanged = wrapped(method)
        method = functools.wraps(method)(function)
        method.pyram_serve = exchanged
        setattr(where, name, method)
    return method.pyram_serve


@contextlib.contextmanager
def _exchanged(functions, other):
    usual, functions[0] = functions[0], other
    try:
        yield
    finally:
        functions[0] = usual


def _around_requests(handler, unreachable, user):
    """Each request in transactions that are rolled back."""
    def begin(request):
        if user is not None:
            _set_user(request, user)
        transactions = _rolled_back(unreachable)
        transactions.__enter__()
        return lambda: transactions.__exit__(None, None, None)

    return _exchanged(_stays(handler, "get_response", _with_begin), begin)


def _no_sessions(store):
    return _exchanged(_stays(store, "save", _exchangeable), _nothing)


class NoUser(Exception):
    """The warm-up's user is not there, in one line."""


def find_user(name):
    """The user of the project who has that name to log in with."""
    if not present():
        raise NoUser("--warm-up-user is for Django")
    from django.contrib.auth import get_user_model
    try:
        return get_user_model()._default_manager.get_by_natural_key(name)
    except Exception as error:  # Also that of a database which cannot be reached.
        raise NoUser("there is no user %r: %s: %s" % (name, type(error).__name__, error)) from error


def _guard_view(make_view_atomic, unreachable):
    @functools.wraps(make_view_atomic)
    def guarded(handler, view):
        from inspect import iscoroutinefunction
        made = make_view_atomic(handler, view)
        return made if iscoroutinefunction(made) else _guard(made, unreachable)
    return guarded


def _session_store():
    """The class of the project's sessions, or None."""
    from importlib import import_module

    from django.conf import settings
    try:
        return import_module(settings.SESSION_ENGINE).SessionStore
    except (ImportError, AttributeError):
        return None


def _async_patches(handler, unreachable, user):
    """The patches of Django's handler under ASGI: (where, name, new)."""
    get_response = handler.get_response_async
    if user is not None:
        get_response = _logged_in(get_response, user)
    return [(handler, "get_response_async", get_response),
            (handler, "make_view_atomic", _guard_view(handler.make_view_atomic, unreachable))]


@contextlib.contextmanager
def guarded(asgi, user=None):
    """What is around a whole warm-up. `user` is who is logged in."""
    if not present():
        yield
        return
    from django.conf import settings
    from django.core import mail
    from django.core.handlers.base import BaseHandler
    from django.db import connections
    store = _session_store()
    unreachable = set()
    patches = [(settings, "EMAIL_BACKEND", "django.core.mail.backends.locmem.EmailBackend")]
    if asgi:
        patches += _async_patches(BaseHandler, unreachable, user)
    with contextlib.ExitStack() as stack:
        if not asgi:
            stack.enter_context(_around_requests(BaseHandler, unreachable, user))
        if store is not None:
            stack.enter_context(_no_sessions(store))
        for where, name, new in patches:
            own = name in vars(where)
            stack.callback(_restore, where, name, getattr(where, name), own)
            setattr(where, name, new)
        try:
            yield
        finally:
            if hasattr(mail, "outbox"):
                del mail.outbox
            connections.close_all()


def _restore(where, name, value, own):
    if own or not isinstance(where, type):
        setattr(where, name, value)
    else:
        delattr(where, name)  # It was inherited.

