"""Compares the outcomes of two runs of PyPy's test suite: compare_outcomes.py TREE MOUNT MODULE..."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def outcomes(path):
    """Test name -> passed, failed or skipped. A subtest counts with its test."""
    rank = {"passed": 0, "skipped": 1, "failed": 2}
    result = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("result") in ("failed", "error"):
            outcome = "failed"
        elif "skipped" in kinds or case.get("status") == "skipped":
            outcome = "skipped"
        else:
            outcome = "passed"
        name = case.get("name")
        result[name] = max(result.get(name, "passed"), outcome, key=rank.__getitem__)
    return result


def main():
    tree, mount = Path(sys.argv[1]), Path(sys.argv[2])
    bad = 0
    for module in sys.argv[3:]:
        try:
            expected = outcomes(tree / f"{module}.xml")
            found = outcomes(mount / f"{module}.xml")
        except (OSError, ElementTree.ParseError) as error:
            print(f"{module}: no outcome: {error}")
            bad += 1
            continue
        different = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        counts = {kind: list(found.values()).count(kind) for kind in ("passed", "failed", "skipped")}
        print(f"{module}: {len(found)} tests from the mount, {counts}, {len(different)} differ")
        for name in different:
            print(f"  {name}: {expected.get(name)} from the tree, {found.get(name)} from the mount")
        bad += len(different) + (not found)
    sys.exit(1 if bad else 0)


main()
