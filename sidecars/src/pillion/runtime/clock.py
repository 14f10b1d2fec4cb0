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
    """The machine's clocks. They are the functions themselves: a method around one would take longer than reading the clock."""

    wall_ns = staticmethod(time.time_ns)
    """Nanoseconds since the Unix epoch; may step."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    """Nanoseconds since some start; never goes back."""
