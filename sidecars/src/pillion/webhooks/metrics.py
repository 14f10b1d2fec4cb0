"""The block's metrics, read from the machine's plain integers when scraped. Labels are names of endpoints, never of events."""

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pillion.delivery.destinations import BUCKETS_NS
from pillion.delivery.machine import Machine
from pillion.webhooks.pool import PoolStatistics

PREFIX = "pillion_webhooks"


class WebhooksCollector(Collector):
    """Shows what the machine and the pool are doing.

    Args:
        machine: the delivery machine.
        unrouted: gives how many events no endpoint wanted.
        pool: gives what the connection pool holds.
    """

    def __init__(self, machine: Machine, unrouted: Callable[[], int], pool: Callable[[], PoolStatistics]) -> None:
        self._machine = machine
        self._unrouted = unrouted
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Give the current values."""
        now = self._machine.statistics()
        yield CounterMetricFamily(f"{PREFIX}_events_accepted", "Events accepted, repeats not counted.", now.accepted)
        yield CounterMetricFamily(f"{PREFIX}_events_repeated", "Events that had been accepted before.", now.repeated)
        yield CounterMetricFamily(
            f"{PREFIX}_events_refused", "Events refused because the store was full or busy.", now.refused
        )
        yield CounterMetricFamily(f"{PREFIX}_events_unrouted", "Events that no endpoint wanted.", self._unrouted())
        yield CounterMetricFamily(f"{PREFIX}_commits", "Transactions synced to disk.", now.commits)
        yield CounterMetricFamily(
            f"{PREFIX}_attempts_unlogged", "Attempts whose log entry was given up for lack of room.", now.unlogged
        )
        yield GaugeMetricFamily(f"{PREFIX}_store_bytes", "Size of what the store holds.", now.database_bytes)
        yield GaugeMetricFamily(f"{PREFIX}_unrecorded_attempts", "Attempts that are not on disk yet.", now.unrecorded)
        pool = self._pool()
        yield GaugeMetricFamily(f"{PREFIX}_connections", "Connections to receivers, in use or idle.", pool.open)
        yield CounterMetricFamily(f"{PREFIX}_connections_opened", "Connections opened to receivers.", pool.opened)
        yield CounterMetricFamily(f"{PREFIX}_connections_reused", "Attempts that found a connection open.", pool.reused)
        yield from self._endpoints()

    def _endpoints(self) -> Iterator[Metric]:
        deliveries = CounterMetricFamily(
            f"{PREFIX}_deliveries", "Deliveries that reached a final state.", labels=["endpoint", "state"]
        )
        retries = CounterMetricFamily(
            f"{PREFIX}_retries", "Attempts that failed and are tried again.", labels=["endpoint"]
        )
        backlog = GaugeMetricFamily(f"{PREFIX}_backlog", "Deliveries that wait or are in flight.", labels=["endpoint"])
        oldest = GaugeMetricFamily(
            f"{PREFIX}_oldest_timestamp_seconds",
            "When the oldest waiting event was accepted; 0 when none waits.",
            labels=["endpoint"],
        )
        success = GaugeMetricFamily(
            f"{PREFIX}_last_success_timestamp_seconds", "When something was last delivered.", labels=["endpoint"]
        )
        disabled = GaugeMetricFamily(
            f"{PREFIX}_endpoint_disabled",
            "1 while the endpoint is disabled because it wants no more.",
            labels=["endpoint"],
        )
        durations = HistogramMetricFamily(
            f"{PREFIX}_attempt_duration_seconds", "How long attempts take.", labels=["endpoint"]
        )
        for one in self._machine.destinations:
            if one.policy is None:
                continue
            name = [str(one.name)]
            for state, count in (("succeeded", one.succeeded), ("failed", one.failed), ("cancelled", one.cancelled)):
                deliveries.add_metric([*name, state], count)
            retries.add_metric(name, one.retries)
            backlog.add_metric(name, one.backlog)
            oldest.add_metric(name, one.oldest / 1e9 if one.backlog else 0)
            success.add_metric(name, one.last_success / 1e9)
            disabled.add_metric(name, float(bool(one.disabled)))
            total = 0
            buckets = []
            for bound, count in zip([*BUCKETS_NS, None], one.durations, strict=True):
                total += count
                buckets.append(("+Inf" if bound is None else str(bound / 1e9), float(total)))
            durations.add_metric(name, buckets, one.duration_sum_ns / 1e9)
        yield from (deliveries, retries, backlog, oldest, success, disabled, durations)
