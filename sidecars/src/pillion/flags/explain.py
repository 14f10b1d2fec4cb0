"""Why a flag answers as it does: one evaluation, told step by step.

The rule is compiled anew with an observer, by the very compiler that serves: an explanation cannot differ from the answer. Everything told is
bounded: lists and objects by their size alone, steps by number.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from pillion.flags.bucketing import Split
from pillion.flags.engine import Flag, Ruleset
from pillion.kinds.model import JSON
from pillion.kinds.violations import show

MAX_STEPS_TOLD: Final = 500
"""Steps of an explanation; the rest is cut off, and said to be."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a `fractional` bucketed: `hash` (32 bits, hexadecimal) times `total` weight, divided by 2^32, is the bucket."""

    hash: str
    total: int
    bucket: int


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One operator of the rule: where it stands, and what it gave, as JSON text or in words."""

    path: str
    result: str
    bucket: Bucket | None = None


class RequirementView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One required flag: which variant is wanted, which it resolved to (null for none), and whether that meets the requirement."""

    flag: str
    wanted: str
    variant: str | None
    met: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The whole of it.

    `steps` come in the order in which operators finished, so operands stand before their operator; `attributes` is the part of the context that the
    rule may read, `revision` the ruleset that was asked.
    """

    key: str
    resource: str
    revision: str
    fractional: str
    timestamp: int
    reason: str
    variant: str | None
    value: JSON
    error_code: str
    error_details: str
    attributes: dict[str, JSON]
    reads_time: bool
    requires: tuple[RequirementView, ...]
    steps: tuple[Step, ...]
    truncated: bool


class _Recorder:
    """Listens to a program."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.truncated = False
        self._bucket: dict[str, Bucket] = {}

    def node(self, path: str, result: JSON) -> None:
        """Hear what the operator at *path* gave."""
        if len(self.steps) >= MAX_STEPS_TOLD:
            self.truncated = True
            return
        self.steps.append(Step(path=path, result=_told(result), bucket=self._bucket.pop(path, None)))

    def bucket(self, path: str, hashed: int, chosen: Split) -> None:
        """Hear how the `fractional` at *path* bucketed."""
        self._bucket[path] = Bucket(hash=f"0x{hashed:08x}", total=chosen.total, bucket=chosen.bucket(hashed))


def _told(result: JSON) -> str:
    if isinstance(result, list):
        return f"a list of {len(result)}"
    return f"an object of {len(result)}" if isinstance(result, dict) else show(result)


def explain(flag: Flag, resource: str, ruleset: Ruleset, context: Mapping[str, JSON], now: int) -> Explanation:
    """Evaluate *flag* once, and tell how.

    Args:
        flag: the flag as it serves.
        resource: the name of its FeatureFlag.
        ruleset: the flags that it stands among.
        context: attributes of the subject.
        now: seconds since the epoch.
    """
    recorder = _Recorder()
    outcome = Flag(flag.definition, ruleset.generation, flag.required, recorder).evaluate(context, now)
    reads = flag.reads
    return Explanation(
        key=flag.definition.key,
        resource=resource,
        revision=ruleset.revision,
        fractional=ruleset.generation,
        timestamp=now,
        reason=outcome.reason,
        variant=outcome.variant,
        value=None if outcome.value is msgspec.UNSET else outcome.value,
        error_code=outcome.error_code,
        error_details=outcome.error_details,
        attributes={name: value for name, value in context.items() if reads.everything or name in reads.names},
        reads_time=flag.reads_time,
        requires=tuple(
            RequirementView(
                flag=need.flag,
                wanted=need.variant,
                variant=(variant := other.evaluate(context, now).variant if other else None),
                met=variant == need.variant,
            )
            for need, other in zip(flag.definition.requires, flag.required, strict=True)
        ),
        steps=tuple(recorder.steps),
        truncated=recorder.truncated,
    )
