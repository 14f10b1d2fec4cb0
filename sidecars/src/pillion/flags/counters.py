"""How often each flag gave each answer, in plain integers; and their faces for Prometheus, for people and for the operator."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pillion.flags.engine import Flag


class Tally(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How often a flag gave one answer since the sidecar started."""

    variant: str
    reason: str
    count: int


def tally(flag: Flag, counts: list[int]) -> list[Tally]:
    """Give the counts of one flag by variant and reason; answers that differ in neither are added up, those never given left out."""
    added: Counter[tuple[str, str]] = Counter()
    for outcome, count in zip(flag.outcomes, counts, strict=True):
        added[outcome.variant or "", outcome.reason] += count
    return [Tally(variant=variant, reason=reason, count=count) for (variant, reason), count in added.items() if count]


def carried_over(old: Flag, counts: list[int], new: Flag) -> list[int]:
    """Give the counts of a flag whose definition has changed: what is still an answer keeps its count."""
    known: Counter[tuple[str, str, str]] = Counter()
    for outcome, count in zip(old.outcomes, counts, strict=True):
        known[outcome.variant or "", outcome.reason, outcome.unmet] += count
    return [known.pop((o.variant or "", o.reason, o.unmet), 0) for o in new.outcomes]


class Totals:
    """What concerns no single flag."""

    __slots__ = ("bulk", "bulk_unmodified", "invalid", "not_found")

    def __init__(self) -> None:
        self.bulk = 0
        self.bulk_unmodified = 0
        self.invalid = 0
        self.not_found = 0


class FlagMetrics(Collector):
    """The metrics of the block. Labels are bounded by the flags that are defined; keys that callers make up are only counted.

    Args:
        served: gives every flag with its counts.
        totals: what concerns no single flag.
        expired: gives how many flags are past their date.
    """

    def __init__(
        self, served: Callable[[], Iterable[tuple[Flag, list[int]]]], totals: Totals, expired: Callable[[], int]
    ) -> None:
        self._served = served
        self._totals = totals
        self._expired = expired

    def describe(self) -> Iterable[Metric]:
        """Give no metric in advance: which there are depends on the flags."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        evaluations = CounterMetricFamily(
            "pillion_flags_evaluations",
            "Evaluations by flag, variant (empty for the application's own default) and reason.",
            labels=("flag", "variant", "reason"),
        )
        states: Counter[str] = Counter(ENABLED=0, DISABLED=0)
        for flag, counts in self._served():
            states[flag.definition.state] += 1
            for one in tally(flag, counts):
                evaluations.add_metric((flag.definition.key, one.variant, one.reason), one.count)
        yield evaluations
        defined = GaugeMetricFamily("pillion_flags_defined", "Flags that are served, by state.", labels=("state",))
        for state, count in states.items():
            defined.add_metric((state.lower(),), count)
        yield defined
        yield GaugeMetricFamily("pillion_flags_expired", "Flags past the date they expire.", value=self._expired())
        bulk = CounterMetricFamily(
            "pillion_flags_bulk_requests", "Bulk evaluations; unmodified ones were answered 304.", labels=("result",)
        )
        bulk.add_metric(("evaluated",), self._totals.bulk)
        bulk.add_metric(("unmodified",), self._totals.bulk_unmodified)
        yield bulk
        refused = CounterMetricFamily(
            "pillion_flags_refused_requests", "Requests without an answer.", labels=("error",)
        )
        refused.add_metric(("flag_not_found",), self._totals.not_found)
        refused.add_metric(("invalid_context",), self._totals.invalid)
        yield refused
