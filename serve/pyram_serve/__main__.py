"""The command line. The keeper imports as little as can be: it lives as long as the service."""

import sys

from . import image, keeper, options


def main():
    app = image.find()
    words = sys.argv[1:]
    if app and words[:1] == ["manage"]:
        image.manage(app, words[1:])
        return 0
    if app and app["kind"] == "script":
        image.run_script(app, words)
        return 0
    train = words[:1] == ["--train"]  # By `pyram-image app` only.
    try:
        own, rest = options.parse(words[train:])
    except options.Wrong as error:
        print("pyram_serve: %s" % error, file=sys.stderr)
        return 64
    if own is None:
        return 0
    if app:
        own.app = app
        image.apply(app, own)
    if train:
        from . import training
        return training.run(own, rest)
    return keeper.Keeper(own, rest).run()


if __name__ == "__main__":
    sys.exit(main())
