r"""From lines as an application wrote them to records as a sink gets them: masked, enriched, one JSON object per line.

Promises: whatever goes in, every line that comes out is one valid JSON object in UTF-8; a JSON line keeps its bytes apart from what was
masked and the fields put before them; a line that is no JSON object is kept as the text in `message`. Deliberately absent: parsing fields or
times. Work is done on whole chunks: fields are inserted after each opening brace by one `bytes.replace`, and one pass of the JSON parser
proves the result. Only when that proof fails are the lines of the chunk looked at one by one.

Blank lines are dropped. A carriage return before the line feed counts as part of the line end.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from pillion.logs.masking import Masker

Format = Literal["json", "text"]

Place = Literal["whole", "start", "middle", "end"]
"""Where in its line a piece stands: `whole` lines, or the parts of one line that is too long."""


class _AnyObject(msgspec.Struct):
    """Decoding into this reads and proves a whole object and keeps nothing of it."""


_PROOF: Final = msgspec.json.Decoder(_AnyObject)
_quote: Final = msgspec.json.Encoder().encode


class Records(NamedTuple):
    """What goes to a sink."""

    body: bytes
    """Newline-delimited JSON; every line ends in a line feed."""
    lines: int


class Shaper:
    """Makes records of the lines of one source.

    Args:
        fields: what is put into every record; empty values are left out.
        line_format: what the lines are.
        masker: what is masked.
    """

    def __init__(self, fields: Mapping[str, str], line_format: Format, masker: Masker) -> None:
        given = {name: value for name, value in fields.items() if value}
        inside = _quote(given)[1:-1]
        self._open = b"{" + inside + b"," if given else b"{"
        self._empty = b"{" + inside + b"}\n"
        self._json = line_format == "json"
        self._masker = masker

    def lines(self, data: bytes) -> Records:
        """Make records of whole lines, each ended by a line feed."""
        data = _utf8(data)
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        if not self._json:
            return self._text(self._masker.text(data))
        return self._fast(data) or self._slow(data)

    def piece(self, data: bytes, place: Place) -> Records:
        """Make one record of a part of a line, marked by `split`."""
        text = self._masker.text(_utf8(data)).decode("utf-8", "replace").rstrip("\r\n")
        mark = b"" if place == "whole" else b'"split":"' + place.encode() + b'",'
        return Records(self._open + mark + b'"message":' + _quote(text) + b"}\n", 1)

    def _text(self, data: bytes) -> Records:
        before = self._open + b'"message":'
        quoted = [
            before + _quote(line) for line in data.decode("utf-8", "replace").split("\n") if line and not line.isspace()
        ]
        return Records(b"}\n".join([*quoted, b""]), len(quoted))

    def _fast(self, data: bytes) -> Records | None:
        """Treat a chunk of clean JSON lines as one; None when it is not quite clean.

        Every line begins with `{` and ends in `}`: then a line feed can only stand between objects, because inside an object `}` and `{` are
        never neighbours; and as many objects as line feeds means one per line.
        """
        count = data.count(b"\n")
        masked = self._masker.json(data)
        if not masked.startswith(b"{") or masked.count(b"}\n") != count or b"\r" in masked:
            return None
        body = self._open + masked[1:].replace(b"\n{", b"\n" + self._open)
        # How much longer it has become tells how many lines begin with a brace, for nothing; without fields it tells nothing.
        longer = len(self._open) - 1
        begun = (len(body) - len(masked)) // longer if longer else masked.count(b"\n{") + 1
        if begun != count:
            return None
        try:
            # An empty object has become one with a trailing comma, and is found out here, too.
            if len(_PROOF.decode_lines(body)) != count:
                return None
        except (msgspec.DecodeError, RecursionError):
            return None
        return Records(body, count)

    def _slow(self, data: bytes) -> Records:
        """Look at each line by itself."""
        body = [self._line(line) for line in data.split(b"\n") if line and not line.isspace()]
        return Records(b"".join(body), len(body))

    def _line(self, line: bytes) -> bytes:
        # A carriage return outside of strings is white space to JSON, and a line end to many who read lines.
        document = line.strip().replace(b"\r", b" ")
        if _is_object(document):
            for masked in (self._masker.json_line(document), self._masker.exact(document)):
                spliced = self._splice(masked)
                if _is_object(spliced):
                    return spliced
        # White space at its beginning may mean something, as in a stack trace.
        text = self._masker.text(line.removesuffix(b"\r")).decode("utf-8", "replace")
        return self._open + b'"message":' + _quote(text) + b"}\n"

    def _splice(self, line: bytes) -> bytes:
        if line.startswith(b"{") and line[1:].lstrip().startswith(b"}"):
            return self._empty
        return self._open + line[1:] + b"\n"


def shape(shaper: Shaper, raw: bytes, place: Place) -> Records:
    """Make records of whole lines or of a piece of one."""
    return shaper.lines(raw) if place == "whole" else shaper.piece(raw, place)


def count_objects(lines: bytes) -> int:
    """Give the number of JSON objects in *lines*, all of them valid and each on a line of its own.

    Raises:
        ValueError: some line is no JSON object; the text tells its number, counting from 1, and the reason.
    """
    count = 0
    for number, line in enumerate(lines.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            line.decode()
            _PROOF.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"line {number} is no JSON object: {error}") from None
        count += 1
    return count


def _is_object(line: bytes) -> bool:
    try:
        _PROOF.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _utf8(data: bytes) -> bytes:
    """Give *data* as valid UTF-8; what is none becomes U+FFFD."""
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data
