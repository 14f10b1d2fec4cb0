"""The models of the flag block: the spec of a FeatureFlag, and the `flags` section of a SidecarProfile."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from pillion.kinds.model import ATOMIC, FREEFORM, JSON, Model, Rule, Spec

FlagKey = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[^\s/?#%\\]+$")]
"""What applications ask for. It stands in URLs, so white space and the characters / ? # % \\ are out."""

VariantName = Annotated[str, Meta(min_length=1, max_length=253)]

_STAMP = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})"
Timestamp = Annotated[str, Meta(min_length=20, max_length=25, pattern=f"^{_STAMP}$")]
"""A moment by RFC 3339, to the second, with its offset."""

DateOrTimestamp = Annotated[str, Meta(min_length=10, max_length=25, pattern=rf"^(\d{{4}}-\d{{2}}-\d{{2}}|{_STAMP})$")]
"""A moment, or a day, which means its beginning in UTC."""


Owner = Annotated[str, Meta(min_length=1, max_length=253)]


def parse_moment(text: str) -> int | None:
    """Give a timestamp or a day as seconds since the epoch; None where the calendar has no such moment."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class Requirement(Model, frozen=True, kw_only=True):
    """Another flag that must resolve to a variant before this flag's targeting counts."""

    flag: Annotated[FlagKey, Meta(description="Key of the other flag, in the same namespace.")]
    variant: Annotated[VariantName, Meta(description="Variant that it must resolve to.")]


def _ordered(schedule: Mapping[str, JSON]) -> bool:
    begin, end = (parse_moment(schedule.get(name) or "") for name in ("from", "until"))
    return begin is None or end is None or begin < end


class Schedule(Model, frozen=True, kw_only=True):
    """When targeting counts; outside, the default variant is served."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.from) || has(self.until)",
            test=lambda o: bool(o.get("from") or o.get("until")),
            message="needs a beginning or an end; add from, until or both",
        ),
        Rule(
            cel="!has(self.from) || !has(self.until) || timestamp(self.from) < timestamp(self.until)",
            test=_ordered,
            message="must lie after from; swap them or correct the year",
            field="until",
        ),
    )

    from_: Annotated[
        Timestamp | None,
        Meta(description="Beginning by RFC 3339, as in 2026-12-01T00:00:00Z; absent means it has begun."),
    ] = msgspec.field(default=None, name="from")
    until: Annotated[
        Timestamp | None, Meta(description="End by RFC 3339, itself excluded; absent means it never ends.")
    ] = None


class FeatureFlagSpec(Spec, frozen=True, kw_only=True):
    """A flagd flag definition, with additions beside it."""

    key: Annotated[
        FlagKey | None, Meta(description="What applications ask for; absent means the name of the resource.")
    ] = None
    state: Annotated[
        Literal["ENABLED", "DISABLED"],
        Meta(description="DISABLED answers every evaluation with the application's own default."),
    ] = "ENABLED"
    variants: Annotated[
        dict[str, JSON],
        Meta(
            min_length=1,
            max_length=256,
            description="Possible values by name, all of one type: boolean, string, number or object.",
        ),
    ]
    default_variant: Annotated[
        VariantName | None,
        Meta(
            description="Variant that is served where targeting does not decide; absent leaves it to the application's own default."
        ),
    ] = None
    targeting: Annotated[
        JSON,
        Meta(
            description="JsonLogic with flagd's operators, whose result names a variant; absent or empty serves the default variant.",
            extra_json_schema={"type": "object", **FREEFORM},
        ),
    ] = None
    metadata: Annotated[
        dict[str, JSON],
        Meta(max_length=64, description="Texts, numbers and booleans that answers carry along."),
    ] = {}
    requires: Annotated[
        tuple[Requirement, ...],
        Meta(
            max_length=16,
            description="Flags that must resolve to a variant before targeting counts; else the default variant is served.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()
    schedule: Annotated[
        Schedule | None, Meta(description="When targeting counts; outside, the default variant is served.")
    ] = None
    owner: Annotated[Owner | None, Meta(description="Who answers for the flag; shown in its metadata.")] = None
    expires: Annotated[
        DateOrTimestamp | None,
        Meta(description="When the flag should be gone, as in 2027-03-01; from then on it is reported as expired."),
    ] = None


class OfrepSettings(Model, frozen=True, kw_only=True):
    """How the OFREP routes answer."""

    null_variant: Annotated[
        bool,
        Meta(
            description='Answer "variant": null where there is no variant. The Python OFREP provider 0.3.0 fails without it; the OFREP schema has no null.'
        ),
    ] = True


class FlagSettings(Model, frozen=True, kw_only=True):
    """What concerns all flags of a sidecar."""

    fractional: Annotated[
        Literal["v2", "v3"],
        Meta(
            description="Generation of fractional bucketing: v2 as flagd 0.16, v3 as openfeature-flagd-core 2.0. A change moves people between variants."
        ),
    ] = "v2"
    metadata: Annotated[
        dict[str, JSON],
        Meta(max_length=64, description="Metadata of the flag set; answers of every flag carry it, a flag's own wins."),
    ] = {}
    ofrep: Annotated[OfrepSettings, Meta(description="How the OFREP routes answer.")] = OfrepSettings()
