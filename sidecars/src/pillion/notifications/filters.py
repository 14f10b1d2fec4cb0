"""The filters and tests of templates, and how a value becomes text.

Each is total over the types that `analysis.py` admits for it: for data that fits the schema none of them can fail, except by reaching a bound on
length. Numbers, amounts and dates are written as CLDR says for the locale of the translation. There is no filter that marks text as safe markup but
`nl2br`, which escapes first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC
from datetime import date as Date  # noqa: N812 - the filter below owns the lower-case name
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from pillion.notifications.budget import BUDGET_KEY, LOCALE_KEY, MAX_PIECE, LimitError
from pillion.notifications.formats import parse_date_time
from pillion.notifications.locales import ancestors

_WHOLE: Final = 1e15
"""Below this a float without fraction is written as a whole number: JSON does not tell 10 from 10.0."""


def text_of(value: Any) -> str:
    """Write *value* as a template prints it: null as nothing, booleans as JSON does, numbers without a needless fraction.

    Raises:
        TypeError: *value* is a list or an object, which have no text.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if abs(value) < _WHOLE and value.is_integer() else repr(value)
        case Undefined():
            return str(value)  # raises, with the name of what is missing
        case _:
            raise TypeError(
                f"{'an object' if isinstance(value, Mapping) else 'a list'} has no text; print one of its fields"
            )


def _walked(context: Context, items: Any) -> list[Any]:
    """Give *items* as a list whose walk is paid for."""
    found = list(items)
    context[BUDGET_KEY].step(len(found))
    return found


# Text


def _upper(value: Any) -> str:
    return text_of(value).upper()


def _lower(value: Any) -> str:
    return text_of(value).lower()


def _title(value: Any) -> str:
    return " ".join(word[:1].upper() + word[1:].lower() for word in text_of(value).split(" "))


def _capitalize(value: Any) -> str:
    return text_of(value).capitalize()


def _trim(value: Any) -> str:
    return text_of(value).strip()


def _truncate(value: Any, length: int = 255, end: str = "…") -> str:
    text = text_of(value)
    return text if len(text) <= length else text[: max(0, length - len(end))].rstrip() + end


def _replace(value: Any, old: str, new: str) -> str:
    text = text_of(value)
    if old and len(text) + text.count(old) * max(0, len(new) - len(old)) > MAX_PIECE:
        raise LimitError(f"replace makes a text of more than {MAX_PIECE} characters; pass shorter texts")
    return text.replace(old, new) if old else text


def _urlencode(value: Any) -> str:
    return quote(text_of(value).encode("utf-8", "replace"), safe="")


@pass_context
def _nl2br(context: Context, value: Any) -> str:
    text = text_of(value).replace("\r\n", "\n").replace("\r", "\n")
    return escape(text).replace("\n", Markup("<br>\n")) if context.eval_ctx.autoescape else text


# Numbers


def _round(value: float, digits: int = 0) -> float:
    # From 2^53 on every float is whole; infinities come from products of large numbers.
    if not math.isfinite(value) or abs(value) >= 2**53:
        return value
    return round(value, digits) if digits > 0 else round(value)


def _int(value: float) -> int:
    return int(max(-(2**63), min(2**63, value))) if not math.isnan(value) else 0


# Lists


def _length(value: Any) -> int:
    if isinstance(value, Undefined):
        str(value)  # raises, with the name of what is missing
    return len(value)


def _field(item: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(item, Mapping) or part not in item:
            return StrictUndefined(obj=item, name=part)
        item = item[part]
    return item


@pass_context
def _map(context: Context, items: Sequence[Any], attribute: str) -> list[Any]:
    return [_field(item, attribute) for item in _walked(context, items)]


@pass_context
def _sum(context: Context, items: Sequence[Any], attribute: str = "") -> float:
    found = _walked(context, items)
    # Exact for whole numbers, and for amounts such as 0.1 the nearest float to the true sum: 0.1 + 0.2 + 0.3 is 0.6.
    values = [_field(item, attribute) if attribute else item for item in found]
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)


@pass_context
def _sort(context: Context, items: Sequence[Any], attribute: str = "", reverse: bool = False) -> list[Any]:  # noqa: FBT001, FBT002 - Jinja's signature
    return sorted(
        _walked(context, items), key=lambda item: _field(item, attribute) if attribute else item, reverse=reverse
    )


