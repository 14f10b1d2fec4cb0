"""What is counted per template, and how it is shown: metrics, statistics, and figures for the operator's status."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pillion.delivery import model
from pillion.notifications import renderer

JSON = Any

Refusal = Literal["data", "render", "recipient", "channel", "busy", "store"]
"""Why a request to send was refused: label of a metric."""


class Tally(msgspec.Struct):
    """What is counted about one template.

    Args:
        accepted: notifications accepted.
        sent: messages that a mail server took.
        retried: attempts that failed and are tried again.
        failed: messages that became dead letters.
        unrendered: where the last rendering failed, by locale; locales that could be rendered are left out.
    """

    accepted: int = 0
    sent: int = 0
    retried: int = 0
    failed: int = 0
    unrendered: dict[str, str] = {}


class TemplateStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One template in the block's statistics."""

    name: str
    accepted: int
    sent: int
    retried: int
    failed: int


class NotificationStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the block is doing now.

    Args:
        templates: each template.
        refused: requests to send that were refused, by reason.
        renderer: the rendering process.
        connections: connections made to the mail server.
        idle_connections: of these, how many wait for their next message.
        delivery: the delivery machine.
    """

    templates: tuple[TemplateStatistics, ...]
    refused: Mapping[str, int]
    renderer: renderer.Statistics
    connections: int
    idle_connections: int
    delivery: model.Statistics


class Figures:
    """All tallies. Those of a template that is gone are dropped, so that the number of series stays bounded."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self.refused: dict[str, int] = {}

    def keep(self, names: Mapping[str, object]) -> None:
        """Forget every template that is not in *names*, and begin to count the new ones."""
        self._tallies = {name: self._tallies.get(name, Tally()) for name in names}
        for one in self._tallies.values():
            one.unrendered = {}  # the template may have been mended

    def of(self, name: str) -> Tally:
        """Give the tally of a template; one that is gone is counted into nothing."""
        return self._tallies.get(name) or Tally()

    def refuse(self, reason: Refusal) -> None:
        """Count a refused request."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def statistics(self) -> tuple[TemplateStatistics, ...]:
        """Give all tallies."""
        return tuple(
            TemplateStatistics(name=name, accepted=one.accepted, sent=one.sent, retried=one.retried, failed=one.failed)
            for name, one in sorted(self._tallies.items())
        )

    def observed(self, kind: str) -> dict[tuple[str, str], Mapping[str, JSON]]:
        """Give the figures of the status."""
        return {(kind, name): {"sent": one.sent, "failed": one.failed} for name, one in self._tallies.items()}

    def unrendered(self) -> Iterator[tuple[str, str]]:
        """Yield each template of which a locale could not be rendered the last time, and where that was."""
        for name, one in self._tallies.items():
            if one.unrendered:
                yield name, ", ".join(f"{locale} {where}" for locale, where in sorted(one.unrendered.items()))

    @property
    def names(self) -> Collection[str]:
        """The templates."""
        return self._tallies


class NotificationCollector(Collector):
    """Metrics of the block, read from its state when scraped.

    Args:
        look: gives the block's statistics.
    """

    def __init__(self, look: Callable[[], NotificationStatistics]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Give the current values."""
        now = self._look()
        families = {
            "accepted": CounterMetricFamily(
                "pillion_notifications_accepted", "Notifications accepted.", labels=["template"]
            ),
            "sent": CounterMetricFamily(
                "pillion_notifications_sent", "Messages that a mail server took.", labels=["template"]
            ),
            "retried": CounterMetricFamily(
                "pillion_notifications_retried", "Attempts that failed and are tried again.", labels=["template"]
            ),
            "failed": CounterMetricFamily(
                "pillion_notifications_failed", "Messages that became dead letters.", labels=["template"]
            ),
        }
        for one in now.templates:
            for field, family in families.items():
                family.add_metric([one.name], getattr(one, field))
        yield from families.values()
        refused = CounterMetricFamily("pillion_notifications_refused", "Requests that were refused.", labels=["reason"])
        for reason, count in sorted(now.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        yield from _machine_metrics(now.delivery)
        rendered = CounterMetricFamily("pillion_notifications_rendered", "Renderings by result.", labels=["result"])
        rendered.add_metric(["ok"], now.renderer.rendered)
        rendered.add_metric(["failed"], now.renderer.failed)
        yield rendered
        yield CounterMetricFamily(
            "pillion_notifications_renderer_kills", "Times that a rendering was cut.", value=now.renderer.killed
        )
        yield GaugeMetricFamily(
            "pillion_notifications_renderer_waiting", "Renderings that wait.", value=now.renderer.waiting
        )
        yield CounterMetricFamily(
            "pillion_notifications_smtp_connections", "Connections made to the mail server.", value=now.connections
        )


def _machine_metrics(delivery: model.Statistics) -> Iterator[Metric]:
    backlog = GaugeMetricFamily("pillion_notifications_backlog", "Messages that are not settled.", labels=["channel"])
    flying = GaugeMetricFamily("pillion_notifications_in_flight", "Attempts that run now.", labels=["channel"])
    oldest = GaugeMetricFamily(
        "pillion_notifications_oldest_timestamp_seconds",
        "When the oldest message that is not settled was accepted; absent when there is none.",
        labels=["channel"],
    )
    for destination in delivery.destinations:
        backlog.add_metric([destination.name], destination.backlog)
        flying.add_metric([destination.name], destination.in_flight)
        if destination.oldest_ns:
            oldest.add_metric([destination.name], destination.oldest_ns / 1e9)
    yield from (backlog, flying, oldest)
    yield GaugeMetricFamily(
        "pillion_notifications_database_bytes", "Size of the store of messages.", value=delivery.database_bytes
    )
