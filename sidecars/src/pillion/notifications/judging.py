"""What every part of the check shares: its findings, what names mean at the current place, and what guards have excluded there."""

from collections.abc import Mapping
from typing import Final

import msgspec
from jinja2 import nodes

from pillion.kinds.violations import did_you_mean
from pillion.notifications import markup
from pillion.notifications.budget import MAX_STEPS
from pillion.notifications.shapes import ALL, NUMBERS, UNKNOWN, Shape
from pillion.notifications.variables import Variable

ABSENT: Final = "absent"
"""Stands beside the JSON types where a guard excludes them."""

Facts = Mapping[str, frozenset[str]]
"""For places in the data: the types that a guard has excluded, `ABSENT` among them."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a template.

    Args:
        line: line of the template, from 1.
        rule: what is wrong.
        fix: what to write instead.
    """

    line: int
    rule: str
    fix: str


def both(left: Facts, right: Facts) -> Facts:
    """Give what holds where both hold."""
    return {place: left.get(place, frozenset()) | right.get(place, frozenset()) for place in {**left, **right}}


def either(left: Facts, right: Facts) -> Facts:
    """Give what holds where one of both holds."""
    return {place: left[place] & right[place] for place in left if place in right}


class Judge:
    """The state of one walk through a template."""

    def __init__(self, variables: Variable, *, html: bool) -> None:
        self.findings: list[Finding] = []
        self._scope: dict[str, Shape] = {
            name: Shape(variable=child, label=name, place=f"${name}", absent=name not in variables.required)
            for name, child in (variables.properties or {}).items()
        }
        self._facts: Facts = {}
        self._position = markup.START if html else None
        self._weight = 1
        self._steps = 0
        self._overrun = 0
        self._places = 0
        self._quiet = 0
        self.evaluations = 0
        """Expressions that are evaluated at most, loops at their longest."""

    def _find(self, line: int, rule: str, fix: str) -> Shape:
        finding = Finding(line=line, rule=rule, fix=fix)
        if not self._quiet and finding not in self.findings:
            self.findings.append(finding)
        return UNKNOWN

    def _pay(self, count: int, line: int) -> None:
        self._steps += self._weight * count
        if self._steps > MAX_STEPS and not self._overrun:
            self._overrun = line

    def _condition(self, node: nodes.Node) -> None:
        self._need(self.expression(node), ALL, node.lineno, "be tested", null=True)

    def _need(self, shape: Shape, takes: frozenset[str], line: int, verb: str, *, null: bool = False) -> bool:
        """Tell whether *shape* may be used where *takes* is wanted; if not, say so."""
        if not shape.known:
            return False
        if shape.absent:
            field = shape.label.rpartition(".")[2] or "it"
            self._find(
                line,
                f"{shape.name} may be absent",
                f"guard it with {{% if {shape.label or '…'} is defined %}}, write {{{{ {shape.label or '…'} | default(…) }}}}, or make {field} required",
            )
            return False
        wrong = shape.types - takes
        if not wrong or (null and wrong == {"null"}):
            return True
        if wrong == {"null"}:
            self._find(
                line,
                f"{shape.name} may be null and then cannot {verb}",
                f"guard it with {{% if {shape.label or '…'} is not none %}}, or write {{{{ {shape.label or '…'} | default(…, true) }}}}",
            )
        elif shape.types >= {"object", "array", "string", "number", "boolean"}:
            self._find(line, f"{shape.name} is not described in spec.variables", "give it a type there")
        else:
            kinds = " or ".join(sorted(wrong - {"null"}))
            self._find(line, f"{shape.name} may be of type {kinds}, which cannot {verb}", _type_fix(wrong, takes))
        return False

    def _lookup(self, node: nodes.Name) -> Shape:
        shape = self._scope.get(node.name)
        if shape is None:
            return self._find(
                node.lineno, f'"{node.name}" is not declared in spec.variables', did_you_mean(node.name, self._scope)
            )
        return self._guarded(shape)

    def _guarded(self, shape: Shape) -> Shape:
        """Take off *shape* what a guard has excluded."""
        excluded = self._facts.get(shape.place) if shape.place else None
        if not excluded:
            return shape
        variable = msgspec.structs.replace(shape.variable, types=shape.types - excluded)
        return msgspec.structs.replace(shape, variable=variable, absent=shape.absent and ABSENT not in excluded)

    def _field(self, base: Shape, name: str, line: int) -> Shape:
        if not self._need(base, frozenset({"object"}), line, f'have a field "{name}"'):
            return UNKNOWN
        declared = base.variable.properties or {}
        label, place = f"{base.label}.{name}" if base.label else name, f"{base.place}.{name}" if base.place else ""
        if name in declared:
            child, absent = declared[name], name not in base.variable.required
        elif isinstance(base.variable.extra, Variable):
            child, absent = base.variable.extra, True
        else:
            return self._find(line, f'"{label}" is not declared in spec.variables', did_you_mean(name, declared))
        return self._guarded(Shape(variable=child, label=label, place=place, absent=absent))

    def expression(self, node: nodes.Node) -> Shape:
        """Give what is known of *node*, and find what is wrong in it."""
        raise NotImplementedError


def excluded(test: str, *, truth: bool) -> frozenset[str]:
    """Give the types that cannot be where *test* came out as *truth*."""
    match test, truth:
        case ("defined", True) | ("undefined", False):
            return frozenset({ABSENT})
        case "none", True:
            return ALL - {"null"} | {ABSENT}
        case "none", False:
            return frozenset({"null", ABSENT})
        case ("string" | "boolean") as name, True:
            return ALL - {name} | {ABSENT}
        case "number", True:
            return ALL - NUMBERS | {ABSENT}
        case _:
            return frozenset()


def _type_fix(wrong: frozenset[str], takes: frozenset[str]) -> str:
    if "object" in wrong:
        return "use one of its fields"
    if "array" in wrong:
        return "loop over it, or join it: … | join(', ')"
    if "markup" in wrong:
        return "make nl2br the last filter"
    if takes == {"array"}:
        return "use a list"
    if takes <= NUMBERS:
        return "use a number"
    return "declare another type in spec.variables"
