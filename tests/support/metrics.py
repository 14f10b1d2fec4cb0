"""Every metric of the product as its source declares it: name and labels, without running anything.

Names that are put together from a constant of their module or from its tables are resolved by importing that module; any other composed name is an error, so that none slips through.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = (ROOT / "sidecars" / "src", ROOT / "operator" / "src")
_SUFFIXES: Final = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}


def declared() -> dict[str, set[str]]:
    """The labels of every series, by its name as Prometheus sees it."""
    found: dict[str, set[str]] = {}
    for source in SOURCES:
        for file in sorted(source.rglob("*.py")):
            module = ".".join(file.relative_to(source).with_suffix("").parts)
            for call in ast.walk(ast.parse(file.read_text())):
                if isinstance(call, ast.Call) and (kind := _kind(call)) and call.args:
                    labels = _labels(call)
                    for name in _names(call.args[0], module):
                        if name.startswith("pillion_"):
                            for suffix in _SUFFIXES[kind]:
                                found[name.removesuffix("_total") + suffix] = labels | (
                                    {"le"} if suffix == "_bucket" else set()
                                )
    return found


def _kind(call: ast.Call) -> str:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    kind = name.removesuffix("MetricFamily")
    return kind if kind in _SUFFIXES else ""


def _labels(call: ast.Call) -> set[str]:
    given = [keyword.value for keyword in call.keywords if keyword.arg in {"labels", "labelnames"}]
    given += [argument for argument in call.args[2:3] if isinstance(argument, ast.List | ast.Tuple)]
    return set(ast.literal_eval(given[0])) if given else set()


def _names(argument: ast.expr, module: str) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
        return
    if not isinstance(argument, ast.JoinedStr):
        return
    names = [""]
    for part in argument.values:
        if isinstance(part, ast.Constant):
            names = [name + part.value for name in names]
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
            values = _values(importlib.import_module(module), part.value.id)
            names = [name + value for name in names for value in values]
        else:
            raise TypeError(f"{module}: a metric's name is put together in a way that is not understood")
    yield from names


def _values(module: Any, name: str) -> list[str]:
    constant = getattr(module, name, None)
    if isinstance(constant, str):
        return [constant]
    tables = [table for key, table in vars(module).items() if key in {"_COUNTERS", "_GAUGES"}]
    if not tables:
        raise ValueError(f"{module.__name__}: {name} is neither a constant nor of a table")
    return [key for table in tables for key in table]
