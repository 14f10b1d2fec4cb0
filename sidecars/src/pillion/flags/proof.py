"""What admission proves about a targeting rule before any sidecar runs it.

Every operator exists and has operands that it can work with, every weight adds up, every literal result names a variant, nothing is too deep or
too large. Each finding has the path of the very value, so that an editor can point at it. What a running evaluator would only answer with null
(and so, silently, with the default variant) is an error here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pillion.flags.bucketing import MAX_WEIGHT, weight_of
from pillion.flags.compiler import OPERATORS
from pillion.flags.program import FLAGD, MAX_DEPTH, MAX_NODES
from pillion.flags.results import check_reach, check_results
from pillion.flags.versions import COMPARISONS, parse_version
from pillion.kinds.model import JSON
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean

_ADMITTED_DEPTH: Final = MAX_DEPTH - 8
"""Levels that a rule may have; the rest is for what compilation puts around it (schedules)."""

_MANY: Final = 1_000_000_000
"""Operands without a bound of their own; the rule has one."""

ARITY: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(OPERATORS, (1, _MANY)),
    **dict.fromkeys(("==", "===", "!=", "!==", "/", "%", "in", "map", "filter", "all", "none", "some"), (2, 2)),
    **dict.fromkeys(("starts_with", "ends_with", "missing_some"), (2, 2)),
    **dict.fromkeys(("<", "<=", ">", ">=", "reduce"), (2, 3)),
    **dict.fromkeys(("!", "!!"), (1, 1)),
    **dict.fromkeys(("missing", "merge"), (0, _MANY)),
    "var": (0, 2),
    "-": (1, 2),
    "substr": (2, 3),
    "sem_ver": (3, 3),
}
"""The least and the most operands of each operator, as flagd's targeting schema has them."""

_LOOPS: Final = frozenset({"map", "filter", "reduce", "all", "none", "some"})


def prove(targeting: JSON, variants: Mapping[str, JSON], path: FieldPath) -> Iterator[Violation]:
    """Yield everything that is wrong with a rule.

    Args:
        targeting: the rule as written.
        variants: the flag's variants by name.
        path: where the rule stands.
    """
    if not isinstance(targeting, dict):
        yield Violation(
            path=path, value=targeting, rule="must be a map with one operator", fix='write {"if": [condition, variant]}'
        )
        return
    if not targeting:
        return
    found = list(_Walk().node(targeting, path, 1))
    yield from found
    if not any(violation.severity == "error" for violation in found):
        yield from check_results(targeting, variants, path)


class _Walk:
    """One walk over a rule; counts its parts."""

    def __init__(self) -> None:
        self._nodes = 0

    def node(self, logic: JSON, path: FieldPath, depth: int) -> Iterator[Violation]:
        """Check one value of the rule and all below it."""
        self._nodes += 1
        if depth > _ADMITTED_DEPTH:
            yield Violation(path=path, rule=f"is nested deeper than {_ADMITTED_DEPTH} levels", fix="split the rule")
            return
        if self._nodes == MAX_NODES:
            yield Violation(
                path=path,
                rule=f"is where the rule exceeds {MAX_NODES} parts",
                fix="split it, or send a computed attribute",
            )
        if self._nodes >= MAX_NODES:
            return
        if isinstance(logic, list):
            for index, item in enumerate(logic):
                yield from self.node(item, at(path, index), depth + 1)
        elif isinstance(logic, dict):
            if len(logic) == 1:
                operator, operands = next(iter(logic.items()))
                yield from self._operator(operator, operands, path, depth)
            else:
                what = f"has {len(logic)} keys" if logic else "is an empty object"
                yield Violation(
                    path=path,
                    rule=f"{what} where a rule has exactly one operator",
                    fix='write one operator per object, and join conditions with "and" or "or"',
                )

    def _operator(self, operator: str, operands: JSON, path: FieldPath, depth: int) -> Iterator[Violation]:
        here = at(path, operator)
        if operator == "$ref":
            yield Violation(
                path=here,
                value=operands,
                rule="refers to an evaluator of a flag set, and a resource is a single flag",
                fix="write the evaluator's rule in its place",
            )
            return
        if operator not in OPERATORS:
            yield Violation(path=here, rule="is no operator", fix=did_you_mean(operator, OPERATORS))
            return
        listed = isinstance(operands, list)
        arguments: list[JSON] = operands if listed else [operands]
        places = [at(here, index) if listed else here for index in range(len(arguments))]
        least, most = ARITY[operator]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}" if most < _MANY else f"at least {least}"
            yield Violation(
                path=here, rule=f"has {len(arguments)} operands, and takes {wanted}", fix="add or remove operands"
            )
            return
        special = _CHECKS.get(operator)
        if special is not None:
            yield from special(arguments, places, here)
        for argument, place in zip(arguments, places, strict=True):
            yield from self.node(argument, place, depth + 1)


def _check_var(arguments: list[JSON], places: list[FieldPath], _here: FieldPath) -> Iterator[Violation]:
    if not arguments:
        return
    name = arguments[0]
    if isinstance(name, bool | float | list):
        yield Violation(path=places[0], value=name, rule="names no attribute", fix='write its name: {"var": "email"}')
    elif isinstance(name, str) and name.startswith(f"{FLAGD}."):
        known = (f"{FLAGD}.flagKey", f"{FLAGD}.timestamp")
        if name not in known:
            yield Violation(path=places[0], value=name, rule="does not exist", fix=did_you_mean(name, known))


