"""The command line. The keeper imports as little as can be: it lives as long as the service."""

import sys

from . import keeper, options


def main():
    try:
        own, rest = options.parse(sys.argv[1:])
    except options.Wrong as error:
        print("pyram_serve: %s" % error, file=sys.stderr)
        return 64
    if own is None:
        return 0
    return keeper.Keeper(own, rest).run()


if __name__ == "__main__":
    sys.exit(main())
