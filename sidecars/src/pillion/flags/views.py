"""What `GET /v1/flags` tells about the flags, and how it is put together."""

from datetime import UTC, datetime

import msgspec

from pillion.flags.counters import Tally, tally
from pillion.flags.engine import Flag
from pillion.flags.values import type_of
from pillion.kinds.model import JSON


class FlagView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One flag.

    `reads` names the attributes that its rule looks at (empty and `readsEverything` false: the answer is the same for everybody), `evaluations` is
    how often it gave each answer since the sidecar started.
    """

    key: str
    resource: str
    state: str
    type: str
    variants: tuple[str, ...]
    default_variant: str | None
    reads: tuple[str, ...]
    reads_everything: bool
    reads_time: bool
    requires: tuple[str, ...]
    metadata: dict[str, JSON]
    expires: str
    expired: bool
    evaluations: tuple[Tally, ...]


class FlagList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Flags in the order of their keys. `next` is the `after` of the next page; empty on the last."""

    revision: str
    fractional: str
    total: int
    flags: tuple[FlagView, ...]
    next: str


def view(flag: Flag, resource: str, counts: list[int], now: int) -> FlagView:
    """Tell about one flag."""
    definition = flag.definition
    expires = datetime.fromtimestamp(definition.expires, UTC) if definition.expires else None
    return FlagView(
        key=definition.key,
        resource=resource,
        state=definition.state,
        type=type_of(next(iter(definition.variants.values()), None)) or "",
        variants=tuple(definition.variants),
        default_variant=definition.default_variant,
        reads=tuple(sorted(flag.reads.names)),
        reads_everything=flag.reads.everything,
        reads_time=flag.reads_time,
        requires=tuple(need.flag for need in definition.requires),
        metadata=definition.metadata,
        expires=expires.isoformat().replace("+00:00", "Z") if expires else "",
        expired=is_expired(flag, now),
        evaluations=tuple(tally(flag, counts)),
    )


def is_expired(flag: Flag, now: int) -> bool:
    """Tell whether a flag should be gone by *now*, seconds since the epoch."""
    return 0 < flag.definition.expires <= now