def _check_if(arguments: list[JSON], _places: list[FieldPath], here: FieldPath) -> Iterator[Violation]:
    yield from check_reach(arguments, here)


def _check_in(arguments: list[JSON], places: list[FieldPath], _here: FieldPath) -> Iterator[Violation]:
    if not isinstance(arguments[1], str | list | dict):
        yield Violation(
            path=places[1],
            value=arguments[1],
            rule="contains nothing",
            fix="write a list of values, or a text to look into",
        )


def _check_loop(arguments: list[JSON], places: list[FieldPath], _here: FieldPath) -> Iterator[Violation]:
    if not isinstance(arguments[0], list | dict):
        yield Violation(
            path=places[0], value=arguments[0], rule="is no list", fix='write a list, or an attribute: {"var": "tags"}'
        )


def _check_affix(arguments: list[JSON], places: list[FieldPath], _here: FieldPath) -> Iterator[Violation]:
    for argument, place in zip(arguments, places, strict=True):
        if not isinstance(argument, str | dict):
            yield Violation(path=place, value=argument, rule="must be a text", fix=f"quote it: {_quoted(argument)}")


def _quoted(value: JSON) -> str:
    return f'"{value}"' if isinstance(value, int | float) else '"text"'


def _check_sem_ver(arguments: list[JSON], places: list[FieldPath], _here: FieldPath) -> Iterator[Violation]:
    operator = arguments[1]
    if not isinstance(operator, dict) and operator not in COMPARISONS:
        yield Violation(
            path=places[1],
            value=operator,
            rule="is no comparison of versions",
            fix=f"use one of {' '.join(COMPARISONS)}",
        )
    for argument, place in ((arguments[0], places[0]), (arguments[2], places[2])):
        if not isinstance(argument, dict) and parse_version(argument) is None:
            yield Violation(path=place, value=argument, rule="is no version", fix='write it as in "1.2.3"')


def _check_fractional(arguments: list[JSON], places: list[FieldPath], here: FieldPath) -> Iterator[Violation]:
    shorthand = isinstance(arguments[0], list)
    if not shorthand and not isinstance(arguments[0], dict):
        yield Violation(
            path=places[0],
            value=arguments[0],
            rule="is the same for everybody, so all fall into one bucket",
            fix='bucket by an attribute, as in {"var": "email"}, or leave it out to bucket by targetingKey',
            severity="warning",
        )
    entries = list(zip(arguments, places, strict=True))[0 if shorthand else 1 :]
    if not entries:
        yield Violation(path=here, rule="has no entries", fix='add some, as in ["on", 10], ["off", 90]')
        return
    total: int | None = 0
    for entry, place in entries:
        broken = _entry_problem(entry, place)
        if broken is not None:
            yield broken
        weight = None if broken and broken.severity == "error" else _known_weight(entry)
        total = None if weight is None or total is None else total + weight
    if total == 0:
        yield Violation(path=here, rule="has weights that add up to 0", fix="give at least one entry a weight")
    elif total is not None and total > MAX_WEIGHT:
        yield Violation(
            path=here,
            rule=f"has weights that add up to {total}, over the bound of {MAX_WEIGHT}",
            fix="use smaller weights",
        )


def _entry_problem(entry: JSON, place: FieldPath) -> Violation | None:
    """Say what is wrong with one entry of a split; a computed entry is believed."""
    example = 'write it as in ["on"] or ["on", 10]'
    if isinstance(entry, dict):
        return None
    if not isinstance(entry, list):
        return Violation(path=place, value=entry, rule="is no entry of a split", fix=example)
    if not 1 <= len(entry) <= 2:
        return Violation(path=place, rule=f"has {len(entry)} elements, and takes a variant and a weight", fix=example)
    if len(entry) == 1 or isinstance(entry[1], dict):
        return None
    weight, here = entry[1], at(place, 1)
    if weight is None:
        return Violation(path=here, value=weight, rule="counts as 1", fix="write the weight", severity="warning")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        return Violation(path=here, value=weight, rule="is no weight", fix="write a whole number")
    if weight > MAX_WEIGHT:
        return Violation(path=here, value=weight, rule=f"is over the bound of {MAX_WEIGHT}", fix="use smaller weights")
    if weight_of(weight) is None:
        fix = f"multiply all weights of this split: only their proportion counts, as in {2 * weight:g}"
        return Violation(path=here, value=weight, rule="is no whole number, and then nobody is bucketed", fix=fix)
    if weight < 0:
        return Violation(path=here, value=weight, rule="is negative, and counts as 0", fix="write 0 or more")
    return None


def _known_weight(entry: JSON) -> int | None:
    """Give the weight of an entry; None where it is computed."""
    if not isinstance(entry, list):
        return None
    if len(entry) == 1:
        return 1
    return None if isinstance(entry[1], dict) else weight_of(entry[1])


_Check = Callable[[list[JSON], list[FieldPath], FieldPath], Iterator[Violation]]

_CHECKS: Final[dict[str, _Check]] = {
    "var": _check_var,
    "if": _check_if,
    "?:": _check_if,
    "in": _check_in,
    **dict.fromkeys(_LOOPS, _check_loop),
    "starts_with": _check_affix,
    "ends_with": _check_affix,
    "sem_ver": _check_sem_ver,
    "fractional": _check_fractional,
}
