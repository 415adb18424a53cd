"""Compares outcomes of PyPy's test suite out of the mount with those out of the unpacked tree.

    compare_outcomes.py OUT ROUND... -- MODULE...

Reads OUT/ROUND/{tree,mount}/MODULE.xml. A test counts as different when it differs in the same way in
every round. Prints a line for each module, writes what differs to OUT/different (MODULE TEST on a line,
or MODULE alone where no test can be named), and ends with 1 when there is any.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# The suite's helper deletes a file that isn't there from the library's directory: ENOENT where one could
# write, EROFS on every read-only file system, the kernel's own ones too, which it doesn't expect.
READ_ONLY = "in unlink\n    _unlink(filename)\nOSError: [Errno 30] Read-only file system"

UNNAMED = "a test with failed subtests"

RANK = {"passed": 0, "skipped": 1, "read-only": 2, "failed": 3}


def outcomes(path):
    """Test name -> passed, skipped, failed, or read-only (failed for that alone).

    Of a test with subtests the worst counts.
    """
    result = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("result") in ("failed", "error"):
            said = [child.text or "" for child in case if child.tag in ("failure", "error")]
            outcome = "read-only" if said and all(READ_ONLY in text for text in said) else "failed"
        elif "skipped" in kinds or case.get("status") == "skipped":
            outcome = "skipped"
        else:
            outcome = "passed"
        # A subtest has its arguments behind its name, and these hold addresses and paths.
        # The suite forgets to finish the entry of a test that failed in subtests only.
        name = (case.get("name") or UNNAMED).split(" (")[0].split(" [")[0]
        result[name] = max(result.get(name, "passed"), outcome, key=RANK.__getitem__)
    return result


def differences(tree, mount):
    """The tests that differ, each with its outcome out of the tree and out of the mount."""
    names = tree.keys() | mount.keys()
    return {
        (n, tree.get(n), mount.get(n))
        for n in names
        if tree.get(n) != mount.get(n) and (tree.get(n), mount.get(n)) != ("passed", "read-only")
    }


def main():
    split = sys.argv.index("--")
    out, rounds, modules = Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1 :]
    bad = []
    for module in modules:
        runs = []
        for number in rounds:
            try:
                runs.append([outcomes(out / number / way / f"{module}.xml") for way in ("tree", "mount")])
            except (OSError, ElementTree.ParseError) as error:
                print(f"{module}: no outcome: {error}")
                runs.append(None)
        # One without an outcome, because it ended by its time-out for example, says nothing of its tests.
        if runs[-1] is None:
            bad.append((module,))
            continue
        runs = [run for run in runs if run is not None]
        mount = list(runs[-1][1].values())
        different = set.intersection(*(differences(*run) for run in runs))
        counts = ", ".join(f"{mount.count(kind)} {kind}" for kind in RANK)
        print(f"{module}: out of the mount {counts}; {len(different)} differ from the tree")
        for name, in_tree, in_mount in sorted(different, key=str):
            print(f"  {name}: {in_tree} out of the tree, {in_mount} out of the mount")
        names = sorted(name for name, _, _ in different)
        if not mount or UNNAMED in names:
            bad.append((module,))
        else:
            bad.extend((module, name) for name in names)
    (out / "different").write_text("".join(" ".join(words) + "\n" for words in bad))
    sys.exit(1 if bad else 0)


main()
