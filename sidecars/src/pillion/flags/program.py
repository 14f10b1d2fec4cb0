"""What a compiled rule is, and what the builders of operators share while one is compiled.

A `Program` is a function of data. A `Place` is one operator's view of the rule around it: it compiles operands, knows whether data is the whole
evaluation context there or an item of a loop, and notes what the rule reads.
"""

from collections.abc import Callable
from typing import Final, Protocol

from pillion.flags.bucketing import Generation, Split
from pillion.flags.coercion import Meter
from pillion.kinds.model import JSON

Program = Callable[[JSON], JSON]
"""A compiled rule: data in, value out. Raises nothing but `Exceeded` and `UnknownOperator`."""

MAX_DEPTH: Final = 64
"""Levels of nested operators and lists. Programs nest as deeply, at about three frames a level; Python's stack holds a thousand."""

MAX_NODES: Final = 5_000
"""Operators and values in one rule. The largest rules in public flag files have some hundreds."""

FLAGD: Final = "$flagd"
"""The name under which a rule sees its flag's key and the time."""

TARGETING_KEY: Final = "targetingKey"
"""The attribute that identifies the subject of an evaluation."""


class UnknownOperator(LookupError):  # noqa: N818 - says what it is
    """A rule reached an operator that does not exist."""


class TooLarge(ValueError):  # noqa: N818 - says what happened
    """A rule is nested too deeply or has too many parts to be compiled."""


class Observer(Protocol):
    """Who is told what a program does, for explanations."""

    def node(self, path: str, result: JSON) -> None:
        """Hear what the operator at *path* gave."""
        ...

    def bucket(self, path: str, hashed: int, chosen: Split) -> None:
        """Hear how the `fractional` at *path* bucketed."""
        ...


class Reads:
    """What a rule reads of its context; `names` is complete unless `everything` is set."""

    __slots__ = ("everything", "flagd", "names")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.everything = False
        self.flagd = False

    def add(self, name: str) -> None:
        """Note one attribute of the context."""
        if name == FLAGD:
            self.flagd = True
        else:
            self.names.add(name)

    def add_all(self) -> None:
        """Note that any attribute may be read."""
        self.everything = self.flagd = True


class Rule:
    """One rule while it is compiled.

    Args:
        flag_key: the flag's key, which the shorthand of `fractional` hashes.
        generation: how bucketing values become hashes.
        observer: told about every step; None for a program that is to be fast.
    """

    def __init__(self, flag_key: str, generation: Generation, observer: Observer | None) -> None:
        self.flag_key = flag_key
        self.generation: Generation = generation
        self.observer = observer
        self.meter = Meter()
        self.reads = Reads()
        self.nodes = 0


class Place:
    """Where an operator stands.

    Args:
        rule: the rule around it.
        compile_node: compiles a value of the rule: (value, path, whether data is the whole context, depth).
        path: the operator's path, as in `targeting.if[0].ends_with`.
        arguments: its operands as written.
        listed: whether the operands were written as a list, and so have indices in paths.
        top: whether data is the whole context here, and not an item of a loop.
        depth: the depth of the operands.
    """

    __slots__ = ("_compile_node", "_depth", "_listed", "arguments", "path", "rule", "top")

    def __init__(
        self,
        rule: Rule,
        compile_node: Callable[[JSON, str, bool, int], Program],
        path: str,
        arguments: list[JSON],
        *,
        listed: bool,
        top: bool,
        depth: int,
    ) -> None:
        self.rule = rule
        self.path = path
        self.arguments = arguments
        self.top = top
        self._compile_node = compile_node
        self._listed = listed
        self._depth = depth

    @property
    def meter(self) -> Meter:
        """The bound of the rule's evaluations."""
        return self.rule.meter

    def at(self, index: int) -> Program:
        """Compile one operand; one that is not there is null."""
        return self._compile(index, self.top)

    def inside(self, index: int) -> Program:
        """Compile an operand as the body of a loop, where data is an item."""
        return self._compile(index, top=False)

    def all(self) -> list[Program]:
        """Compile all operands."""
        return [self.at(index) for index in range(len(self.arguments))]

    def _compile(self, index: int, top: bool) -> Program:  # noqa: FBT001 - private
        if index >= len(self.arguments):
            return constant(None)
        path = f"{self.path}[{index}]" if self._listed else self.path
        return self._compile_node(self.arguments[index], path, top, self._depth)


Build = Callable[[Place], Program]
"""Builds the program of one operator."""


def constant(value: JSON) -> Program:
    """Give the program that always answers *value*."""
    return lambda _data: value


def is_literal(logic: JSON) -> bool:
    """Tell whether a value is the same in every evaluation, because it holds no operator."""
    if type(logic) is list:
        return all(is_literal(item) for item in logic)
    return type(logic) is not dict or len(logic) != 1
