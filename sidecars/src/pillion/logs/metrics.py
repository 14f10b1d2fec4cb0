"""The logs block's statistics, and the metrics that are read from them when scraped."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one sink's pipeline has done.

    Args:
        records: records that the sink confirmed.
        bytes: bytes of those, before compression.
        sent_bytes: bytes of those, as they travelled.
        batches: batches that the sink confirmed.
        retries: batches that were sent again.
        quarantined: records that the sink refused for good.
        lost_bytes: bytes of files that were gone before they could be shipped.
        lag_bytes: bytes that the sink has not confirmed yet.
        files: files that are held open for it.
    """

    records: int
    bytes: int
    sent_bytes: int
    batches: int
    retries: int
    quarantined: int
    lost_bytes: int
    lag_bytes: int
    files: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the block is doing now."""

    sources: int
    sinks: dict[str, SinkStatistics]
    spool_bytes: int
    pushed: int
    masked: dict[str, int]
    followers: int


_COUNTERS: Final = {
    "records": "Records that the sink confirmed.",
    "bytes": "Bytes that the sink confirmed, before compression.",
    "sent_bytes": "Bytes that the sink confirmed, as they travelled.",
    "batches": "Batches that the sink confirmed.",
    "retries": "Batches that were sent again.",
    "quarantined": "Records that the sink refused for good.",
    "lost_bytes": "Bytes of files that were gone before they could be shipped.",
}
_GAUGES: Final = {
    "lag_bytes": "Bytes that the sink has not confirmed yet.",
    "files": "Files that are held open for the sink.",
}


class LogsCollector(Collector):
    """All metrics of the block.

    Args:
        look: gives the statistics of this moment.
    """

    def __init__(self, look: Callable[[], Statistics]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        now = self._look()
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"pillion_logs_sink_{name}", text, labels=["sink"])
            for sink, figures in now.sinks.items():
                counter.add_metric([sink], getattr(figures, name))
            yield counter
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"pillion_logs_sink_{name}", text, labels=["sink"])
            for sink, figures in now.sinks.items():
                gauge.add_metric([sink], getattr(figures, name))
            yield gauge
        masked = CounterMetricFamily("pillion_logs_masked", "Values that were masked.", labels=["rule"])
        for rule, hits in now.masked.items():
            masked.add_metric([rule], hits)
        yield masked
        yield CounterMetricFamily("pillion_logs_pushed_records", "Records that were pushed.", value=now.pushed)
        yield GaugeMetricFamily("pillion_logs_spool_bytes", "Pushed records on disk.", value=now.spool_bytes)
        yield GaugeMetricFamily("pillion_logs_followers", "Clients that follow now.", value=now.followers)
