"""Operators that decide what is evaluated: `if`, `and`, `or`, and the loops over lists.

Inside the body of a loop data is the item alone (in `reduce`: `current` and `accumulator`), never the context around it: JsonLogic has no way
out of a loop. A loop pays for its rounds in advance, so that no rule can hold up the process.
"""

from typing import Final

from pillion.flags.coercion import truthy
from pillion.flags.program import Build, Place, Program, constant
from pillion.kinds.model import JSON

PREDICATES: Final = frozenset(
    {"==", "===", "!=", "!==", "<", "<=", ">", ">=", "!", "!!", "in", "all", "none", "some"}
    | {"sem_ver", "starts_with", "ends_with"}
)
"""Operators that give true or false (the last three also null), whose answer a condition may take as it is."""


def build_if(place: Place) -> Program:
    """Build `if`: pairs of condition and consequence, then what else."""
    compiled = place.all()
    pairs = [
        (_condition(place.arguments[index], compiled[index]), compiled[index + 1])
        for index in range(0, len(compiled) - 1, 2)
    ]
    otherwise = compiled[-1] if len(compiled) % 2 else constant(None)
    if len(pairs) == 1:
        condition, then = pairs[0]
        return lambda data: then(data) if condition(data) else otherwise(data)

    def run(data: JSON) -> JSON:
        for condition, then in pairs:
            if condition(data):
                return then(data)
        return otherwise(data)

    return run


def _condition(logic: JSON, program: Program) -> Program:
    """Give a program whose answer Python may test; that of a predicate is so already."""
    if type(logic) is dict and len(logic) == 1 and next(iter(logic)) in PREDICATES:
        return program
    return lambda data: truthy(program(data))


def build_and(place: Place) -> Program:
    """Build `and`: the first operand that is not true, else the last."""
    compiled = place.all()

    def run(data: JSON) -> JSON:
        value = None
        for operand in compiled:
            value = operand(data)
            if not truthy(value):
                return value
        return value

    return run


def build_or(place: Place) -> Program:
    """Build `or`: the first operand that is true, else the last."""
    compiled = place.all()

    def run(data: JSON) -> JSON:
        value = None
        for operand in compiled:
            value = operand(data)
            if truthy(value):
                return value
        return value

    return run


def _loop(place: Place) -> tuple[Program, Program, int]:
    """Compile the list and the body of a loop; the third is what one round costs."""
    items = place.at(0)
    before = place.rule.nodes
    body = place.inside(1)
    return items, body, place.rule.nodes - before + 1


def build_map(place: Place) -> Program:
    """Build `map`: the body's answer for every item."""
    items, body, cost = _loop(place)
    meter = place.meter

    def run(data: JSON) -> JSON:
        found = items(data)
        if type(found) is not list:
            return []
        meter.spend(len(found) * cost)
        return [body(item) for item in found]

    return run


def build_filter(place: Place) -> Program:
    """Build `filter`: the items for which the body is true."""
    items, body, cost = _loop(place)
    meter = place.meter

    def run(data: JSON) -> JSON:
        found = items(data)
        if type(found) is not list:
            return []
        meter.spend(len(found) * cost)
        return [item for item in found if truthy(body(item))]

    return run


def build_reduce(place: Place) -> Program:
    """Build `reduce`: the body's answer for `current` and `accumulator`, item by item; what is no list gives the initial value."""
    items, body, cost = _loop(place)
    initial, meter = place.at(2), place.meter

    def run(data: JSON) -> JSON:
        found, accumulator = items(data), initial(data)
        if type(found) is not list:
            return accumulator
        meter.spend(len(found) * cost)
        for item in found:
            accumulator = body({"current": item, "accumulator": accumulator})
        return accumulator

    return run


def _quantifier(*, wanted: bool, then: bool, empty: bool) -> Build:
    """Build a quantifier: *then* as soon as the body's truth is *wanted* for an item, else the opposite; *empty* where there is no item."""

    def build(place: Place) -> Program:
        items, body, cost = _loop(place)
        meter = place.meter
        if len(place.arguments) < 2:
            return constant(empty)

        def run(data: JSON) -> JSON:
            found = items(data)
            if type(found) is not list or not found:
                return empty
            meter.spend(len(found) * cost)
            return then if any(truthy(body(item)) is wanted for item in found) else not then

        return run

    return build


build_all: Final = _quantifier(wanted=False, then=False, empty=False)
build_some: Final = _quantifier(wanted=True, then=True, empty=False)
build_none: Final = _quantifier(wanted=True, then=False, empty=True)
