"""The health block's metrics, read from its state when scraped: a check that is gone leaves no series behind."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pillion.health.engine import CheckResult, Report

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histogram, in seconds: from a local answer to the longest sensible timeout."""


class Tally(msgspec.Struct):
    """What is counted about one check."""

    passed: int = 0
    failed: int = 0
    changes: int = 0
    last_success: int = 0
    """Nanoseconds since the Unix epoch; 0 for never."""
    seconds: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def count(self, *, success: bool, seconds: float, wall: int) -> None:
        """Count one run."""
        if success:
            self.passed += 1
            self.last_success = wall
        else:
            self.failed += 1
        self.seconds += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1


class HealthCollector(Collector):
    """Metrics of all checks.

    Args:
        look: gives the current report and, for each check of it, its tally.
    """

    def __init__(self, look: Callable[[], tuple[Report, Sequence[tuple[CheckResult, Tally]]]]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Give the current values."""
        report, checks = self._look()
        ready = GaugeMetricFamily("pillion_health_ready", "1 while the pod is ready, as /readyz says.")
        ready.add_metric([], float(report.readiness != "fail"))
        yield ready
        status = GaugeMetricFamily(
            "pillion_health_check_status",
            "1 for the status that a check has now, 0 for the others.",
            labels=["check", "status"],
        )
        runs = CounterMetricFamily("pillion_health_check_runs", "Runs by result.", labels=["check", "result"])
        changes = CounterMetricFamily(
            "pillion_health_check_changes", "Turns from passing to failing or back.", labels=["check"]
        )
        success = GaugeMetricFamily(
            "pillion_health_check_last_success_timestamp_seconds", "When a run last succeeded.", labels=["check"]
        )
        duration = HistogramMetricFamily(
            "pillion_health_check_duration_seconds", "How long runs take, failed ones included.", labels=["check"]
        )
        for check, tally in checks:
            name = check.plan.name
            for word in ("pass", "warn", "fail"):
                status.add_metric([name, word], float(check.status == word))
            runs.add_metric([name, "pass"], tally.passed)
            runs.add_metric([name, "fail"], tally.failed)
            changes.add_metric([name], tally.changes)
            if tally.last_success:
                success.add_metric([name], tally.last_success / 1e9)
            total, buckets = 0, []
            for bound, count in zip((*(str(b) for b in BOUNDS), "+Inf"), tally.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            duration.add_metric([name], buckets, tally.seconds)
        yield from (status, runs, changes, success, duration)
