"""What is rendered and what comes of it: the words that the sidecar and its renderer share. No template engine is needed to read this."""

from typing import Literal

import msgspec

Part = Literal["subject", "text", "html"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One translation of an e-mail, as written.

    Args:
        subject: template of the subject.
        text: template of the text part; empty when it is made from the HTML part.
        html: template of the HTML part; empty for a mail of text alone.
    """

    subject: str
    text: str = ""
    html: str = ""


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A finished e-mail without its envelope.

    Args:
        subject: one line.
        text: lines separated by a line feed.
        html: the HTML part; empty when there is none.
    """

    subject: str
    text: str
    html: str = ""


class RenderError(ValueError):
    """A template cannot be rendered with this data.

    Args:
        part: which of its parts.
        line: line of that part, from 1; 0 where it is not known.
        reason: what is wrong, in words of the template.
    """

    def __init__(self, part: Part, line: int, reason: str) -> None:
        super().__init__(f"{part}, line {line}: {reason}" if line else f"{part}: {reason}")
        self.part: Part = part
        self.line = line
        self.reason = reason
