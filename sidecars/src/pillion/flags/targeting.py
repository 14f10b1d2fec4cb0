"""The operators that flagd adds to JsonLogic and that need more than a function: `fractional` and `sem_ver`.

What a rule fixes is prepared once: the entries of a split become cumulative weights, the target of a version comparison is parsed. Custom
operators never fail: on bad input they give null, and a null result leads to the default variant.
"""

from bisect import bisect_right
from collections.abc import Callable

from pillion.flags.bucketing import Split, cbor_text, hash_pair, hash_text, hash_value, split
from pillion.flags.coercion import text
from pillion.flags.program import FLAGD, TARGETING_KEY, Place, Program, constant, is_literal
from pillion.flags.versions import COMPARISONS, compare_versions, parse_version
from pillion.kinds.model import JSON

_Entries = Callable[[JSON], Split | None]
"""Gives the entries of a split, which may hold computed variants and weights."""


def build_fractional(place: Place) -> Program:
    """Build `fractional`: by a bucketing value, or by flag key and targeting key where the first operand is an entry already (shorthand)."""
    arguments = place.arguments
    if not arguments:
        return constant(None)
    if place.top:
        place.rule.reads.add(TARGETING_KEY)  # v2 falls back to it even where a value is given
    compiled = place.all()
    shorthand = type(arguments[0]) is list
    written = arguments if shorthand else arguments[1:]
    if not all(is_literal(entry) for entry in written):
        return _by_value(place, compiled[0], compiled[1:], None)
    fixed = split(list(written), place.rule.generation)
    if not shorthand:
        return _by_value(place, compiled[0], compiled[1:], fixed)
    if fixed is None:
        return constant(None)
    if place.rule.generation == "v2" and place.top and place.rule.observer is None:
        return _plain(place, fixed)
    return _by_key(place, lambda _data: fixed)


def _plain(place: Place, fixed: Split) -> Program:
    """Build what most splits are: the shorthand of v2 with fixed entries, over the whole context."""
    ends, variants = fixed
    total, flag_key, meter = fixed.total, place.rule.flag_key, place.meter

    def run(data: JSON) -> JSON:
        subject = data.get(TARGETING_KEY)
        if type(subject) is not str or not subject:
            return None
        meter.read(subject)
        return variants[bisect_right(ends, (hash_text(flag_key + subject) * total) >> 32)]

    return run


def _by_key(place: Place, entries: _Entries) -> Program:
    """Bucket by flag key and targeting key."""
    own, meter, choose, top = place.rule.flag_key, place.meter, _choose(place), place.top
    third = place.rule.generation == "v3"
    own_encoded = cbor_text(own)

    def run(data: JSON) -> JSON:
        subject = data.get(TARGETING_KEY) if type(data) is dict else None
        if type(subject) is not str or not subject:
            return None
        chosen = entries(data)
        if chosen is None:
            return None
        meter.read(subject)
        if third:
            if top and own_encoded is not None:
                hashed = hash_pair(own_encoded, subject)
            else:
                hashed = hash_value([own if top else _key_of_item(data), subject], meter)
            return None if hashed is None else choose(hashed, chosen)
        return choose(hash_text((own if top else text(_key_of_item(data), meter)) + subject), chosen)

    return run


def _key_of_item(data: JSON) -> JSON:
    """Give the flag key that a shorthand inside a loop sees: only what the item itself brings, as in flagd."""
    own = data.get(FLAGD)
    return own.get("flagKey", "") if type(own) is dict else ""


def _by_value(place: Place, value: Program, rest: list[Program], fixed: Split | None) -> Program:
    """Bucket by a value. Whether it is one, or the first entry of a shorthand, shows only when it is known."""
    generation, meter, choose = place.rule.generation, place.meter, _choose(place)

    def entries(data: JSON) -> Split | None:
        return split([entry(data) for entry in rest], generation) if fixed is None else fixed

    def all_entries(data: JSON) -> Split | None:
        return split([value(data), *(entry(data) for entry in rest)], generation)

    by_key, by_key_from_first = _by_key(place, entries), _by_key(place, all_entries)

    def run(data: JSON) -> JSON:
        subject = value(data)
        kind = type(subject)
        if kind is list:
            return by_key_from_first(data)
        if generation == "v3":
            hashed = hash_value(subject, meter)
        elif kind is str:
            meter.read(subject)
            hashed = hash_text(subject)
        else:
            return by_key(data) if subject is None else None
        chosen = entries(data)
        return None if hashed is None or chosen is None else choose(hashed, chosen)

    return run


def _choose(place: Place) -> Callable[[int, Split], JSON]:
    """Give the choice of a variant, observed where there is an observer."""
    observer, path = place.rule.observer, place.path
    if observer is None:
        return lambda hashed, chosen: chosen.choose(hashed)

    def observed(hashed: int, chosen: Split) -> JSON:
        observer.bucket(path, hashed, chosen)
        return chosen.choose(hashed)

    return observed


def build_sem_ver(place: Place) -> Program:
    """Build `sem_ver`: exactly a version, an operator and a version, else null."""
    compiled = place.all()
    if len(compiled) != 3:
        return constant(None)
    left, operator, right = compiled
    written, target = place.arguments[1:]
    if type(written) is not str or not is_literal(target):
        return lambda data: compare_versions(left(data), operator(data), right(data))
    meaning, fixed = COMPARISONS.get(written), parse_version(target)
    if meaning is None or fixed is None:
        return constant(None)

    def run(data: JSON) -> JSON:
        version = parse_version(left(data))
        return None if version is None else meaning(version, fixed)

    return run
