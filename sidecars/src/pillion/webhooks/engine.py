"""Which endpoints get an event. Pure.

A pattern is matched segment by segment: a literal segment matches itself, `*` in the middle matches exactly one segment, `*` at the end one or
more, `*` alone everything. What an application publishes has few types, so the answer is remembered per type, within a bound.
"""

from collections.abc import Mapping
from typing import Final

from pillion.delivery.model import DestinationName
from pillion.webhooks.compiled import CompiledEndpoint

REMEMBERED: Final = 1_024
"""Event types whose endpoints are remembered; beyond it the memory starts over."""


def matches(pattern: str, event_type: str) -> bool:
    """Tell whether an event of *event_type* (dotted) is meant by *pattern*."""
    wanted = pattern.split(".")
    given = event_type.split(".")
    if wanted[-1] == "*":
        if len(given) < len(wanted):
            return False
        given = given[: len(wanted)]
    elif len(given) != len(wanted):
        return False
    return all(want in ("*", segment) for want, segment in zip(wanted, given, strict=True))


class Router:
    """The endpoints of one configuration."""

    def __init__(self, endpoints: Mapping[DestinationName, CompiledEndpoint]) -> None:
        self._patterns = {name: endpoint.events for name, endpoint in sorted(endpoints.items())}
        self._known: dict[str, tuple[DestinationName, ...]] = {}

    def route(self, event_type: str) -> tuple[DestinationName, ...]:
        """Give the endpoints that get events of *event_type*, in the order of their names."""
        found = self._known.get(event_type)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[event_type] = tuple(
                name
                for name, patterns in self._patterns.items()
                if any(matches(pattern, event_type) for pattern in patterns)
            )
        return found
