"""Check a document against a structural schema, and fill in the schema's defaults: what the API server does, for files.

The API server stops at what its schema can say; this checker says the same things about the same documents, adds the fix, and goes on to
the next mistake. It understands exactly the vocabulary that `schema.py` emits, which is why it is small; it is no general JSON Schema
validator.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pillion.kinds.model import JSON, Model
from pillion.kinds.quantities import DURATION_PATTERN, PERCENTAGE_PATTERN, SIZE_PATTERN
from pillion.kinds.schema import Schema
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean

_TYPE_NAMES = {
    "object": "a map",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


_PATTERN_NAMES = {
    DURATION_PATTERN: "is not a duration",
    SIZE_PATTERN: "is not a size",
    PERCENTAGE_PATTERN: "is not a percentage",
}
"""What a person calls a value that does not match, where a pattern says little to one."""


def with_defaults(value: JSON, schema: Schema) -> JSON:
    """Give *value* with the defaults of *schema* filled in wherever a field is absent, as the API server stores it."""
    if isinstance(value, dict) and "properties" in schema:
        filled = dict(value)
        for name, child in schema["properties"].items():
            if name not in filled and "default" in child:
                filled[name] = child["default"]
            if name in filled:
                filled[name] = with_defaults(filled[name], child)
        return filled
    if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        return {name: with_defaults(item, schema["additionalProperties"]) for name, item in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"]) for item in value]
    return value


def without_nulls(value: JSON, schema: Schema) -> JSON:
    """Drop fields that are null, as the API server prunes them, but leave free-form values as they are."""
    if isinstance(value, dict) and "properties" in schema:
        return {
            name: without_nulls(item, schema["properties"].get(name, {}))
            for name, item in value.items()
            if item is not None or schema["properties"].get(name, {}).get("x-kubernetes-preserve-unknown-fields")
        }
    if isinstance(value, list) and "items" in schema:
        return [without_nulls(item, schema["items"]) for item in value]
    return value


def check_structure(value: JSON, schema: Schema, path: FieldPath, about: str = "") -> Iterator[Violation]:
    """Yield everything in *value* that *schema* refuses. Expects defaults to be filled in.

    *about* is the description of the list or map around an item that has none of its own, for the fix.
    """
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    kind = schema["type"]
    if not _is(value, kind):
        yield Violation(path=path, value=value, rule=f"must be {_TYPE_NAMES[kind]}", fix=_type_fix(value, kind))
        return
    match kind:
        case "object":
            yield from _object(value, schema, path, about)
        case "array":
            yield from _array(value, schema, path, about)
        case "string":
            yield from _string(value, schema, path, about)
        case "integer" | "number":
            yield from _number(value, schema, path)


def check_rules(value: JSON, model: type[Model], path: FieldPath) -> Iterator[Violation]:
    """Yield the broken `Rule`s of *model* and of every model below it. Expects a structurally sound value with defaults."""
    for rule in model.rules:
        if not rule.test(value):
            where = at(path, rule.field) if rule.field else path
            text, _, fix = rule.message.partition("; ")
            shown = value.get(rule.field, ...) if rule.field else ...
            yield Violation(path=where, rule=text, fix=fix, **({} if shown is ... else {"value": shown}))
    for name, child, many in _children(model):
        item = value.get(name)
        if item is None:
            continue
        if many is list:
            for index, one in enumerate(item):
                yield from check_rules(one, child, at(path, name, index))
        elif many is dict:
            for key, one in item.items():
                yield from check_rules(one, child, at(path, name, key))
        else:
            yield from check_rules(item, child, at(path, name))


@lru_cache(maxsize=1024)
def _children(model: type[Model]) -> tuple[tuple[str, type[Model], type | None], ...]:
    """Give the fields of *model* that hold models: name in the manifest, the model, and whether it holds many in a list or a map."""
    from msgspec import inspect  # noqa: PLC0415 - only the first check of each model needs it

    found: list[tuple[str, type[Model], type | None]] = []
    info = inspect.type_info(model)
    for field in info.fields if isinstance(info, inspect.StructType) else ():
        node: Any = field.type
        many: type | None = None
        freeform = False
        while True:
            if isinstance(node, inspect.Metadata):
                freeform = freeform or bool((node.extra_json_schema or {}).get("x-kubernetes-preserve-unknown-fields"))
                node = node.type
            elif isinstance(node, inspect.UnionType):
                rest = [t for t in node.types if not isinstance(t, inspect.NoneType)]
                if len(rest) != 1:
                    break
                node = rest[0]
            elif isinstance(node, inspect.VarTupleType) and many is None:
                node, many = node.item_type, list
            elif isinstance(node, inspect.DictType) and many is None:
                node, many = node.value_type, dict
            else:
                break
        if isinstance(node, inspect.StructType) and issubclass(node.cls, Model) and not freeform:
            found.append((field.encode_name, node.cls, many))
    return tuple(found)


def _is(value: JSON, kind: str) -> bool:
    match kind:
        case "object":
            return isinstance(value, Mapping)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            return isinstance(value, int | float) and not isinstance(value, bool)


def _type_fix(value: JSON, kind: str) -> str:
    if kind == "string" and isinstance(value, bool):
        return 'quote it: YAML reads unquoted on, off, yes and no as booleans, so write "on" or "off"'
    if kind == "string" and isinstance(value, int | float):
        return f'quote it: "{value}"'
    if kind in ("integer", "number") and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"remove the quotes: {value}"
    if kind == "array" and not isinstance(value, dict):
        return "write it as a list item, with a leading hyphen"
    return f"write {_TYPE_NAMES[kind]}"


def _object(value: Mapping[str, JSON], schema: Schema, path: FieldPath, about: str) -> Iterator[Violation]:
    for name in value:
        if not isinstance(name, str):
            yield Violation(path=path, value=name, rule="is a key that is no string", fix=_type_fix(name, "string"))
            return
    if "properties" in schema:
        known = schema["properties"]
        for name in schema.get("required", ()):
            if name not in value:
                yield Violation(
                    path=at(path, name), rule="is missing", fix=f"add it: {known[name].get('description', '')}"
                )
        for name, item in value.items():
            if name not in known:
                yield Violation(path=at(path, name), rule="is no field of this object", fix=did_you_mean(name, known))
            else:
                yield from check_structure(item, known[name], at(path, name))
        return
    if len(value) > schema.get("maxProperties", len(value)):
        yield Violation(
            path=path,
            rule=f"has {len(value)} entries, at most {schema['maxProperties']} are allowed",
            fix="remove some",
        )
    if len(value) < schema.get("minProperties", 0):
        yield Violation(path=path, rule=f"needs at least {schema['minProperties']} entries", fix="add one")
    for name, item in value.items():
        yield from check_structure(
            item, schema["additionalProperties"], at(path, name), schema.get("description", about)
        )


def _array(value: list[JSON], schema: Schema, path: FieldPath, about: str) -> Iterator[Violation]:
    if len(value) > schema.get("maxItems", len(value)):
        yield Violation(
            path=path, rule=f"has {len(value)} items, at most {schema['maxItems']} are allowed", fix="remove some"
        )
    if len(value) < schema.get("minItems", 0):
        yield Violation(path=path, rule=f"needs at least {schema['minItems']} items", fix="add one")
    for index, item in enumerate(value):
        yield from check_structure(item, schema["items"], at(path, index), schema.get("description", about))
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys and all(isinstance(item, dict) for item in value):
        seen: set[tuple[str, ...]] = set()
        for index, item in enumerate(value):
            identity = tuple(str(item.get(key)) for key in keys)
            if identity in seen:
                yield Violation(
                    path=at(path, index, keys[0]),
                    value=item.get(keys[0]),
                    rule="stands twice in this list",
                    fix="rename one",
                )
            seen.add(identity)


def _string(value: str, schema: Schema, path: FieldPath, about: str) -> Iterator[Violation]:
    if "enum" in schema and value not in schema["enum"]:
        yield Violation(
            path=path, value=value, rule="is not one of the allowed values", fix=did_you_mean(value, schema["enum"])
        )
    if len(value) > schema.get("maxLength", len(value)):
        yield Violation(
            path=path, value=value, rule=f"is longer than {schema['maxLength']} characters", fix="shorten it"
        )
    elif len(value) < schema.get("minLength", 0):
        yield Violation(
            path=path, value=value, rule=f"is shorter than {schema['minLength']} characters", fix="write a value"
        )
    elif "pattern" in schema and not re.search(_rooted(schema["pattern"]), value):
        rule = _PATTERN_NAMES.get(schema["pattern"], f"does not match {schema['pattern']}")
        yield Violation(
            path=path, value=value, rule=rule, fix=schema.get("description", about) or "see its description"
        )


@lru_cache(maxsize=1024)
def _rooted(pattern: str) -> re.Pattern[str]:
    """Compile a schema pattern the way the API server's engine reads it: `$` is the end of the text, never before a newline."""
    return re.compile(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), re.ASCII)


def _number(value: float, schema: Schema, path: FieldPath) -> Iterator[Violation]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and value < low:
        yield Violation(path=path, value=value, rule=f"is below the minimum of {low}", fix=f"use {low} or more")
    elif high is not None and value > high:
        yield Violation(path=path, value=value, rule=f"is above the maximum of {high}", fix=f"use {high} or less")
