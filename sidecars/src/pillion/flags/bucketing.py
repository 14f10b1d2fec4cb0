"""Deterministic percentage splits: which bucket a value falls into, and which entry of a `fractional` rule owns it.

Two generations are in use and put people into different buckets, so a flag set chooses one. v2 hashes UTF-8 text (flagd 0.16, JavaScript
`@openfeature/flagd-core` 4.0, Python `openfeature-flagd-core` 1.0); v3 hashes canonical CBOR (RFC 8949 section 4.2.1) of text, booleans, numbers
or objects (Python `openfeature-flagd-core` 2.0). Common to both: MurmurHash3 x86 32-bit with seed 0, and `bucket = hash · total weight >> 32`.
An entry keeps its users when entries are appended and weights grow only at the end; this module remembers nothing.
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache, partial
from typing import Final, Literal, NamedTuple

import mmh3

from pillion.flags.coercion import Exceeded, Meter
from pillion.kinds.model import JSON

Generation = Literal["v2", "v3"]
"""How a bucketing value becomes a hash."""

MAX_WEIGHT: Final = 2**31 - 1
"""Bound of one weight and of their sum, as in flagd."""

_MAX_DEPTH: Final = 64
"""Levels of a bucketing object."""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1

_SHORT_TEXT: Final = tuple(bytes((0x60 + size,)) for size in range(24))
"""Heads of texts that carry their length in the first byte."""

_hash = mmh3.mmh3_32_uintdigest


class Split(NamedTuple):
    """The entries of one `fractional`, ready to choose from: cumulative weights and the variant of each."""

    ends: tuple[int, ...]
    variants: tuple[JSON, ...]

    @property
    def total(self) -> int:
        """The sum of the weights."""
        return self.ends[-1]

    def bucket(self, hashed: int) -> int:
        """Give the bucket, from 0 to below the total, of a 32-bit hash."""
        return (hashed * self.ends[-1]) >> 32

    def choose(self, hashed: int) -> JSON:
        """Give the variant of a 32-bit hash: the first entry whose cumulative weight is greater than the bucket."""
        return self.variants[bisect_right(self.ends, (hashed * self.ends[-1]) >> 32)]


def split(entries: list[JSON], generation: Generation) -> Split | None:
    """Read evaluated entries `[variant]` or `[variant, weight]`; None where the rule gives no answer.

    A missing or null weight is 1, a negative one (they come out of rollout arithmetic) 0. No answer come from: an entry that is no list or
    empty, a weight that is not whole or over the bound, a sum of 0 or over the bound; in v2 a variant that is a list or an object, in v3 an
    entry of more than two elements. Each as the generation's reference implementation has it.
    """
    ends: list[int] = []
    variants: list[JSON] = []
    total = 0
    for entry in entries:
        if type(entry) is not list or not entry or (len(entry) > 2 and generation == "v3"):
            return None
        variant = entry[0]
        if generation == "v2" and (type(variant) is list or type(variant) is dict):
            return None
        weight = weight_of(entry[1]) if len(entry) > 1 else 1
        if weight is None:
            return None
        total += weight
        ends.append(total)
        variants.append(variant)
    return Split(tuple(ends), tuple(variants)) if 0 < total <= MAX_WEIGHT else None


def weight_of(value: JSON) -> int | None:
    """Give a weight as a whole number of at least 0; None where *value* is no weight."""
    if value is None:
        return 1
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value > MAX_WEIGHT:
        return None
    return max(value, 0)


def hash_text(value: str) -> int:
    """Hash a text as v2 does."""
    return _hash(value.encode("utf-8", "surrogatepass"))


def hash_value(value: JSON, meter: Meter) -> int | None:
    """Hash a value as v3 does; None where it cannot be bucketed by.

    Raises:
        Exceeded: it is too large.
    """
    if type(value) is str:
        meter.read(value)
        encoded = cbor_text(value)
    else:
        encoded = canonical_cbor(value, meter)
    return None if encoded is None else _hash(encoded)


def hash_pair(first: bytes, second: str) -> int | None:
    """Hash two texts as the shorthand of v3 does; None where the second is no text.

    Args:
        first: the first text, as `cbor_text` gives it.
        second: the second text.
    """
    encoded = cbor_text(second)
    return None if encoded is None else _hash(b"\x82" + first + encoded)


def cbor_text(value: str) -> bytes | None:
    """Encode a text as CBOR (RFC 8949 section 3.1, major type 3); None for half of a surrogate pair.

    Texts are what nearly everybody buckets by, and the encoder's general way takes ten times as long; a test holds both against each other.
    """
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        return None
    size = len(encoded)
    if size < 24:
        return _SHORT_TEXT[size] + encoded
    width, head = (1, b"\x78") if size < 1 << 8 else (2, b"\x79") if size < 1 << 16 else (4, b"\x7a")
    return head + size.to_bytes(width, "big") + encoded


def canonical_cbor(value: JSON, meter: Meter) -> bytes | None:
    """Encode a bucketing value; whole floats in the range of CBOR integers become integers first, at every level.

    Raises:
        Exceeded: it is too large.
    """
    if value is None:
        return None
    try:
        return _cbor()(_whole(value, meter, 0))
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return None


@cache
def _cbor() -> Callable[[JSON], bytes]:
    """Give the encoder; loaded once, and only for a flag set of the third generation."""
    from cbor2 import dumps  # noqa: PLC0415 - see above

    return partial(dumps, canonical=True)


def _whole(value: JSON, meter: Meter, depth: int) -> JSON:
    """Turn whole floats into integers, at every level."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and _SMALLEST <= value <= _LARGEST else value
    if kind is list or kind is dict:
        if depth > _MAX_DEPTH:
            raise Exceeded(f"a bucketing value is nested deeper than {_MAX_DEPTH} levels")
        meter.spend(len(value) + 1)
        if kind is list:
            return [_whole(item, meter, depth + 1) for item in value]
        return {name: _whole(item, meter, depth + 1) for name, item in value.items()}
    if kind is str:
        meter.read(value)
    return value
