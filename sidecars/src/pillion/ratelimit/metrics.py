"""The block's figures: one frozen value for introspection, and the same numbers for Prometheus.

The hot path counts in plain integers; they are read only when somebody asks. Labels are names of policies, never of users.
"""

from collections.abc import Callable, Iterator

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class Decisions(msgspec.Struct, frozen=True):
    """Decisions of one policy since the start.

    Args:
        allowed: requests that it applied to and that passed.
        limited: requests that it refused.
        shadowed: requests that passed although a shadow rule would have refused them.
    """

    allowed: int
    limited: int
    shadowed: int


class RateLimitStatistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What rate limiting is doing now.

    Args:
        policies: decisions by policy.
        rules: rules of all policies.
        limits: limits of all rules.
        keys: counters in memory.
        max_keys: the most counters that are held.
        evictions: counters that were forgotten while they still said something, for want of room.
        expirations: counters that were forgotten because they said nothing any more.
    """

    policies: dict[str, Decisions]
    rules: int
    limits: int
    keys: int
    max_keys: int
    evictions: int
    expirations: int


class RateLimitCollector(Collector):
    """Shows statistics as metrics.

    Args:
        statistics: gives the current ones.
    """

    def __init__(self, statistics: Callable[[], RateLimitStatistics]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        now = self._statistics()
        decisions = CounterMetricFamily(
            "pillion_ratelimit_decisions",
            "Decisions by policy: allowed and limited are counted by each policy that applied; shadowed passed but would have been refused.",
            labels=("policy", "outcome"),
        )
        for policy, counts in now.policies.items():
            decisions.add_metric((policy, "allowed"), counts.allowed)
            decisions.add_metric((policy, "limited"), counts.limited)
            decisions.add_metric((policy, "shadowed"), counts.shadowed)
        yield decisions
        yield GaugeMetricFamily("pillion_ratelimit_keys", "Counters in memory.", now.keys)
        yield GaugeMetricFamily(
            "pillion_ratelimit_max_keys", "The most counters that are held in memory.", now.max_keys
        )
        yield CounterMetricFamily(
            "pillion_ratelimit_evictions",
            "Counters that were forgotten while they still said something, for want of room.",
            now.evictions,
        )
        yield CounterMetricFamily(
            "pillion_ratelimit_expirations",
            "Counters that were forgotten because they said nothing any more.",
            now.expirations,
        )
