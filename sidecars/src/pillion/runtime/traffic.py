"""Counts requests, in plain integers, and shows them to Prometheus.

Both lanes count here. An increment costs some ten nanoseconds, a labelled `prometheus_client` counter a microsecond, which the hot lane cannot
afford. Label values are routes of the description, methods of HTTP and status codes: bounded by construction.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pillion.runtime.conditions import Conditions

UNMATCHED: Final = "unmatched"
"""The route of requests that match none."""

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histogram in seconds; a local answer takes well under a millisecond."""

_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})


class Durations:
    """One histogram."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Give the buckets as Prometheus wants them: counts up to each bound."""
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        seen = 0
        result = []
        for bound, count in zip(bounds, self.counts, strict=True):
            seen += count
            result.append((bound, float(seen)))
        return result


class HotCount:
    """What the hot lane answered for one route; the lane increments it directly.

    Args:
        route: path of the route.
        method: its method.
    """

    __slots__ = ("method", "route", "statuses")

    def __init__(self, route: str, method: str) -> None:
        self.route = route
        self.method = method
        self.statuses: dict[int, int] = {}


class Traffic(Collector):
    """Requests by route, method and status, the durations of those that wait for something, and the conditions of the sidecar.

    Args:
        conditions: what is wrong with the sidecar now.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._ordinary: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, Durations] = {}
        self._hot: list[HotCount] = []

    def hot_count(self, route: str, method: str) -> HotCount:
        """Make the count of one hot route."""
        count = HotCount(route, method)
        self._hot.append(count)
        return count

    def finished(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request of the ordinary lane."""
        key = (route, method if method in _METHODS else "OTHER", status)
        self._ordinary[key] = self._ordinary.get(key, 0) + 1
        self.took(route, seconds)

    def took(self, route: str, seconds: float) -> None:
        """Note the duration of a request, on the ordinary lane or with an answer that came later."""
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = Durations()
        durations.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that could not even be parsed."""
        key = (UNMATCHED, "OTHER", status)
        self._ordinary[key] = self._ordinary.get(key, 0) + 1

    def requests(self) -> dict[tuple[str, str, int], int]:
        """Give all requests so far by (route, method, status), both lanes together."""
        total = dict(self._ordinary)
        for count in self._hot:
            for status, number in count.statuses.items():
                key = (count.route, count.method, status)
                total[key] = total.get(key, 0) + number
        return total

    def hot_requests(self) -> dict[str, int]:
        """Give what the hot lane answered so far, by route."""
        total: dict[str, int] = {}
        for count in self._hot:
            total[count.route] = total.get(count.route, 0) + sum(count.statuses.values())
        return total

    def collect(self) -> Iterable[Metric]:
        """Give the metrics."""
        requests = CounterMetricFamily(
            "pillion_http_requests", "Requests answered, on both lanes.", labels=["route", "method", "status"]
        )
        for (route, method, status), number in self.requests().items():
            requests.add_metric([route, method, str(status)], number)
        yield requests
        hot = CounterMetricFamily(
            "pillion_http_hot_lane_requests",
            "Requests that the hot lane answered; part of all requests.",
            labels=["route"],
        )
        for route, number in self.hot_requests().items():
            hot.add_metric([route], number)
        yield hot
        durations = HistogramMetricFamily(
            "pillion_http_request_duration_seconds",
            "Time from head to end of the answer; answers that the hot lane gives at once are not timed.",
            labels=["route"],
        )
        for route, observed in self._durations.items():
            durations.add_metric([route], observed.cumulative(), observed.total)
        yield durations
        conditions = GaugeMetricFamily(
            "pillion_condition", "1 for each thing that is wrong with the sidecar now.", labels=["name", "level"]
        )
        for condition in self._conditions:
            conditions.add_metric([condition.name, condition.level], 1)
        yield conditions

    def describe(self) -> Iterable[Metric]:
        """Give no metrics: names are checked when they are collected, without a scrape at registration."""
        return ()
