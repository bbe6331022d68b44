"""Proofs as docs/examples/proofs.py checks them: each true one holds, and none with a changed value does.

Standard input: {"genesis", "bundles": [..], "forged": [..]}, the bundles with records of the state and receipts, and
some that prove nothing. Prints how many hold, and how many were refused.
"""

import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "docs/examples"))

import proofs  # noqa: E402


def check(genesis, bundle):
    """As the gateway does for the proof of a receipt and for a record of work."""
    proofs.require(bundle["version"] == proofs.FORMAT_VERSION, "a proof of another version")
    trust = proofs.Trust(genesis, None)
    head = trust.head(bundle["head"], bundle["set_changes"])
    head = trust.ancestor(head, bundle.get("ancestor"))
    record = bundle["record"]
    if "state" in record:
        return proofs.proven_state(head, record)
    return proofs.proven_receipt(head, record)


def leaves(value, path=()):
    """The paths of all texts and numbers in a value."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, (*path, index))
    elif value is not None:
        yield path


def changed(bundle, path):
    """The bundle with another value at a path."""
    bundle = copy.deepcopy(bundle)
    *above, last = path
    part = bundle
    for step in above:
        part = part[step]
    old = part[last]
    if isinstance(old, int):
        part[last] = old + 1
    else:
        # Another digit in the middle, so that hexadecimal text stays what it is.
        middle = len(old) // 2
        part[last] = old[:middle] + ("0" if old[middle : middle + 1] != "0" else "1") + old[middle + 1 :]
    return bundle


def main():
    given = json.load(sys.stdin)
    genesis, held, refused = given["genesis"], 0, 0
    for bundle in given["bundles"]:
        check(genesis, bundle)
        held += 1
        for path in leaves(bundle):
            try:
                check(genesis, changed(bundle, path))
            except (proofs.NotProven, ValueError):
                refused += 1
            else:
                sys.exit(f"a proof with another value at {path} holds: {json.dumps(bundle)}")
    for number, bundle in enumerate(given["forged"]):
        try:
            check(genesis, bundle)
        except proofs.NotProven:
            refused += 1
        else:
            sys.exit(f"the forged proof {number} holds")
    other = genesis | {"name": genesis["name"] + "!"}
    for bundle in given["bundles"]:
        try:
            check(other, bundle)
        except proofs.NotProven:
            refused += 1
        else:
            sys.exit("a proof of another chain holds")
    print(held, refused)


if __name__ == "__main__":
    main()
