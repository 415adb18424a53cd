"""Compares outcomes of PyPy's test suite out of the mount with those out of the unpacked tree.

    compare_outcomes.py OUT ROUND... -- MODULE...

Reads OUT/ROUND/{tree,mount}/MODULE.xml. A test counts as different when it differs in the same way in
every round. Prints a line for each module, writes what differs to OUT/different (MODULE TEST on a line,
or MODULE alone where no test can be named), and ends with 1 when there is any.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# These delete a file that isn't there from the library's folder: ENOENT where one could write, EROFS on
# every read-only file system, the kernel's own ones too, which the suite's helper doesn't expect.
READ_ONLY = {
    "test.test_import." + name
    for name in (
        "ImportTests.test_import",
        "PycacheTests.test___cached__",
        "PycacheTests.test_package___cached___from_pyc",
        "PycacheTests.test_recompute_pyc_same_second",
    )
}

UNNAMED = "a test with failed subtests"

RANK = {"passed": 0, "skipped": 1, "failed": 2}


def outcomes(path):
    """Test name -> passed, skipped or failed. Of a test with subtests the worst counts."""
    result = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("result") in ("failed", "error"):
            outcome = "failed"
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
    expected = {(n, "passed", "failed") for n in READ_ONLY}
    return {(n, tree.get(n), mount.get(n)) for n in names if tree.get(n) != mount.get(n)} - expected


def main():
    split = sys.argv.index("--")
    out, rounds, modules = Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1 :]
    bad = []
    for module in modules:
        try:
            runs = [
                (outcomes(out / r / "tree" / f"{module}.xml"), outcomes(out / r / "mount" / f"{module}.xml"))
                for r in rounds
            ]
        except (OSError, ElementTree.ParseError) as error:
            print(f"{module}: no outcome: {error}")
            bad.append((module,))
            continue
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
