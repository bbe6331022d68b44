#!/usr/bin/env python3
"""Holds values against the JSON Schemas of a document, OpenAPI (JSON) or AsyncAPI (YAML).

The arguments are the documents; stdin has one JSON object to a line:
{"document": path, "at": JSON pointer of the schema, "value": ..., "what": text for the report}.
Each value that does not fit is told on a line of its own; the exit code is then 1. An object with
named fields may have no others, whether or not the document says so: what a node sends is described.
"""
import functools
import json
import pathlib
import sys

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

# Behind the name of a document: its objects as they are written, not closed.
OPEN = "?open"


def closed(schema):
    """A copy in which objects with named fields have no others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: part if name == "examples" else closed(part) for name, part in schema.items()}
    if "allOf" in schema:
        copy["allOf"] = [opened(part) for part in schema["allOf"]]
        copy["unevaluatedProperties"] = False
    elif schema.get("type") == "object" and "properties" in schema:
        copy.setdefault("additionalProperties", False)
    return copy


def opened(part):
    """A part of an object as it is written: the other parts have fields of their own."""
    if "$ref" not in part:
        return part
    document, _, at = part["$ref"].partition("#")
    return {**part, "$ref": f"{document}{OPEN}#{at}"}


@functools.cache
def load(uri: str) -> Resource:
    path = pathlib.Path(uri.removeprefix("file://").removesuffix(OPEN))
    text = path.read_text(encoding="utf8")
    contents = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    contents = contents if uri.endswith(OPEN) else closed(contents)
    return Resource(contents=contents, specification=DRAFT202012)


def reason(error) -> str:
    """The deepest cause: of a choice, that of the variant that was meant."""
    while error.context:
        error = max(error.context, key=lambda e: (len(e.absolute_path), -len(e.context or [])))
    return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def main() -> int:
    registry = Registry(retrieve=load)
    failed = checked = 0
    for line in sys.stdin:
        case = json.loads(line)
        uri = pathlib.Path(case["document"]).resolve().as_uri()
        validator = Draft202012Validator({"$ref": f"{uri}#{case['at']}"}, registry=registry)
        error = next(validator.iter_errors(case["value"]), None)
        checked += 1
        if error is not None:
            failed += 1
            print(f"{case['what']}: {reason(error)}")
    print(f"{checked} checked", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
