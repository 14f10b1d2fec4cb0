"""Read manifests from YAML or JSON text the way `kubectl` reads them, and remember the line of every field.

`kubectl` knows YAML 1.1 booleans (`on`, `yes`) but neither dates nor base-60 numbers; PyYAML's own loader knows all three, so `22:00` would
arrive as 1320. The loader here resolves plain scalars as `kubectl` does. Duplicate keys are refused: the API server's strict mode does too.
Everything is bounded: text by size, documents by nodes, so that aliases cannot expand into a bomb.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from pillion.kinds.model import JSON
from pillion.kinds.violations import FieldPath, at

MAX_BYTES: Final = 4 * 1024 * 1024
"""Largest manifest file; etcd refuses objects over 1.5 MiB, and a file may hold several."""

MAX_NODES: Final = 200_000
"""Most values in one file, aliases counted as often as they are used."""


class ManifestError(ValueError):
    """The text is no manifest. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a file: its value, the line it begins on, and the line of every field by path."""

    value: dict[str, JSON]
    line: int
    lines: dict[FieldPath, int]

    def line_of(self, path: FieldPath) -> int:
        """Give the line of *path*, or of its nearest ancestor that stands in the text."""
        here = str(path)
        while here:
            if here in self.lines:
                return self.lines[FieldPath(here)]
            here = here[: max(here.rfind("."), here.rfind("["), 0)]
        return self.line


class _Loader(yaml.CSafeLoader):
    """A safe loader with the scalars of `kubectl`."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|y|Y|n|N)$"),
    list("yYnNtTfFoO"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"), ["<"])
_BOOLEANS: Final = {"y": True, "n": False} | yaml.constructor.SafeConstructor.bool_values


def _boolean(loader: Any, node: Any) -> bool:
    return bool(_BOOLEANS[loader.construct_scalar(node).lower()])


_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def read_documents(text: str) -> Iterator[Document]:
    """Yield the documents of *text*; empty ones are passed over, a `List` is unfolded into its items.

    Raises:
        ManifestError: the text is no YAML, too large, or a document is no map.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ManifestError(f"the file is larger than {MAX_BYTES} bytes; split it", 1)
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            budget = [MAX_NODES]
            lines: dict[FieldPath, int] = {}
            _note(node, FieldPath(""), lines, budget)
            value = loader.construct_document(node)
            if value is None:
                continue
            line = node.start_mark.line + 1
            if not isinstance(value, dict):
                raise ManifestError("a document must be a map with apiVersion, kind, metadata and spec", line)
            if value.get("kind") == "List" and isinstance(value.get("items"), list):
                for index, item in enumerate(value["items"]):
                    prefix = at("", "items", index)
                    below = {FieldPath(p[len(prefix) + 1 :]): n for p, n in lines.items() if p.startswith(f"{prefix}.")}
                    if not isinstance(item, dict):
                        raise ManifestError(f"{prefix} must be a map", lines.get(prefix, line))
                    yield Document(value=item, line=lines.get(prefix, line), lines=below)
            else:
                yield Document(value=value, line=line, lines=lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"is no YAML: {error.problem or error.context}", mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"is no YAML: {error}", 1) from None
    finally:
        loader.dispose()


def _note(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], budget: list[int]) -> None:
    """Remember the line of *node* and of all below it."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ManifestError(
            f"the file holds more than {MAX_NODES} values; split it, or remove nested aliases", node.start_mark.line + 1
        )
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ManifestError(
                    f'the key "{name}" stands twice in the same map; remove one', key.start_mark.line + 1
                )
            seen.add(name)
            here = at(path, name)
            lines[here] = key.start_mark.line + 1
            _note(value, here, lines, budget)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = at(path, index)
            lines[here] = item.start_mark.line + 1
            _note(item, here, lines, budget)
