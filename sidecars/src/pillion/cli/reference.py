"""The configuration reference: every field of every kind as a page, written from the same models as the CRDs."""

import json
from collections.abc import Iterator
from typing import Any

from pillion.kinds.definition import API_VERSION, Kind
from pillion.kinds.resource import spec_schema
from pillion.kinds.schema import Schema

HEADER = "# Configuration reference\n\nEvery field of every kind in `pillion.dev/v1alpha1`, generated from the models by `make crds`.\n"


def reference_page(kinds: dict[str, Kind[Any]]) -> str:
    """Write the page."""
    return HEADER + "".join(_kind(kind) for kind in kinds.values())


def _kind(kind: Kind[Any]) -> str:
    names = ", ".join(f"`{name}`" for name in kind.short_names)
    lines = [f"\n## {kind.kind}\n", kind.summary, f"\n`{API_VERSION}`, short name {names}.\n"]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{path}`{' *' if required else ''} | {_type(schema)} | {_default(schema)} | {_meaning(schema)} |"
        for path, schema, required in _fields(spec_schema(kind.spec), "spec")
    ]
    if kind.conditions:
        lines.append("\nOwn conditions, beside those that every kind has:\n")
        lines += [f"- `{name}`: {one.summary}" for name, one in kind.conditions.items()]
    return "\n".join(lines) + "\n\n\\* required\n"


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, child, name in required
        if "properties" in child:
            yield from _fields(child, here)
        elif "properties" in child.get("items", {}):
            yield from _fields(child["items"], f"{here}[]")
        elif "properties" in child.get("additionalProperties", {}):
            yield from _fields(child["additionalProperties"], f"{here}.*")


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "any"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}" + _count(schema, "minItems", "maxItems")
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}" + _count(schema, "minProperties", "maxProperties")
    if schema["type"] == "integer" and ("minimum" in schema or "maximum" in schema):
        return f"integer, {schema.get('minimum', '')} to {schema.get('maximum', '')}"
    return str(schema["type"])


def _count(schema: Schema, low: str, high: str) -> str:
    return f" ({schema.get(low, 0)} to {schema[high]})" if high in schema else ""


def _default(schema: Schema) -> str:

    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _meaning(schema: Schema) -> str:
    rules = "".join(f" Rule: {rule['message']}." for rule in schema.get("x-kubernetes-validations", ()))
    return (str(schema.get("description", "")) + rules).replace("|", "\\|").replace("\n", " ")
