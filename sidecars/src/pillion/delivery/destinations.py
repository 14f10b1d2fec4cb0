"""Where deliveries go, as the machine knows it: numbers on disk, policies in force, what is disabled, and figures."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final

from pillion.delivery.model import DestinationName, DestinationStatus, Policy
from pillion.delivery.store import DestinationRow

BUCKETS_NS: Final = tuple(int(s * 1e9) for s in (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
"""Upper bounds of the histogram of attempt durations."""


class Destination:
    """One destination: its row on disk, its policy (None when it is configured no more), its figures since the process started."""

    def __init__(self, row: DestinationRow, backlog: int = 0) -> None:
        self.id = row.id
        self.name = DestinationName(row.name)
        self.identity = row.identity
        self.disabled = row.disabled
        self.paused_until = row.paused_until
        self.last_success = row.last_success
        self.saved_success = row.last_success
        self.policy: Policy | None = None
        self.backlog = backlog
        self.oldest = 0
        self.succeeded = 0
        self.failed = 0
        self.cancelled = 0
        self.retries = 0
        self.durations = [0] * (len(BUCKETS_NS) + 1)
        self.duration_sum_ns = 0

    @property
    def row(self) -> DestinationRow:
        """What is stored of it."""
        return DestinationRow(self.id, self.name, self.identity, self.disabled, self.paused_until, self.last_success)

    @property
    def concurrency(self) -> int:
        """Attempts in flight at the same time."""
        return self.policy.concurrency if self.policy else 1

    @property
    def held(self) -> bool:
        """Whether nothing is attempted for now: it is gone, disabled, or its policy says so."""
        return self.policy is None or bool(self.disabled) or bool(self.policy.hold)

    @property
    def why_held(self) -> str:
        """Why nothing is attempted, for a person; empty when something is."""
        if self.policy is None:
            return "it is not configured any more"
        return self.disabled or self.policy.hold

    def observe(self, duration_ns: int) -> None:
        """Count the duration of an attempt."""
        self.durations[bisect_left(BUCKETS_NS, duration_ns)] += 1
        self.duration_sum_ns += duration_ns

    def status(self, in_flight: int, now_ns: int) -> DestinationStatus:
        """Give what is known of it now."""
        return DestinationStatus(
            name=self.name,
            backlog=self.backlog,
            in_flight=in_flight,
            oldest_ns=self.oldest if self.backlog else 0,
            last_success_ns=self.last_success,
            paused_until_ns=self.paused_until if self.paused_until > now_ns else 0,
            disabled=self.disabled,
            hold=self.policy.hold if self.policy else "",
            succeeded=self.succeeded,
            failed=self.failed,
            cancelled=self.cancelled,
            retries=self.retries,
        )


class Destinations:
    """All destinations, those that are configured no more included."""

    def __init__(self) -> None:
        self._by_id: dict[int, Destination] = {}
        self._by_name: dict[DestinationName, Destination] = {}
        self.names: dict[int, DestinationName] = {}
        """Names by number, for rows read from disk."""

    def restore(self, destination: Destination) -> None:
        """Take in a destination that is on disk."""
        self._by_id[destination.id] = destination
        self._by_name[destination.name] = destination
        self.names[destination.id] = destination.name

    def configure(self, policies: Mapping[DestinationName, Policy]) -> list[Destination]:
        """Put policies in force; gives the destinations whose row on disk must change."""
        changed = []
        for destination in self._by_id.values():
            destination.policy = policies.get(destination.name)
        for name, policy in policies.items():
            known = self._by_name.get(name)
            if known is None:
                known = Destination(DestinationRow(max(self._by_id, default=0) + 1, name, policy.identity, "", 0, 0))
                self.restore(known)
                changed.append(known)
            elif known.identity != policy.identity:
                # It was another destination that wanted no more, or asked for a pause.
                known.identity, known.disabled, known.paused_until = policy.identity, "", 0
                changed.append(known)
            known.policy = policy
        return changed

    def named(self, name: DestinationName) -> Destination | None:
        """Give a destination by its name; None when it was never configured."""
        return self._by_name.get(name)

    def __getitem__(self, number: int) -> Destination:
        return self._by_id[number]

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._by_id.values())
