"""A clock for due times: wall time that never goes back.

Due times must survive a restart, so they are wall times; yet a clock that is set back by an hour must not hold every retry for that hour. So
within one process time runs with the monotonic clock from where the wall clock stood at the start, and follows the wall clock forward only
(a machine that slept has really lost that time).
"""

from pillion.runtime.clock import Clock


class SteadyClock:
    """Wall time that only moves forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall_ns() - clock.monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch; never less than a value given before."""
        monotonic = self._clock.monotonic_ns()
        wall = self._clock.wall_ns()
        self._offset = max(self._offset, wall - monotonic)
        return monotonic + self._offset