@pass_context
def _join(context: Context, items: Sequence[Any], separator: str = "") -> str:
    return separator.join(text_of(item) for item in _walked(context, items))


@pass_context
def _reverse(context: Context, items: Sequence[Any]) -> list[Any]:
    return _walked(context, items)[::-1]


@pass_context
def _items(context: Context, value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return _walked(context, sorted(value.items(), key=lambda pair: pair[0]))


def _first(items: Sequence[Any]) -> Any:
    return items[0] if items else StrictUndefined("the list is empty, it has no first item")


def _last(items: Sequence[Any]) -> Any:
    return items[-1] if items else StrictUndefined("the list is empty, it has no last item")


def _default(value: Any, other: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - Jinja's signature
    return other if isinstance(value, Undefined) or (boolean and not value) else value


# What the locale decides


@lru_cache(maxsize=256)
def cldr(tag: str) -> Any:
    """Give CLDR's data for *tag*, or for its nearest ancestor that CLDR knows; English when it knows none."""
    from babel.core import Locale, UnknownLocaleError  # noqa: PLC0415 - 5 MB that only a template needs

    for candidate in ancestors(tag):
        try:
            return Locale.parse(candidate, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse("en")


@pass_context
def _number(context: Context, value: float, digits: int | None = None) -> str:
    from babel.numbers import format_decimal  # noqa: PLC0415 - 5 MB that only a template needs

    locale = cldr(context[LOCALE_KEY])
    pattern = locale.decimal_formats[None]
    if digits is not None:
        # A copy: the pattern belongs to the locale, with its grouping.
        pattern = copy(pattern)
        pattern.frac_prec = (digits, digits)
    try:
        return str(format_decimal(value, format=pattern, locale=locale))
    except ArithmeticError:
        # More digits than decimal arithmetic carries: as plain text rather than not at all.
        return text_of(value)


@pass_context
def _percent(context: Context, value: float) -> str:
    from babel.numbers import format_percent  # noqa: PLC0415 - 5 MB that only a template needs

    try:
        return str(format_percent(value, locale=cldr(context[LOCALE_KEY])))
    except ArithmeticError:
        return text_of(value)


@pass_context
def _currency(context: Context, value: float, code: str) -> str:
    from babel.numbers import format_currency  # noqa: PLC0415 - 5 MB that only a template needs

    try:
        return str(format_currency(value, code, locale=cldr(context[LOCALE_KEY])))
    except ArithmeticError:
        return f"{code} {text_of(value)}"


@pass_context
def _date(context: Context, value: str, style: str = "medium") -> str:
    from babel.dates import format_date  # noqa: PLC0415 - 5 MB that only a template needs

    return str(format_date(Date.fromisoformat(value[:10]), style, locale=cldr(context[LOCALE_KEY])))


@pass_context
def _datetime(context: Context, value: str, style: str = "medium", zone: str = "UTC") -> str:
    from babel.dates import format_datetime  # noqa: PLC0415 - 5 MB that only a template needs

    try:
        # UTC needs no zone database, which a small image may lack.
        moment = parse_date_time(value).astimezone(UTC if zone == "UTC" else ZoneInfo(zone))
    except OverflowError:
        # The first and last hours of the calendar have no local time everywhere.
        return value
    return str(format_datetime(moment, style, tzinfo=moment.tzinfo, locale=cldr(context[LOCALE_KEY])))


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": abs,
    "capitalize": _capitalize,
    "count": _length,
    "currency": _currency,
    "d": _default,
    "date": _date,
    "datetime": _datetime,
    "default": _default,
    "first": _first,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": _lower,
    "map": _map,
    "nl2br": _nl2br,
    "number": _number,
    "percent": _percent,
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "sort": _sort,
    "string": text_of,
    "sum": _sum,
    "title": _title,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _upper,
    "urlencode": _urlencode,
}
"""Every filter that a template may use."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "boolean": lambda value: isinstance(value, bool),
    "defined": lambda value: not isinstance(value, Undefined),
    "divisibleby": lambda value, by: value % by == 0,
    "even": lambda value: value % 2 == 0,
    "in": lambda value, where: value in where,
    "none": lambda value: value is None,
    "number": _is_number,
    "odd": lambda value: value % 2 == 1,
    "string": lambda value: isinstance(value, str),
    "undefined": lambda value: isinstance(value, Undefined),
}
"""Every test that a template may use."""
