"""Changes in requests of schemathesis before they are sent; schemathesis.rs says what it tests."""

import schemathesis

# A node waits up to 10 s for a height that it does not have. Heights that it has are asked for instead:
# described.rs asks for others. A number that is none stays what it is.
HEIGHT = 5
NUMBER_MAX = 2**64 - 1
# Filters that many notifications pass: the feed says nothing for long to one that none passes.
PASSED = {"after": "0.0", "kind": "device_registered", "district": "north", "device": "lamp-1"}

# A filter is a language, of which a schema describes no more than the length: reports.rs tests it.
FILTER = "model==lamp;alarm!=none"


def whole(value):
    """A valid value without 5.0: JSON Schema takes it for an integer, the ledger refuses how it is written."""
    match value:
        case dict():
            return {name: whole(part) for name, part in value.items()}
        case list():
            return [whole(part) for part in value]
        case float() if value.is_integer():
            return int(value)
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    for name in ("min_height", "trusted"):
        asked = str(query.get(name))
        if asked.isdecimal() and HEIGHT < int(asked) <= NUMBER_MAX:
            query[name] = int(asked) % HEIGHT
    if case.meta and case.meta.generation.mode.is_positive:
        if case.path == "/v1/feed":
            case.query = {"after": "0.0"} | {name: PASSED[name] for name in query}
        if "filter" in query:
            case.query = query | {"filter": FILTER}
        if isinstance(case.body, (dict, list)):
            case.body = whole(case.body)
