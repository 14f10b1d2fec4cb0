"""What a pipeline says of itself: figures for metrics, conditions for `/health` and the resource's status, lines for its own log.

Every trouble has one condition of its own, set when it comes and cleared when it is over, so that nobody has to know who else set what. Promises:
nothing that a record or a token holds is repeated, only names, places and reasons. Deliberately absent: any decision what to do about it.
"""

from pathlib import Path
from typing import Final

import msgspec
import structlog

from pillion.logs.followed import Scan
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions

TELL_DAMAGE: Final = 600_000_000_000
"""Nanoseconds for which damaged progress is told, for somebody to see it."""

LAG_WARNING: Final = 64 << 20
"""Bytes that a sink may be behind before that is said; a minute of a busy application."""


class Figures(msgspec.Struct, kw_only=True):
    """What a pipeline has done."""

    records: int = 0
    bytes: int = 0
    sent_bytes: int = 0
    batches: int = 0
    retries: int = 0
    quarantined: int = 0
    lost_bytes: int = 0
    lag_bytes: int = 0
    files: int = 0


class Report:
    """Speaks for one pipeline.

    Args:
        sink: its name.
        clock: the time.
        conditions: where trouble is said.
    """

    def __init__(self, sink: str, clock: Clock, conditions: Conditions) -> None:
        self.figures = Figures()
        self._sink = sink
        self._clock = clock
        self._conditions = conditions
        self._log = structlog.get_logger("logs")
        self._troubles: frozenset[tuple[str, str]] = frozenset()
        self._damaged: int | None = None
        """When progress was found damaged, until that is no longer worth telling."""

    # Progress

    def damaged(self, trouble: str) -> None:
        """Say that progress was damaged."""
        self._damaged = self._clock.monotonic_ns()
        self._log.warning("log progress is damaged", sink=self._sink, reason=trouble)
        self._conditions.set(f"logs:{self._sink}:progress", "warn", trouble)

    def caught_up(self) -> None:
        """Note that nothing is left to ship: damaged progress, told for long enough, is made good."""
        if self._damaged is not None and self._clock.monotonic_ns() - self._damaged > TELL_DAMAGE:
            self._damaged = None
            self._conditions.clear(f"logs:{self._sink}:progress")

    def saved(self, error: OSError | None) -> None:
        """Say whether progress could be saved."""
        condition = f"logs:{self._sink}:checkpoint"
        if error is None:
            self._conditions.clear(condition)
            return
        text = f"progress of sink {self._sink} cannot be saved: {error.strerror}"
        self._conditions.set(condition, "warn", text)

    # Files

    def lag(self, lag: int, files: int) -> None:
        """Note how far behind the sink is."""
        self.figures.files, self.figures.lag_bytes = files, lag
        condition = f"logs:{self._sink}:lag"
        if lag > LAG_WARNING:
            self._conditions.set(condition, "warn", f"sink {self._sink} is {lag >> 20} MiB behind")
        elif lag < LAG_WARNING // 2:
            self._conditions.clear(condition)

    def scanned(self, scan: Scan) -> None:
        """Say what is gone and what cannot be read; each once."""
        for lost in scan.lost:
            self.figures.lost_bytes += lost.end - lost.start
            where = f"{lost.path}: bytes {lost.start} to {lost.end}"
            self._log.error(
                "log bytes are gone before they could be shipped", sink=self._sink, where=where, reason=lost.reason
            )
            text = f"{where} are gone before sink {self._sink} had them: {lost.reason}"
            self._conditions.set(f"logs:{self._sink}:lost", "warn", text)
        troubles = frozenset((trouble.path, trouble.reason) for trouble in scan.troubles)
        if troubles == self._troubles:
            return
        self._troubles = troubles
        condition = f"logs:{self._sink}:unreadable"
        if not troubles:
            self._conditions.clear(condition)
            return
        text = "; ".join(f"{path}: {reason}" for path, reason in sorted(troubles)[:5])
        self._log.warning("log files cannot be read", sink=self._sink, where=text)
        self._conditions.set(condition, "warn", f"cannot be read: {text}")

    # The sink

    def taken(self, records: int, size: int, sent: int) -> None:
        """Count a batch that the sink confirmed: records, bytes, and bytes as they travelled."""
        self._conditions.clear(f"logs:{self._sink}")
        self.figures.records += records
        self.figures.bytes += size
        self.figures.sent_bytes += sent
        self.figures.batches += 1

    def not_taken(self, reason: str, failures: int, since: int) -> None:
        """Say that the sink takes nothing for now; once it has failed a few times since *since* (monotonic nanoseconds) it is a condition."""
        self._log.warning("a sink does not take records", sink=self._sink, reason=reason)
        if failures >= 3:
            seconds = (self._clock.monotonic_ns() - since) // 1_000_000_000
            text = f"sink {self._sink} has taken nothing for {seconds} s: {reason}"
            self._conditions.set(f"logs:{self._sink}", "warn", text)

    def quarantined(self, records: int, reason: str, place: Path) -> None:
        """Say that the sink refused records for good, and where they are."""
        self.figures.quarantined += records
        self._log.error("a sink refused records for good", sink=self._sink, reason=reason)
        text = f"sink {self._sink} refused {self.figures.quarantined} records ({reason}); they are in {place}"
        self._conditions.set(f"logs:{self._sink}:quarantine", "warn", text)

    def no_quarantine(self, reason: str, place: Path, why: str) -> None:
        """Say that refused records find no room, so that the sink waits."""
        text = f"sink {self._sink} refuses records ({reason}) and {place} cannot take them: {why}; look into it and remove it"
        self._conditions.set(f"logs:{self._sink}:quarantine", "fail", text)
