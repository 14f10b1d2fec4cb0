"""What a rule can result in, found without running it: which variants its branches name, and where something else may come out.

The result of a rule names a variant: text by itself, true and false the variants "true" and "false", a number the variant written like it, null
none. A literal in a branch is known; a comparison gives true or false; what is computed from attributes may be anything, and is believed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from pillion.flags.coercion import number_text, truthy
from pillion.flags.control import PREDICATES
from pillion.flags.program import is_literal
from pillion.kinds.model import JSON
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean

_NULLABLE: Final = frozenset({"sem_ver", "starts_with", "ends_with"})
_NUMBERS: Final = frozenset({"+", "-", "*", "/", "%", "min", "max"})
_LISTS: Final = frozenset({"map", "filter", "merge", "missing", "missing_some"})
_BOOLEAN_WORDS: Final = frozenset({"on", "off", "yes", "no", "y", "n"})


class _Result(NamedTuple):
    """One thing that may come out: where it is decided, whether it is written there or computed, and what it is."""

    path: FieldPath
    kind: Literal["literal", "computed", "number", "list", "any"]
    value: JSON = None


def yaml_hint(name: str, variants: Mapping[str, JSON]) -> str:
    """Give the fix where a boolean word and the names true and false meet; empty where they do not."""
    words = sorted(word for word in variants if word.lower() in _BOOLEAN_WORDS)
    if name.lower() in _BOOLEAN_WORDS and {"true", "false"} & variants.keys():
        return f'quote it among the variants: "{name}"; YAML reads unquoted on, off, yes and no as true and false'
    if name in ("true", "false") and words:
        return f'quote it: "{words[0]}"; YAML reads unquoted on, off, yes and no as true and false'
    return ""


def check_results(targeting: JSON, variants: Mapping[str, JSON], path: FieldPath) -> Iterator[Violation]:
    """Yield what a rule may result in that names no variant."""
    told: set[FieldPath] = set()
    for result in _results(targeting, path):
        violation = _judge(result, variants)
        if violation is not None and result.path not in told:
            told.add(result.path)
            yield violation


def _judge(result: _Result, variants: Mapping[str, JSON]) -> Violation | None:
    """Say what is wrong with a result, if anything is."""
    value, path = result.value, result.path
    if result.kind == "any" or (result.kind in ("literal", "computed") and value is None):
        return None
    names = ", ".join(f'"{name}"' for name in list(variants)[:3])
    if result.kind == "list" or isinstance(value, list | dict):
        return Violation(
            path=path, rule="gives a list or an object, which names no variant", fix=f"give one of {names}"
        )
    if result.kind == "number":
        if any(name.lstrip("-").replace(".", "", 1).isdigit() for name in variants):
            return None
        return Violation(path=path, rule="gives a number, and no variant is named by one", fix=f"give one of {names}")
    name = ("true" if value else "false") if isinstance(value, bool) else value
    name = number_text(name) if isinstance(name, int | float) else name
    if name in variants:
        return None
    if result.kind == "computed":
        rest = [word for word in variants if word not in ("true", "false")]
        fix = (
            f'decide by it: {{"if": [..., "{rest[0]}", "{rest[-1]}"]}}'
            if rest
            else 'add the variants "true" and "false"'
        )
        return Violation(path=path, rule=f'may give {name}, and there is no variant "{name}"', fix=fix)
    return Violation(
        path=path,
        value=value,
        rule="names none of the flag's variants",
        fix=yaml_hint(name, variants) or did_you_mean(name, variants),
    )


def _results(logic: JSON, path: FieldPath) -> Iterator[_Result]:
    """Yield everything that *logic* may result in."""
    if isinstance(logic, list):
        yield _Result(path, "list")
        return
    if not isinstance(logic, dict) or len(logic) != 1:
        yield _Result(path, "literal", logic)
        return
    operator, operands = next(iter(logic.items()))
    here = at(path, operator)
    places = (
        [(operand, at(here, index)) for index, operand in enumerate(operands)]
        if isinstance(operands, list)
        else [(operands, here)]
    )
    if operator in ("if", "?:"):
        yield from _branches(places, here)
    elif operator in ("and", "or"):
        yield from _operands(places, keep=truthy if operator == "or" else lambda value: not truthy(value))
    elif operator == "fractional":
        yield from _entries(places)
    elif operator in PREDICATES:
        yield _Result(here, "computed", value=False)
        yield _Result(here, "computed", value=True)
        if operator in _NULLABLE:
            yield _Result(here, "computed")
    else:
        yield _Result(here, "number" if operator in _NUMBERS else "list" if operator in _LISTS else "any")


def _branches(places: list[tuple[JSON, FieldPath]], here: FieldPath) -> Iterator[_Result]:
    """Yield the results of the branches of an `if` that can be reached."""
    for index in range(0, len(places) - 1, 2):
        condition = places[index][0]
        known = is_literal(condition)
        if not known or truthy(condition):
            yield from _results(*places[index + 1])
        if known and truthy(condition):
            return
    if len(places) % 2:
        yield from _results(*places[-1])
    else:
        yield _Result(here, "computed")


def _operands(places: list[tuple[JSON, FieldPath]], *, keep: Callable[[JSON], bool]) -> Iterator[_Result]:
    """Yield the results of `and` or `or`: of the last operand all, of the others those that end the evaluation."""
    for index, (operand, path) in enumerate(places):
        for result in _results(operand, path):
            ends = keep(result.value) if result.kind in ("literal", "computed") else True
            if ends or index == len(places) - 1:
                yield result


def _entries(places: list[tuple[JSON, FieldPath]]) -> Iterator[_Result]:
    """Yield the variants of a `fractional`."""
    entries = places if places and isinstance(places[0][0], list) else places[1:]
    for entry, path in entries:
        if isinstance(entry, list) and entry:
            yield from _results(entry[0], at(path, 0))
        elif not isinstance(entry, list):
            yield _Result(path, "any")


def check_reach(operands: list[JSON], path: FieldPath) -> Iterator[Violation]:
    """Yield warnings about branches of an `if` that no context reaches."""
    seen: dict[str, FieldPath] = {}
    for index in range(0, len(operands) - 1, 2):
        condition = operands[index]
        here = at(path, index)
        if is_literal(condition):
            if not truthy(condition):
                yield _unreached(at(path, index + 1), f"its condition {here} never holds")
            elif index + 2 < len(operands):
                yield _unreached(at(path, index + 2), f"the condition {here} always holds")
                return
            continue
        text = json.dumps(condition, sort_keys=True)
        if text in seen:
            yield _unreached(at(path, index + 1), f"{here} is the same condition as {seen[text]}")
        seen.setdefault(text, here)


def _unreached(path: FieldPath, why: str) -> Violation:
    return Violation(
        path=path, rule=f"is never reached: {why}", fix="remove the branch or correct the condition", severity="warning"
    )
