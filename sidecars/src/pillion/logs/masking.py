"""Masks values in text and in JSON lines, a chunk at a time.

Promises: rules apply to every line of text, and to every string and number of a JSON line, as its reader would see it (escapes undone); a
match is replaced as a whole by `[name]`; JSON stays JSON, and what did not match keeps its bytes. Deliberately absent: parsing. Raw chunks
are searched as a whole; where a rule cannot match without a certain character, only the lines that hold it are; and only those lines of JSON
are taken apart on which the raw bytes could mislead (escapes that may stand for anything, matches across tokens).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import re2

from pillion.logs.patterns import (
    MaskRule,
    Match,
    Pattern,
    card_spans,
    compile_rules,
    is_anchored,
    is_plain,
    signs,
)

SPLIT_WINDOW: Final = 512
"""Bytes on either side of a forced cut in which a match is looked for: longer than any value that the built-in rules find."""

_TOKENS: Final = re2.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')
"""Strings and numbers of a JSON line. Everything else in one is punctuation, white space and three words."""

_SPARSE: Final = 1024
"""Bytes of a chunk for each line that is looked at by itself; where more lines would be, searching the whole chunk is faster (1.5 us a line
against 1.7 us a kilobyte)."""

_NEUTRAL: Final = b"\1\1"
"""Stands for an escape while plain rules look at a line: none of them matches it, and no word reaches across it."""


class _Entry(NamedTuple):
    """A rule, ready for use."""

    rule: MaskRule
    pattern: Pattern
    replacement: bytes
    signs: tuple[bytes, ...]


class Masker:
    """The mask of one pipeline. Not for use by two threads at a time: it counts.

    Args:
        rules: what is masked, in order.

    Raises:
        ValueError: a rule cannot be compiled.
    """

    def __init__(self, rules: Sequence[MaskRule]) -> None:
        self._all = [
            _Entry(rule, pattern, f"[{rule.name}]".encode(), signs(rule)) for rule, pattern in compile_rules(rules)
        ]
        self._plain = [entry for entry in self._all if is_plain(entry.rule)]
        self._others = [entry for entry in self._all if not is_plain(entry.rule)]
        self._always_exact = any(is_anchored(entry.rule) for entry in self._others)
        self.hits: dict[str, int] = {rule.name: 0 for rule in rules}

    def text(self, data: bytes) -> bytes:
        """Mask lines of text (valid UTF-8)."""
        return self._substitute(data, self._all)

    def json(self, lines: bytes) -> bytes:
        """Mask JSON lines (valid UTF-8). A number that matched is written as a string only by `exact`: check the result.

        Lines that are no JSON come back as they are or masked somewhere; the caller masks those as text.
        """
        if not self._all:
            return lines
        if self._always_exact:
            return b"\n".join(map(self.exact, lines.split(b"\n")))
        seen, hidden = _without_escapes(lines)
        pieces, done = [], 0
        for start, end in sorted(self._delicate(lines, hidden)):
            # What stands between them is masked at once.
            pieces += [self._substitute(lines[done:start], self._plain, seen[done:start]), self.exact(lines[start:end])]
            done = end
        return b"".join([*pieces, self._substitute(lines[done:], self._plain, seen[done:])])

    def exact(self, line: bytes) -> bytes:
        """Mask each string and each number of one JSON line by itself."""
        if not self._all:
            return line
        pieces, end = [], 0
        match: Match
        for match in _TOKENS.finditer(line):
            start, after = match.span()
            token = line[start:after]
            masked = self._string(token) if token.startswith(b'"') else self._number(token)
            if masked is not token:
                pieces += [line[end:start], masked]
                end = after
        return b"".join([*pieces, line[end:]]) if pieces else line

    def safe_cut(self, data: bytes, cut: int) -> int:
        """Move *cut* back so that neither a match nor a character is torn apart; 0 < result <= cut for 0 < cut <= len(data)."""
        while cut > 1 and cut < len(data) and data[cut] & 0xC0 == 0x80:
            cut -= 1
        low = max(cut - SPLIT_WINDOW, 0)
        window = data[low : cut + SPLIT_WINDOW]
        begin = cut
        for entry in self._all:
            for match in entry.pattern.finditer(window):
                start, end = match.span()
                if low + start < cut < low + end:
                    begin = min(begin, low + start)
        return max(begin, 1) if begin > 0 else cut

    def _delicate(self, lines: bytes, hidden: Sequence[int]) -> set[tuple[int, int]]:
        """Give where the lines stand that must be taken apart: those with *hidden* characters, and those that a rule for whole texts matches.

        Such a rule may match across tokens, and what escapes stand for; but what it matches in a token without escapes is also part of some match
        in the raw line.
        """
        if not self._others:
            return {_line_around(lines, at) for at in hidden}
        found = set(_lines_with(lines, b"\\"))
        for entry in self._others:
            found.update(_line_around(lines, match.span()[0]) for match in entry.pattern.finditer(lines))
        return found

    def _string(self, token: bytes) -> bytes:
        if b"\\" not in token:
            inner = token[1:-1]
            masked = self._substitute(inner, self._all)
            # Neither the rest nor the replacement holds anything that needs an escape.
            return token if masked is inner else b'"' + masked + b'"'
        try:
            inner = str(json.loads(token)).encode("utf-8", "surrogatepass")
        except ValueError:
            return token
        masked = self._substitute(inner, self._all)
        return token if masked is inner else msgspec.json.encode(masked.decode("utf-8", "replace"))

    def _number(self, token: bytes) -> bytes:
        masked = self._substitute(token, self._all)
        return token if masked is token else b'"' + masked + b'"'

    def _substitute(self, data: bytes, entries: Sequence[_Entry], seen: bytes | None = None) -> bytes:
        """Replace every match; gives *data* itself when there is none. Rules look at *seen* instead where it is given; it is as long as *data*."""
        seen = data if seen is None or seen == data else seen
        for entry in entries:
            edits = []
            for start, found in _matches(entry, seen):
                for low, high in card_spans(found) if entry.rule.cards else ((0, len(found)),):
                    if low < high:
                        edits.append((start + low, start + high))
            if edits:
                self.hits[entry.rule.name] += len(edits)
                same = seen is data
                data = _edited(data, edits, entry.replacement)
                seen = data if same else _edited(seen, edits, entry.replacement)
        return data


def _edited(data: bytes, edits: Sequence[tuple[int, int]], replacement: bytes) -> bytes:
    """Put *replacement* in each place of *edits*, which are in order."""
    pieces, end = [], 0
    for low, high in edits:
        pieces += [data[end:low], replacement]
        end = high
    return b"".join([*pieces, data[end:]])


def _without_escapes(lines: bytes) -> tuple[bytes, list[int]]:
    r"""Give JSON with its escapes made neutral, at the same places, and where escapes stand that may hide any character.

    What must be escaped, no plain rule matches; so it sees there what it sees in the text that the escapes stand for. `\u` and `\/` also
    write characters that need no escape.
    """
    at = lines.find(b"\\")
    if at < 0:
        return lines, []
    neutral, hidden = bytearray(lines), []
    while at >= 0:
        if lines[at + 1 : at + 2] in (b"u", b"/"):
            hidden.append(at)
        neutral[at : at + 2] = _NEUTRAL
        at = lines.find(b"\\", at + 2)
    return bytes(neutral[: len(lines)]), hidden


def _matches(entry: _Entry, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give where matches begin and what they are; a line that holds no sign of one is not searched."""
    match: Match
    places = _sparse_lines(data, entry.signs)
    for start, end in places if places is not None else ((0, len(data)),):
        for match in entry.pattern.finditer(data[start:end]):
            low, high = match.span()
            yield start + low, data[start + low : start + high]


def _sparse_lines(data: bytes, wanted: Sequence[bytes]) -> list[tuple[int, int]] | None:
    """Give where the lines stand that hold one of *wanted*, in order; None where these are many, or nothing is wanted."""
    if not wanted:
        return None
    found: set[tuple[int, int]] = set()
    for sign in wanted:
        for place in _lines_with(data, sign):
            found.add(place)
            if len(found) * _SPARSE > len(data):
                return None
    return sorted(found)


def _lines_with(data: bytes, sign: bytes) -> Iterator[tuple[int, int]]:
    """Give where the lines stand that hold *sign*, without their line ends."""
    # One byte at a time is what the C library's fastest search takes.
    at = data.find(sign[:1])
    while at >= 0:
        if data.startswith(sign, at):
            start, end = _line_around(data, at)
            yield start, end
            at = end
        at = data.find(sign[:1], at + 1)


def _line_around(data: bytes, at: int) -> tuple[int, int]:
    """Give where the line stands that *at* is in, without its line end."""
    end = data.find(b"\n", at)
    return data.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(data)
