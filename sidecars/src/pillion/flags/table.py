"""The flags of one configuration, ready to serve: each with its encoded answers and its counts. Swapped as a whole, never changed but for counts."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pillion.flags.bucketing import Generation
from pillion.flags.counters import carried_over
from pillion.flags.engine import Flag, Ruleset
from pillion.flags.ofrep import outcome_answer, outcome_body
from pillion.kinds.model import JSON
from pillion.runtime.operation import HotAnswer

Answers = tuple[HotAnswer | None, ...]
"""The encoded answers of a flag by outcome; None for the last, errors that only an evaluation can name."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The compiled `flags` section of a SidecarProfile."""

    fractional: Generation = "v2"
    metadata: dict[str, JSON] = {}
    null_variant: bool = True


class Served:
    """A flag at work.

    Args:
        flag: the flag.
        resource: the name of its FeatureFlag.
        answers: its encoded answers.

    `counts` is how often each was given.
    """

    __slots__ = ("_answers", "_evaluate", "counts", "flag", "resource")

    def __init__(self, flag: Flag, resource: str, answers: Answers) -> None:
        self.flag = flag
        self.resource = resource
        self.counts = [0] * len(answers)
        self._answers = answers
        self._evaluate = flag.evaluate

    def answer(self, context: Mapping[str, JSON], now: int) -> HotAnswer:
        """Evaluate, count, and give the encoded answer."""
        outcome = self._evaluate(context, now)
        self.counts[outcome.index] += 1
        return self._answers[outcome.index] or outcome_answer(
            outcome_body(self.flag, outcome, {}, null_variant=False), outcome
        )

    def inherit(self, old: "Served") -> None:
        """Go on counting where *old* stops: all of it for the very same flag, else the answers that are still some of the flag's."""
        if old.flag is self.flag:
            self.counts = old.counts
        else:
            self.counts = carried_over(old.flag, old.counts, self.flag)


class Table:
    """All flags of one configuration.

    Args:
        settings: of the set.
        ruleset: the flags.
        served: each at work, in the order of the keys.
    """

    def __init__(self, settings: Settings, ruleset: Ruleset, served: Mapping[str, Served]) -> None:
        self.settings = settings
        self.ruleset = ruleset
        self.served = served
        self.keys = tuple(served)
        places = list(enumerate(served.values()))
        self.timed: Final = tuple((place, one) for place, one in places if one.flag.reads_time)
        """Flags whose answers change with time, and their places in the order of keys."""
        self.lasting: Final = tuple((place, one) for place, one in places if not one.flag.reads_time)
        """All other flags."""


def empty() -> Table:
    """Give the table of a sidecar that has no configuration yet."""
    settings = Settings()
    return Table(settings, Ruleset({}, {}, settings.fractional, ""), {})


def encode_answers(flag: Flag, settings: Settings) -> Answers:
    """Encode all answers of a flag that can be known."""
    known = (
        outcome_answer(outcome_body(flag, outcome, settings.metadata, null_variant=settings.null_variant), outcome)
        for outcome in flag.outcomes[:-1]
    )
    return (*known, None)


def same_settings(one: Settings, other: Settings) -> bool:
    """Compare settings as JSON, where 1, 1.0 and true differ."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def revision_of(flags: Iterable[Flag], settings: Settings) -> str:
    """Give a text that changes whenever an answer may change."""
    digest = hashlib.sha256(msgspec.json.encode(settings))
    for flag in flags:
        digest.update(b"\n" + flag.fingerprint)
    return digest.hexdigest()[:32]
