"""Where in an HTML document a position stands: in text, inside a quoted attribute, in a script.

Escaping `& < > " '` makes a value harmless in text and inside quotes, and nowhere else: in `<a href={{ x }}>` a space begins a new attribute, in
a script or an event handler the value is code, at the start of a link `javascript:` is. The check of a template therefore follows the markup up to
each value. The states are those of the WHATWG tokenizer (HTML Standard section 13.2.5), simplified to what decides these questions.
"""

import re
from enum import Enum
from typing import Final

import msgspec

RAW: Final = frozenset({"script", "style", "xmp", "iframe", "noembed", "noframes", "plaintext", "noscript"})
"""Elements whose content is no markup, or not for everybody."""

URL_ATTRIBUTES: Final = frozenset(
    {
        "href",
        "src",
        "action",
        "formaction",
        "background",
        "cite",
        "data",
        "poster",
        "xlink:href",
        "srcset",
        "ping",
        "longdesc",
    }
)
"""Attributes whose value is a link, or a list of links."""


class Place(Enum):
    """Kinds of position."""

    TEXT = "in text"
    TAG_NAME = "inside the name of a tag"
    TAG = "inside a tag"
    ATTRIBUTE_NAME = "inside the name of an attribute"
    BEFORE_VALUE = "before the value of an attribute"
    UNQUOTED = "inside an attribute without quotes"
    DOUBLE = "inside an attribute in double quotes"
    SINGLE = "inside an attribute in single quotes"
    COMMENT = "inside a comment"
    RAW = "inside an element that holds no markup"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A position between two characters of a document.

    Args:
        place: what kind of position.
        tag: the element whose tag or raw content this is, in lower case; empty in text.
        attribute: the attribute whose value this is, in lower case.
        started: whether anything of the attribute's value has gone before.
    """

    place: Place = Place.TEXT
    tag: str = ""
    attribute: str = ""
    started: bool = False


START: Final = Position()

_TAG_START = re.compile(r"<(?:!--|(/?)([A-Za-z][^\s/>]*)|[!?/])")
_NAME_END = re.compile(r"[\s/>=]")
_SPACE = re.compile(r"\s*")


def advance(position: Position, text: str) -> Position:
    """Give the position after *text*."""
    at = 0
    while at < len(text):
        position, at = _step(position, text, at)
    return position


def after_value(position: Position) -> Position:
    """Give the position after a printed value."""
    return msgspec.structs.replace(position, started=True) if position.attribute else position


def _step(position: Position, text: str, at: int) -> tuple[Position, int]:
    end = len(text)
    match position.place:
        case Place.TEXT:
            return _text(text, at)
        case Place.COMMENT:
            close = text.find(">" if position.tag == "!" else "-->", at)
            return (position, end) if close < 0 else (START, close + (1 if position.tag == "!" else 3))
        case Place.RAW:
            found = re.compile(rf"</{re.escape(position.tag)}(?=[\s/>])", re.IGNORECASE).search(text, at)
            if found is None:
                return position, end
            return Position(place=Place.TAG, tag="/" + position.tag), found.end()
        case Place.TAG_NAME:
            name_end = _NAME_END.search(text, at)
            stop = name_end.start() if name_end else end
            tag = position.tag + text[at:stop].lower()
            return Position(place=Place.TAG if name_end else Place.TAG_NAME, tag=tag), stop
        case Place.TAG:
            return _tag(position, text, at)
        case Place.ATTRIBUTE_NAME:
            name_end = _NAME_END.search(text, at)
            stop = name_end.start() if name_end else end
            name = position.attribute + text[at:stop].lower()
            if name_end is None:
                return Position(place=Place.ATTRIBUTE_NAME, tag=position.tag, attribute=name), end
            gap = _SPACE.match(text, stop)
            after = gap.end() if gap else stop
            if text[after : after + 1] == "=":
                return Position(place=Place.BEFORE_VALUE, tag=position.tag, attribute=name), after + 1
            return Position(place=Place.TAG, tag=position.tag), after
        case Place.BEFORE_VALUE:
            quote = text[at]
            if quote.isspace():
                return position, at + 1
            if quote == ">":
                return _closed(position.tag), at + 1
            place = {'"': Place.DOUBLE, "'": Place.SINGLE}.get(quote, Place.UNQUOTED)
            started = place is Place.UNQUOTED
            return msgspec.structs.replace(position, place=place, started=started), at + (0 if started else 1)
        case Place.DOUBLE | Place.SINGLE:
            close = text.find('"' if position.place is Place.DOUBLE else "'", at)
            if close < 0:
                return msgspec.structs.replace(position, started=position.started or bool(text[at:].strip())), end
            return Position(place=Place.TAG, tag=position.tag), close + 1
        case _:
            stop_at = re.compile(r"[\s>]").search(text, at)
            if stop_at is None:
                return position, end
            return Position(place=Place.TAG, tag=position.tag), stop_at.start()


def _text(text: str, at: int) -> tuple[Position, int]:
    found = _TAG_START.search(text, at)
    if found is None:
        # A "<" at the very end could become a tag by what follows it.
        return (Position(place=Place.TAG_NAME, tag=""), len(text)) if text.endswith("<") else (START, len(text))
    if found[0] == "<!--":
        return Position(place=Place.COMMENT), found.end()
    if found[2] is None:
        return Position(place=Place.COMMENT, tag="!"), found.end()
    return Position(place=Place.TAG_NAME, tag=found[1]), found.start(2)


def _tag(position: Position, text: str, at: int) -> tuple[Position, int]:
    character = text[at]
    if character == ">":
        return _closed(position.tag), at + 1
    if character.isspace() or character == "/":
        return position, at + 1
    # A "=" in front of a name belongs to the name (HTML Standard section 13.2.5.32).
    if character == "=":
        return Position(place=Place.ATTRIBUTE_NAME, tag=position.tag, attribute="="), at + 1
    return Position(place=Place.ATTRIBUTE_NAME, tag=position.tag), at


def _closed(tag: str) -> Position:
    return Position(place=Place.RAW, tag=tag) if tag in RAW else START


def refusal(position: Position, *, numeric: bool, link: bool) -> tuple[str, str] | None:
    """Say why a value must not be printed at *position*, as (rule, fix); None when it may.

    Args:
        position: where.
        numeric: whether the value is certainly a number.
        link: whether the value is certainly an http, https, mailto or tel URI.
    """
    match position.place:
        case Place.TEXT:
            return None
        case Place.DOUBLE | Place.SINGLE:
            return _attribute_refusal(position, numeric=numeric, link=link)
        case Place.BEFORE_VALUE | Place.UNQUOTED:
            return (
                "stands in an attribute without quotes, where a space would end it",
                f'write {position.attribute}="…"',
            )
        case Place.RAW if position.tag == "style" and numeric:
            return None
        case Place.RAW:
            return (
                f"stands inside <{position.tag}>, where escaping protects nothing",
                "print it outside of that element",
            )
        case Place.COMMENT:
            return "stands inside a comment", "print it outside of the comment"
        case _:
            return (
                "stands inside a tag but in no attribute's value",
                'print values in text, or inside quotes: title="{{ … }}"',
            )


def _attribute_refusal(position: Position, *, numeric: bool, link: bool) -> tuple[str, str] | None:
    name = position.attribute
    if name.startswith("on") or name in ("srcdoc", "style"):
        if numeric:
            return None
        kind = "styles" if name == "style" else "code"
        return f'stands in the attribute "{name}", which holds {kind}', "print only numbers there"
    if name in URL_ATTRIBUTES and not position.started and not link and not numeric:
        return (
            f'begins the link in "{name}", where "javascript:" would be code',
            'declare it with "format: uri", or begin the link yourself: https://shop.example/orders/{{ … | urlencode }}',
        )
    return None
