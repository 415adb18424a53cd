"""What is ours on the command line; everything else is gunicorn's."""

USAGE = """\
usage: python -m pyram_serve [OPTIONS] [GUNICORN'S OPTIONS] [MODULE:CALLABLE]
       python -m pyram_serve manage [DJANGO'S COMMAND]     in an app's image
       python -m pyram_serve run MODULE [ARGUMENT...]      in an app's image: a worker of Celery, for example

Serves a WSGI or ASGI application by gunicorn. The application is loaded once, warmed up by requests to
itself, and only then are the workers forked. SIGHUP (or SIGUSR2) makes a new, warm generation of it while
the old one serves.

  --warm-up SECONDS         at most so long; it ends when the rate no longer rises; 0: none (60)
  --warm-up-urls FILE       a list of paths, or an access log in the common or combined format (/)
  --warm-up-host NAME       the host that the warm-up asks for (the first one that the project allows)
  --warm-up-user NAME       who is logged in in the warm-up's requests, with Django; for pages behind a login
  --warm-up-timeout SECONDS how long one request of the warm-up may take (5)
  --ready-path PATH         answers 200 to whoever asks whether it serves; '' for none (/-/ready)
  --worker-memory MB        a worker that has written so much of its own ends, and a warm one takes its
                            place; 0: workers stay, and collect garbage as usual (0 where
                            the memory has room for that, otherwise what there is room for)
  --image FILE              a reload starts the image that FILE is then: whatever is new, PyPy too
  --control FILE            a socket: who connects has a reload begun, and reads how it ended
  --static URL=DIRECTORY    has whitenoise serve the files in a directory (more than once: several)

All of gunicorn's own options go through; `python -m gunicorn --help` lists them. Without any, workers and
threads fit the memory limit and the processors, and the log goes to stderr.
"""


class Wrong(Exception):
    """A command line that makes no sense, in one line."""


class Options:
    def __init__(self):
        self.warm_up = 60.0
        self.warm_up_urls = ""
        self.warm_up_host = ""
        self.warm_up_user = ""
        self.warm_up_timeout = 5.0
        self.ready_path = "/-/ready"
        self.worker_memory = None  # By the memory that there is.
        self.image = ""
        self.control = ""
        self.static = []
        self.words = []  # The command line as it was.
        self.app = None  # What the image says of itself, see image.py. Not of the command line.


def _seconds(name, text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise Wrong("%s is a number of seconds up to 3600, not %r" % (name, text))
    return value


def _take(own, name, value):
    if name in ("--warm-up", "--warm-up-timeout"):
        value = _seconds(name, value)
    if name == "--worker-memory":
        if not value.isdecimal() or int(value) > 1 << 20:
            raise Wrong("%s is a number of MB, not %r" % (name, value))
        value = int(value)
    if name == "--static":
        url, mark, directory = value.partition("=")
        if not mark or not url.startswith("/") or not directory:
            raise Wrong("--static takes URL=DIRECTORY, such as /static/=/srv/site/static, not %r" % value)
        own.static.append((url, directory))
    else:
        setattr(own, name[2:].replace("-", "_"), value)


def parse(words):
    """Our Options and the words that are gunicorn's. No Options when the help was asked for."""
    own, rest = Options(), []
    known = {"--" + name.replace("_", "-") for name in vars(own) if name not in ("app", "words")}
    own.words = list(words)
    words = list(words)
    while words:
        word = words.pop(0)
        name, mark, value = word.partition("=")
        if word in ("-h", "--help"):
            print(USAGE, end="")
            return None, []
        if name not in known:
            rest.append(word)
            continue
        if not mark:
            if not words:
                raise Wrong("%s needs a value" % name)
            value = words.pop(0)
        _take(own, name, value)
    return own, rest
