"""What one rendering may use up: loop steps, and characters of text on the way to its output.

Counting both is what makes a template cheap in every process that renders it, the one that checks manifests included, which cannot be killed.
"""

from typing import Final

MAX_STEPS: Final = 10_000
"""Loop steps of one part, and items that filters walk over."""

MAX_TEXT: Final = 524_288
"""Characters of one rendered part."""

MAX_PIECE: Final = 131_072
"""Characters of a text on the way to it: joined, replaced, filtered."""

MAX_WRITTEN: Final = 8_000_000
"""Characters of all texts that one part makes on its way: some tenths of a second of the slowest filter, and 32 MB."""

MAX_EVALUATIONS: Final = 300_000
"""Expressions that one part may evaluate, loops at their longest: some tenths of a second. Judged when a template is checked."""

MAX_TRIED: Final = 1_000_000
"""Expressions that the trial of a whole resource may evaluate for each sample; what is beyond has been read, but is not tried."""

BUDGET_KEY: Final = " budget"
LOCALE_KEY: Final = " locale"
"""Names in a template's context; with a space, so that no template can say them."""


class LimitError(ValueError):
    """A rendering reached a bound; the message says which and what to do."""


class Budget:
    """What one rendering may still use up."""

    __slots__ = ("_characters", "_steps")

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._characters = MAX_WRITTEN

    def step(self, count: int = 1) -> None:
        """Take *count* loop steps.

        Raises:
            LimitError: there are not that many left.
        """
        self._steps -= count
        if self._steps < 0:
            raise LimitError(f"takes more than {MAX_STEPS} loop steps; pass shorter lists")

    def write(self, text: str) -> str:
        """Pay for a text on the way, and give it back.

        Raises:
            LimitError: it is longer than `MAX_PIECE`, or too much has been written before.
        """
        length = len(text)
        if length > MAX_PIECE:
            raise LimitError(f"makes a text of more than {MAX_PIECE} characters on the way; pass shorter texts")
        self._characters -= length
        if self._characters < 0:
            raise LimitError(f"makes more than {MAX_WRITTEN} characters on the way; pass shorter texts or lists")
        return text
