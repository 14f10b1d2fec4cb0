"""Locale tags, and which translation a reader gets: CLDR's inheritance, nothing guessed.

A tag is written as in BCP 47 (`de-AT`, `zh-Hant-TW`). The translations tried for a wanted locale are its CLDR ancestors, nearest first: `de-AT`,
`de`; `en-AU`, `en-001`, `en`. A script that is not the usual one of its language inherits nothing (`zh-Hant` never falls back to `zh`, which is
written in another script), so a reader meets the template's default rather than letters that they cannot read.
"""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 35
"""Characters of a tag: the longest that RFC 5646 section 4.4.1 asks implementations to allow for."""

_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|\d{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|\d[a-z0-9]{3}))*)",
    re.IGNORECASE,
)


def canonical(tag: str) -> str:
    """Give *tag* in the case that RFC 5646 recommends: `de-at` becomes `de-AT`.

    Raises:
        ValueError: *tag* is no language tag of the form language[-Script][-REGION][-variant].
    """
    found = _TAG.fullmatch(tag) if len(tag) <= MAX_LENGTH else None
    if found is None:
        raise ValueError(f'"{tag[:MAX_LENGTH]}" is no language tag; write it as in en, de-AT or zh-Hant-TW')
    parts = [found["language"].lower()]
    if found["script"]:
        parts.append(found["script"].title())
    if found["region"]:
        parts.append(found["region"].upper())
    return "-".join(parts) + found["variants"].lower()


def is_known(tag: str) -> bool:
    """Tell whether CLDR knows the language of *tag*, so that its numbers and dates can be written."""
    from babel.localedata import exists  # noqa: PLC0415 - 5 MB that only a template needs

    return exists(tag.partition("-")[0].lower())


def languages() -> Collection[str]:
    """Give the languages that CLDR knows, for suggestions."""
    from babel.localedata import locale_identifiers  # noqa: PLC0415 - 5 MB that only a template needs

    return {identifier.partition("_")[0] for identifier in locale_identifiers()}


@lru_cache(maxsize=1024)
def ancestors(tag: str) -> tuple[str, ...]:
    """Give *tag* and everything it inherits from, nearest first, without the root locale.

    Raises:
        ValueError: *tag* is no language tag.
    """
    chain: list[str] = []
    current: str | None = canonical(tag)
    while current is not None and current not in chain:
        chain.append(current)
        current = _parent(current)
    return tuple(chain)


def _parent(tag: str) -> str | None:
    from babel.core import get_global  # noqa: PLC0415 - 5 MB that only a template needs

    likely = get_global("likely_subtags")
    listed: str | None = get_global("parent_exceptions").get(tag.replace("-", "_"))
    if listed is not None:
        return listed.replace("_", "-")
    language, *rest = tag.split("-")
    if not rest:
        return None
    usual = _script(likely.get(language, ""))
    if len(rest[0]) == 4 and rest[0].isalpha():
        # A script that the language is not usually written in inherits from the root: CLDR's rule "nonlikelyScript".
        if len(rest) == 1 and rest[0] != usual:
            return None
    else:
        implied = _script(likely.get(f"{language}_{rest[0]}", ""))
        if implied and usual and implied != usual:
            return "-".join([language, implied, *rest])
    return "-".join([language, *rest[:-1]])


def _script(maximal: str) -> str:
    """Give the script of a maximal identifier such as `zh_Hant_TW`."""
    parts = maximal.split("_")
    return parts[1] if len(parts) > 1 and len(parts[1]) == 4 else ""


def choose(wanted: str | None, available: Iterable[str], default: str) -> str:
    """Give the translation for a reader who wants *wanted*: its nearest available ancestor, else *default*.

    Raises:
        ValueError: *wanted* is no language tag.
    """
    if wanted is not None:
        offered = frozenset(available)
        for candidate in ancestors(wanted):
            if candidate in offered:
                return candidate
    return default
