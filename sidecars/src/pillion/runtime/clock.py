"""Time as an argument: everything that needs a clock is handed one, so that tests decide what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since some start; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may step."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds since some start; never goes back."""
        return time.monotonic_ns()
