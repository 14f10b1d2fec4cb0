"""The finished e-mail as bytes: MIME as the standard library writes it, and nothing that could begin another header.

The library's newer policy objects *decode* encoded words that they find in a value (`=?utf-8?q?=0D=0ABcc…?=`) and, in Python releases before the
fix of CVE-2024-6923, write the line break that comes out. Headers are therefore made with `email.header.Header` under the `compat32` policy, which
takes text for text; whatever is not plain ASCII, or looks like an encoded word, is encoded by us. The bytes depend on the arguments alone, so
every attempt at a delivery sends the same message with the same Message-ID, and a receiving server can drop a repeat.
"""

import hashlib
import re
from datetime import UTC, datetime
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import Compat32
from email.utils import format_datetime, formataddr
from typing import Any, Final

import msgspec

from pillion.notifications.content import Rendered

LINE: Final = 78
"""Characters of a header line (RFC 5322 section 2.1.1)."""

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Policy(Compat32):
    """`compat32` that writes a short line of ASCII as it is: most headers need none of the folding that costs half of building a message."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        """Give the header line, folded where it is long."""
        if (
            isinstance(value, str)
            and value.isascii()
            and len(name) + 2 + len(value) <= LINE
            and not _UNSAFE.search(value)
        ):
            return f"{name}: {value}\r\n".encode("ascii")
        return super().fold_binary(name, value)


_POLICY: Final = _Policy(linesep="\r\n", cte_type="7bit", max_line_length=LINE)


def _charset(encoding: int) -> Charset:
    made = Charset("utf-8")
    made.body_encoding = encoding
    return made


_QUOTED: Final = _charset(QP)
_BASE64: Final = _charset(BASE64)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes to whom, and what identifies the message.

    Args:
        from_name: display name of the sender; may be empty.
        from_address: address of the sender, by RFC 5321.
        to_name: display name of the recipient; may be empty.
        to_address: address of the recipient, by RFC 5321.
        reply_to_name: display name of where answers go; may be empty.
        reply_to_address: address of where answers go; empty for the sender.
        message_id: the notification's id; 1-128 characters of `A-Z a-z 0-9 _ -`.
        date_ns: when it was accepted, in wall nanoseconds.
        locale: language of the content.
    """

    from_name: str
    from_address: str
    to_name: str
    to_address: str
    reply_to_name: str = ""
    reply_to_address: str = ""
    message_id: str
    date_ns: int
    locale: str


def build(rendered: Rendered, envelope: Envelope) -> bytes:
    """Give the message as RFC 5322 bytes: CRLF line ends, ASCII throughout, no line beyond 998 octets.

    Raises:
        ValueError: a value of a header holds a control character; that is a mistake of the caller.
    """
    text = _part(rendered.text, "plain")
    # The library draws a random boundary; a digest of an id that nobody can guess is as good, and the same on every attempt.
    boundary = "=_" + hashlib.sha256(envelope.message_id.encode()).hexdigest()[:40]
    message = (
        MIMEMultipart("alternative", boundary, [text, _part(rendered.html, "html")], policy=_POLICY)
        if rendered.html
        else text
    )
    headers: list[tuple[str, str | Header]] = [
        ("From", _address(envelope.from_name, envelope.from_address)),
        ("To", _address(envelope.to_name, envelope.to_address)),
        ("Subject", _words(rendered.subject, "Subject")),
        ("Date", format_datetime(datetime.fromtimestamp(envelope.date_ns // 1_000_000_000, UTC))),
        ("Message-ID", f"<{envelope.message_id}@{envelope.from_address.rpartition('@')[2]}>"),
        ("Content-Language", envelope.locale),
        # RFC 3834: no out-of-office answers to what a program has sent.
        ("Auto-Submitted", "auto-generated"),
    ]
    if envelope.reply_to_address:
        headers.append(("Reply-To", _address(envelope.reply_to_name, envelope.reply_to_address)))
    for name, value in headers:
        if isinstance(value, str) and _UNSAFE.search(value):
            raise ValueError(f"the header {name} would hold a control character")
        # typeshed knows texts alone; `Header` is what the policy folds.
        message[name] = value  # type: ignore[assignment]
    return message.as_bytes(policy=_POLICY)


def _part(text: str, subtype: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", subtype, charset="utf-8", policy=_POLICY)
    # Three octets for each one outside ASCII make quoted-printable longer than base64 from about a sixth of the text on.
    foreign = len(text.encode()) - len(text)
    if foreign * 6 > len(text):
        # The line breaks inside base64 are the text's own, which in mail are CRLF (RFC 2045 section 6.8).
        part.set_payload(text.replace("\n", "\r\n") + "\r\n", _BASE64)
    else:
        part.set_payload(text + "\n", _QUOTED)
    return part


def _words(text: str, header: str) -> str | Header:
    """Give free text for a header, encoded (RFC 2047) unless it is plain ASCII that reads as itself."""
    if _UNSAFE.search(text):
        raise ValueError(f"the header {header} would hold a control character")
    return text if text.isascii() and "=?" not in text else Header(text, "utf-8", header_name=header)


def _address(name: str, address: str) -> str | Header:
    encoded = _words(name, "display name")
    if isinstance(encoded, Header):
        encoded.append(f"<{address}>", "us-ascii")
        return encoded
    return formataddr((encoded, address))
