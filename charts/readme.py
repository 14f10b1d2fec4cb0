# ruff: noqa: INP001 - a script of the repository, no package
"""Writes the tables of charts/pillion/README.md: the values from values.yaml and values.schema.json, the alerts from files/alerts.yaml.

A value is described once, by the comment above it in values.yaml; its type and its bounds are the schema's. `make crds` runs this script, a test fails where
its result is not what is committed. With `--check` it writes nothing and ends with 1 where something would change.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

JSON = Any

CHART = Path(__file__).parent / "pillion"
README = CHART / "README.md"


class Undescribed(ValueError):  # noqa: N818 - says what it is
    """A value without a comment, or one that schema and values do not share."""


class Value(NamedTuple):
    """One value that may be set."""

    path: str
    type: str
    default: str
    meaning: str


def values(text: str, schema: JSON) -> list[Value]:
    """Give every value of a values.yaml, in its order.

    Raises:
        Undescribed: one has no comment, or is not in the schema, or the schema has one more.
    """
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise Undescribed("values.yaml: is no mapping")
    return list(_below(root, schema, schema, "", lines))


def _below(node: yaml.MappingNode, schema: JSON, root: JSON, path: str, lines: list[str]) -> Iterator[Value]:
    properties = schema["properties"]
    names = [key.value for key, _ in node.value]
    # `global` is Helm's own.
    if wrong := set(names) ^ (set(properties) - {"global"}):
        raise Undescribed(f"{path or 'values.yaml'}: schema and values differ in {', '.join(sorted(wrong))}")
    for key, child in node.value:
        here = f"{path}.{key.value}" if path else key.value
        its = _resolved(properties[key.value], root)
        comment = _comment(lines, key.start_mark.line)
        # A group of values is described by its members; an object that is set as a whole has a comment of its own.
        if isinstance(child, yaml.MappingNode) and "properties" in its and not comment:
            yield from _below(child, its, root, here, lines)
            continue
        if not comment:
            raise Undescribed(f"{here}: has no comment above it; say what it does")
        default = json.dumps(yaml.safe_load(yaml.serialize(child)))
        yield Value(here, _type(its, root), f"`{default}`", comment)


def _comment(lines: list[str], at: int) -> str:
    found: list[str] = []
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        found.insert(0, lines[at].lstrip().removeprefix("#").strip())
    return " ".join(found)


def _resolved(schema: JSON, root: JSON) -> JSON:
    reference = schema.get("$ref")
    return root["$defs"][reference.removeprefix("#/$defs/")] if reference else schema


def _type(schema: JSON, root: JSON) -> str:
    schema = _resolved(schema, root)
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_type(schema['items'], root)}"
    if schema["type"] == "object" and schema.get("additionalProperties") == {"type": "string"}:
        return "map of strings"
    if "maximum" in schema:
        return f"{schema['type']}, {schema['minimum']} to {schema['maximum']}"
    return str(schema["type"])


def values_table(found: list[Value]) -> str:
    """Write the table of values."""
    rows = [f"| `{one.path}` | {one.type} | {one.default} | {_cell(one.meaning)} |" for one in found]
    return "\n".join(["| value | type | default | meaning |", "|---|---|---|---|", *rows])


def alerts_table(groups: JSON) -> str:
    """Write the table of alerts."""
    rows = [
        f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', 'at once')} | {_cell(rule['annotations']['description'])} |"
        for group in groups
        for rule in group["rules"]
    ]
    return "\n".join(["| alert | severity | after | what it means |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def filled(page: str, tables: dict[str, str]) -> str:
    """Put each table between its marks.

    Raises:
        Undescribed: the page has no place for one.
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name}: written by charts/readme.py -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = place.subn(partial(_between, table), page)
        if count != 1:
            raise Undescribed(f"the page has {count} places for the table of {name}, instead of one")
    return page


def _between(table: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{table}\n{marks[2]}"


def rendered() -> str:
    """Give what the README should be."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    tables = {
        "values": values_table(values((CHART / "values.yaml").read_text(), schema)),
        "alerts": alerts_table(groups),
    }
    return filled(README.read_text(), tables)


def main(arguments: list[str]) -> int:
    """Write the README, or check it."""
    page = rendered()
    if arguments == ["--check"]:
        return int(page != README.read_text())
    README.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
