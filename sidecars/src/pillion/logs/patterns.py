"""What is masked: the built-in rules, and patterns that people write.

Everything runs on RE2, whose time is linear in the text whatever the pattern (the standard library's engine is exponential for some and does
20-40 MB/s here, RE2 450-600). Promises: a pattern that RE2 refuses, or that is too large, is refused with the reason when the profile is
checked; a match never spans lines. Deliberately absent: look-around and back-references, which no linear engine has.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import msgspec
import re2

MAX_PATTERN: Final = 512
"""Characters of a pattern."""

MAX_PROGRAM: Final = 10_000
"""Instructions of a compiled pattern; more would make every line slow."""

_MAX_MEMORY: Final = 8 << 20
"""Bytes RE2 may use for one pattern's automaton; beyond it falls back to a slower, still linear, engine."""


class Match(Protocol):
    """One match."""

    def span(self) -> tuple[int, int]:
        """Give where it begins and ends."""
        ...


class Pattern(Protocol):
    """A compiled pattern over bytes."""

    def search(self, text: bytes) -> Match | None:
        """Give the first match."""
        ...

    def finditer(self, text: bytes) -> Iterator[Match]:
        """Give all matches, leftmost first, none overlapping another."""
        ...


class MaskRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: what to look for, and the name that stands in its place, as in `[email]`.

    Args:
        name: of the rule.
        pattern: RE2 syntax, UTF-8.
        cards: whether only payment card numbers inside the match are meant (length, first digit and check digit agree).
    """

    name: str
    pattern: str
    cards: bool = False


_LOCAL: Final = r"[A-Za-z0-9.!#$%'*+^_~\x{80}-\x{10FFFF}-]"
_LABEL: Final = r"[A-Za-z0-9\x{80}-\x{10FFFF}-]"

BUILT_IN: Final = {
    rule.name: rule
    for rule in (
        # RFC 5321 and 6531 without quoted local parts, and without `=`, `/`, `?`, `&`, `{`, `|`, `}`, which stand beside an address more often
        # than in one. `%40` is the at sign of URLs in access logs.
        MaskRule(
            name="email",
            pattern=rf"{_LOCAL}+(?:@|%40)(?:{_LABEL}+\.)+[A-Za-z\x{{80}}-\x{{10FFFF}}]{_LABEL}+",
        ),
        # A run of digits, single spaces and hyphens allowed between them; which part of it is a card number is decided by arithmetic. Between
        # letters it is none: hexadecimal identifiers are full of digits, and would be torn.
        MaskRule(name="creditCard", pattern=r"\b[2-6](?:[ -]?[0-9]){12,}\b", cards=True),
    )
}
"""Rules that a profile names by a word."""

_SIGNS: Final = {"email": (b"@", b"%40")}


def signs(rule: MaskRule) -> tuple[bytes, ...]:
    """Give texts one of which stands in everything that *rule* matches; none where that is not known. They are found faster than a pattern."""
    return _SIGNS.get(rule.name, ()) if rule == BUILT_IN.get(rule.name) else ()


def compile_pattern(pattern: str) -> Pattern:
    """Compile *pattern* so that it matches within one line only; `^` and `$` mean the ends of a line.

    Raises:
        ValueError: RE2 does not understand it, or it is too large; the text says which.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters")
    if re.search(r"(?<!\\)(?:\\\\)*\\C", pattern):
        raise ValueError(r"uses \C, which would tear characters apart; use . instead")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    options.never_nl = True
    # Nobody asks what a group held; without them the fast engine does it all.
    options.never_capture = True
    try:
        # The group keeps an alternation together under the flag.
        compiled: Any = re2.compile(f"(?m:{pattern})".encode(), options=options)
    except re2.error as error:
        raise ValueError(f"is no RE2 pattern: {_reason(error)}") from None
    except UnicodeEncodeError:
        raise ValueError("is no text: it holds half of a surrogate pair") from None
    if compiled.programsize > MAX_PROGRAM:
        raise ValueError(f"is too large: {compiled.programsize} instructions, at most {MAX_PROGRAM}")
    if compiled.search(b"") is not None:
        raise ValueError("matches the empty text, so it would match everywhere")
    return compiled  # type: ignore[no-any-return] # re2 ships no types


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


_PLAIN: Final = re.compile(
    r"""(?x)(?:
        [A-Za-z0-9_\-:@\#%,;=~<>!&]     # characters that mean themselves
      | \\[dwb.\-+/*?@]                 # classes of digits and word characters, escaped punctuation
      | \[[A-Za-z0-9_.@+%:\#-]+\]       # a list of such characters, not negated
      | \(\?: | [(|)?*+]
      | \{[0-9]+(?:,[0-9]*)?\}
    )+"""
)


def is_plain(rule: MaskRule) -> bool:
    """Tell whether *rule* can only match characters that JSON writes as they are: no quote, backslash, space or control character.

    Such a rule may run over raw JSON. False for some that would be plain too; they take the exact way.
    """
    return rule == BUILT_IN.get(rule.name) or _PLAIN.fullmatch(rule.pattern) is not None


def is_anchored(rule: MaskRule) -> bool:
    """Tell whether *rule* may look at what stands beside the match: then it can match a JSON string and yet not the raw line."""
    return re.search(r"[\^$]|\\[AzBQ]", rule.pattern) is not None


def card_spans(run: bytes) -> Iterator[tuple[int, int]]:
    """Yield where payment card numbers stand in a *run* of digits with single separators; spans do not overlap.

    A number is 13 to 19 digits that begin with 2 to 6 and pass the check of ISO/IEC 7812-1 annex B (Luhn). It begins and ends where the run or
    one of its groups does: inside an unbroken longer number anything would match by chance.
    """
    groups = [(match.start(), match.end()) for match in re.finditer(rb"[0-9]+", run)]
    index = 0
    while index < len(groups):
        digits = b""
        found = 0
        for last in range(index, len(groups)):
            digits += run[slice(*groups[last])]
            if len(digits) > 19:
                break
            if len(digits) >= 13 and digits[0:1] in b"23456" and luhn(digits):
                # The longest: a shorter one inside it may pass by chance and would leave digits behind.
                found = last + 1
        if found:
            yield groups[index][0], groups[found - 1][1]
            index = found
        else:
            index += 1


def luhn(digits: bytes) -> bool:
    """Tell whether the last of *digits* (ASCII) is the check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = digit - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def compile_rules(rules: Iterable[MaskRule]) -> list[tuple[MaskRule, Pattern]]:
    """Compile all of *rules*.

    Raises:
        ValueError: one cannot be compiled; the text names it.
    """
    compiled = []
    for rule in rules:
        try:
            compiled.append((rule, compile_pattern(rule.pattern)))
        except ValueError as error:
            raise ValueError(f"mask rule {rule.name}: {error}") from None
    return compiled
