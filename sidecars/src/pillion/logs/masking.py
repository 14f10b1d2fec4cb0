"""Masks values in text and in JSON lines, a chunk at a time.

Promises: rules apply to every line of text, and to every string and number of a JSON line, as its reader would see it (escapes undone); a
match is replaced as a whole by `[name]`; JSON stays JSON, and what did not match keeps its bytes. Deliberately absent: parsing. Raw chunks
are searched, and only lines on which the raw bytes could mislead (escapes, matches across tokens) are taken apart.
"""

import json
from collections.abc import Sequence
from typing import Final

import msgspec
import re2

from pillion.logs.patterns import MaskRule, Match, Pattern, card_spans, compile_rules, is_anchored, is_plain

SPLIT_WINDOW: Final = 512
"""Bytes on either side of a forced cut in which a match is looked for: longer than any value that the built-in rules find."""

_TOKENS: Final = re2.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')
"""Strings and numbers of a JSON line. Everything else in one is punctuation, white space and three words."""


class Masker:
    """The mask of one pipeline. Not for use by two threads at a time: it counts.

    Args:
        rules: what is masked, in order.

    Raises:
        ValueError: a rule cannot be compiled.
    """

    def __init__(self, rules: Sequence[MaskRule]) -> None:
        compiled = compile_rules(rules)
        self._all = [(rule, pattern, f"[{rule.name}]".encode()) for rule, pattern in compiled]
        self._plain = [entry for entry in self._all if is_plain(entry[0])]
        self._others = [entry for entry in self._all if not is_plain(entry[0])]
        self._always_exact = any(is_anchored(rule) for rule, _, _ in self._others)
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
        if b"\\" not in lines and not self._misleads(lines):
            return self._substitute(lines, self._plain)
        return b"\n".join(self.json_line(line) for line in lines.split(b"\n"))

    def json_line(self, line: bytes) -> bytes:
        """Mask one JSON line; see `json`."""
        if b"\\" in line or self._misleads(line):
            return self.exact(line)
        return self._substitute(line, self._plain)

    def exact(self, line: bytes) -> bytes:
        """Mask each string and each number of one JSON line by itself."""
        if not self._all:
            return line
        pieces, end = [], 0
        match: Match
        for match in _TOKENS.finditer(line):
            token = match.group()
            masked = self._string(token) if token.startswith(b'"') else self._number(token)
            if masked is not token:
                pieces += [line[end : match.start()], masked]
                end = match.end()
        return b"".join([*pieces, line[end:]]) if pieces else line

    def safe_cut(self, data: bytes, cut: int) -> int:
        """Move *cut* back so that neither a match nor a character is torn apart; 0 < result <= cut for 0 < cut <= len(data)."""
        while cut > 1 and cut < len(data) and data[cut] & 0xC0 == 0x80:
            cut -= 1
        low = max(cut - SPLIT_WINDOW, 0)
        window = data[low : cut + SPLIT_WINDOW]
        begin = cut
        for _, pattern, _ in self._all:
            for match in pattern.finditer(window):
                if low + match.start() < cut < low + match.end():
                    begin = min(begin, low + match.start())
        return max(begin, 1) if begin > 0 else cut

    def _misleads(self, data: bytes) -> bool:
        """Tell whether a rule that needs the exact way might match in *data*: a match in a token is also part of a match in the raw bytes."""
        return self._always_exact or any(pattern.search(data) for _, pattern, _ in self._others)

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

    def _substitute(self, data: bytes, entries: Sequence[tuple[MaskRule, Pattern, bytes]]) -> bytes:
        """Replace every match; gives *data* itself when there is none."""
        for rule, pattern, replacement in entries:
            pieces, end = [], 0
            for match in pattern.finditer(data):
                start = match.start()
                for low, high in card_spans(match.group()) if rule.cards else ((0, match.end() - start),):
                    if high > low:
                        pieces += [data[end : start + low], replacement]
                        end = start + high
                        self.hits[rule.name] += 1
            if pieces:
                data = b"".join([*pieces, data[end:]])
        return data
