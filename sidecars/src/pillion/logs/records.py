r"""From lines as an application wrote them to records as a sink gets them: masked, enriched, one JSON object per line.

Promises: whatever goes in, every line that comes out is one valid JSON object in UTF-8; a JSON line keeps its bytes apart from what was
masked and the fields put before them; a line that is no JSON object is kept as the text in `message`. Deliberately absent: parsing fields or
times. Work is done on whole chunks: fields are put after each opening brace, and one pass of the JSON parser proves the result. Where that
proof fails the chunk is halved until the lines that are to blame stand alone: one stack trace must not make a million clean bytes slow.

Blank lines are dropped. A carriage return before the line feed counts as part of the line end.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
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
_first: Final = itemgetter(0)
_last: Final = itemgetter(-1)

_BEGIN, _END = b"{}"

_FEW: Final = 4
"""Lines that are looked at one by one rather than halved again."""


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
        return self._fast(data) or self._apart(data)

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
        never neighbours; and as many objects as lines means one per line.
        """
        hits = dict(self._masker.hits)
        records = self._spliced(self._masker.json(data))
        if records is None:
            # What was masked here will be masked again.
            self._masker.hits.update(hits)
        return records

    def _spliced(self, masked: bytes) -> Records | None:
        lines = masked.split(b"\n")
        if lines.pop() or b"\r" in masked:
            return None
        try:
            if set(map(_first, lines)) != {_BEGIN} or set(map(_last, lines)) != {_END}:
                return None
        except IndexError:
            return None
        count, body = len(lines), masked
        if self._open != b"{":
            lines = [line[1:] for line in lines]
            lines[0] = self._open + lines[0]
            lines[-1] += b"\n"
            body = (b"\n" + self._open).join(lines)
        try:
            # An empty object has become one with a trailing comma, and is found out here, too.
            return Records(body, count) if len(_PROOF.decode_lines(body)) == count else None
        except (msgspec.DecodeError, RecursionError):
            return None

    def _apart(self, data: bytes) -> Records:
        """Look at the lines that look clean together, at the others one by one."""
        parts: list[bytes] = []
        run: list[bytes] = []
        for line in data.split(b"\n"):
            if line.startswith(b"{") and line.endswith(b"}"):
                run.append(line)
                continue
            parts += self._run(run)
            run = []
            if line and not line.isspace():
                parts.append(self._line(line))
        return Records(b"".join(parts), sum(part.count(b"\n") for part in parts))

    def _run(self, lines: Sequence[bytes]) -> list[bytes]:
        """Make records of lines that look clean."""
        if len(lines) <= _FEW:
            return [self._line(line) for line in lines]
        records = self._fast(b"\n".join(lines) + b"\n")
        if records is not None:
            return [records.body]
        half = len(lines) // 2
        return self._run(lines[:half]) + self._run(lines[half:])

    def _line(self, line: bytes) -> bytes:
        # A carriage return outside of strings is white space to JSON, and a line end to many who read lines.
        document = line.strip().replace(b"\r", b" ")
        if _is_object(document):
            hits = dict(self._masker.hits)
            for mask in (self._masker.json, self._masker.exact):
                spliced = self._splice(mask(document))
                if _is_object(spliced):
                    return spliced
                self._masker.hits.update(hits)
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
