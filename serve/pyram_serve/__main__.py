"""The command line. The keeper imports as little as can be: it lives as long as the service."""

import os
import sys

from . import handover, image, keeper, options


def take_over(role, own, rest, facts):
    """What this process goes on with: another one of this program has handed it over."""
    if role == handover.KEEPER:
        return keeper.Keeper(own, rest, facts).run()
    handover.run_generation(handover.channel_of(facts["channel"]), own, rest, facts["listeners"], facts["seconds"], tuple(facts["skipped"]))


def main():
    app = image.find()
    words = sys.argv[1:]
    if app and app["kind"] == "script" and not os.environ.get(handover.VARIABLE):
        image.run_script(app, words)
        return 0
    if app and words[:1] in (["manage"], ["run"]):
        return (image.manage if words[0] == "manage" else image.run_module)(app, words[1:])
    first = words[0] if words else ""
    train = first == "--train"  # By `pyram-image app` only.
    role = first if first in (handover.GENERATION, handover.KEEPER) else ""
    facts = None
    try:
        if role:
            facts = handover.receive()
        own, rest = options.parse(words[bool(train or role):])
        if role and app and app["kind"] == "script":
            raise handover.Failed("the image has a program to run, and serves nothing")
    except (options.Wrong, handover.Failed) as error:
        print("pyram_serve: %s" % error, file=sys.stderr)
        if role == handover.GENERATION and facts:
            handover.tell(handover.channel_of(facts["channel"]), str(error))
        return 64
    if own is None:
        return 0
    if app:
        own.app = app
        image.apply(app, own)
    if role:
        return take_over(role, own, rest, facts)
    if train:
        from . import training
        return training.run(own, rest)
    return keeper.Keeper(own, rest).run()


if __name__ == "__main__":
    sys.exit(main())
