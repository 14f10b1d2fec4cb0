"""JsonLogic to closures: a targeting rule becomes one Python function of the evaluation context, built once and called per request.

The semantics are those of JsonLogic as flagd's evaluators implement it, plus flagd's own operators; where the evaluators differ among
themselves, `coercion.py` says who decides, and docs/flags.md lists every case. A program is pure and bounded. It is not meant for several threads
at a time, because its evaluations share one meter.
"""

from typing import Final, NamedTuple

from pillion.flags import attributes, control, operations, targeting
from pillion.flags.bucketing import Generation
from pillion.flags.coercion import Meter
from pillion.flags.program import (
    MAX_DEPTH,
    MAX_NODES,
    Build,
    Observer,
    Place,
    Program,
    Reads,
    Rule,
    TooLarge,
    UnknownOperator,
    constant,
)
from pillion.kinds.model import JSON
from pillion.kinds.violations import at

_BUILDERS: Final[dict[str, Build]] = {
    "var": attributes.build_var,
    "missing": attributes.build_missing,
    "missing_some": attributes.build_missing_some,
    "if": control.build_if,
    "?:": control.build_if,
    "and": control.build_and,
    "or": control.build_or,
    "map": control.build_map,
    "filter": control.build_filter,
    "reduce": control.build_reduce,
    "all": control.build_all,
    "some": control.build_some,
    "none": control.build_none,
    "fractional": targeting.build_fractional,
    "sem_ver": targeting.build_sem_ver,
    **operations.BUILDERS,
}

OPERATORS: Final = frozenset(_BUILDERS)
"""Every operator of the language."""


class Compiled(NamedTuple):
    """A compiled rule.

    Args:
        program: the function; set `meter.left` to `MAX_STEPS` before each evaluation.
        meter: the bound of an evaluation.
        reads: what the rule reads of its context.
    """

    program: Program
    meter: Meter
    reads: Reads


def compile_rule(logic: JSON, flag_key: str, generation: Generation, observer: Observer | None = None) -> Compiled:
    """Compile a rule.

    Args:
        logic: the rule.
        flag_key: the flag's key, which the shorthand of `fractional` hashes.
        generation: how bucketing values become hashes.
        observer: told about every step; a program with an observer is slower.

    Raises:
        TooLarge: the rule is nested too deeply or has too many parts.
    """
    rule = Rule(flag_key, generation, observer)

    def node(logic: JSON, path: str, top: bool, depth: int) -> Program:  # noqa: FBT001 - the signature of Place
        rule.nodes += 1
        if depth > MAX_DEPTH:
            raise TooLarge(f"is nested deeper than {MAX_DEPTH} levels")
        if rule.nodes > MAX_NODES:
            raise TooLarge(f"has more than {MAX_NODES} parts")
        if type(logic) is list:
            items = [node(item, at(path, index), top, depth + 1) for index, item in enumerate(logic)]
            return lambda data: [item(data) for item in items]
        if type(logic) is not dict or len(logic) != 1:
            return constant(logic)
        operator, operands = next(iter(logic.items()))
        listed = type(operands) is list
        place = Place(
            rule,
            node,
            at(path, operator),
            operands if listed else [operands],
            listed=listed,
            top=top,
            depth=depth + 1,
        )
        program = _BUILDERS.get(operator, _unknown(operator))(place)
        return program if observer is None else _observed(program, place.path, observer)

    return Compiled(node(logic, "targeting", top=True, depth=0), rule.meter, rule.reads)


def _unknown(operator: str) -> Build:
    """Build what refuses to answer; as in flagd it hurts only where it is reached."""

    def build(place: Place) -> Program:
        place.all()  # the bounds hold below it too

        def run(_data: JSON) -> JSON:
            raise UnknownOperator(f'"{operator}" is no operator')

        return run

    return build


def _observed(program: Program, path: str, observer: Observer) -> Program:
    def run(data: JSON) -> JSON:
        result = program(data)
        observer.node(path, result)
        return result

    return run
