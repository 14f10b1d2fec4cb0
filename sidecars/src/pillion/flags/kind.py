"""FeatureFlag: one resource is one flag, and its spec is a flagd flag definition with additions beside it.

A definition that works in flagd works here unchanged. What is added compiles into it: a schedule becomes a condition on `$flagd.timestamp`; what a
flag requires is resolved by the engine, because it needs the other flags. The flags of a pod form one flag set; what concerns the set as a whole
stands in the `flags` section of its SidecarProfile.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pillion.flags.model import FeatureFlagSpec, FlagSettings, Schedule, parse_moment
from pillion.flags.proof import prove
from pillion.flags.relations import relate
from pillion.flags.results import yaml_hint
from pillion.flags.values import canonical, canonical_variants, check_json, check_variants, type_of
from pillion.kinds.definition import BlockDefinition, Column, Kind, OwnCondition, ProfileSection
from pillion.kinds.model import JSON
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean


def check(spec: FeatureFlagSpec, path: FieldPath) -> Iterator[Violation]:
    """Yield what is wrong with a flag beyond its schema."""
    found: list[Violation] = []
    for name, value in (("variants", spec.variants), ("targeting", spec.targeting), ("metadata", spec.metadata)):
        found += check_json(value, at(path, name))
    yield from found
    yield from check_metadata(spec.metadata, at(path, "metadata"))
    if not found:
        yield from _check_variants(spec, path)
        if spec.targeting is not None:
            yield from prove(spec.targeting, spec.variants, at(path, "targeting"))
    yield from _check_additions(spec, path)


def _check_variants(spec: FeatureFlagSpec, path: FieldPath) -> Iterator[Violation]:
    yield from check_variants(spec.variants, at(path, "variants"))
    name = spec.default_variant
    if name is None or name in spec.variants:
        return
    hint = yaml_hint(name, spec.variants)
    if hint and name not in ("true", "false"):
        yield Violation(
            path=at(path, "variants"),
            value=sorted(spec.variants),
            rule=f'has no "{name}", which defaultVariant names',
            fix=hint,
        )
    else:
        yield Violation(
            path=at(path, "defaultVariant"),
            value=name,
            rule="names none of the variants",
            fix=hint or did_you_mean(name, spec.variants),
        )


def check_metadata(metadata: Mapping[str, JSON], path: FieldPath) -> Iterator[Violation]:
    """Yield metadata that OFREP cannot carry."""
    for name, value in metadata.items():
        if not isinstance(value, str | int | float):
            yield Violation(
                path=at(path, name), value=value, rule="is no text, number or boolean", fix="write it as a text"
            )


def _check_additions(spec: FeatureFlagSpec, path: FieldPath) -> Iterator[Violation]:
    for name in ("requires", "schedule"):
        if getattr(spec, name) and not spec.targeting:
            yield Violation(
                path=at(path, name),
                rule="says when targeting counts, and there is no targeting",
                fix='add it, as in {"if": [true, "on"]}, and let defaultVariant be what is served otherwise',
            )
    moments = {at(path, "expires"): spec.expires}
    if spec.schedule:
        moments[at(path, "schedule", "from")] = spec.schedule.from_
        moments[at(path, "schedule", "until")] = spec.schedule.until
    for where, text in moments.items():
        if text is not None and parse_moment(text) is None:
            yield Violation(
                path=where, value=text, rule="is no moment of the calendar", fix="correct the day or the hour"
            )


def compile_flag(name: str, spec: FeatureFlagSpec) -> JSON:
    """Give what the engine reads; see `engine.Definition`."""
    owner = {"owner": spec.owner} if spec.owner else {}
    compiled: dict[str, JSON] = {
        "key": spec.key or name,
        "state": spec.state,
        "variants": canonical_variants(spec.variants),
        "defaultVariant": spec.default_variant,
        "targeting": _scheduled(canonical(spec.targeting), spec.schedule),
        "metadata": owner | canonical(spec.metadata),
        "requires": [{"flag": need.flag, "variant": need.variant} for need in spec.requires],
        "expires": (parse_moment(spec.expires) or 0) if spec.expires else 0,
    }
    return compiled


def _scheduled(targeting: JSON, schedule: Schedule | None) -> JSON:
    """Wrap targeting into the condition that a schedule is."""
    if not targeting or schedule is None:
        return targeting
    now = {"var": "$flagd.timestamp"}
    conditions = []
    if schedule.from_ is not None:
        conditions.append({">=": [now, parse_moment(schedule.from_)]})
    if schedule.until is not None:
        conditions.append({"<": [now, parse_moment(schedule.until)]})
    return {"if": [{"and": conditions}, targeting, None]}


def _summarize(spec: FeatureFlagSpec) -> Mapping[str, JSON]:
    return {"type": type_of(next(iter(spec.variants.values()))), "variants": len(spec.variants)}


FEATURE_FLAG: Final = Kind(
    kind="FeatureFlag",
    plural="featureflags",
    short_names=("ff",),
    summary="One feature flag: a flagd flag definition, with prerequisites and a schedule beside it.",
    spec=FeatureFlagSpec,
    check=check,
    relate=relate,
    compile=compile_flag,
    columns=(
        Column(name="State", json_path=".spec.state", description="Whether the flag is evaluated."),
        Column(
            name="Default", json_path=".spec.defaultVariant", description="Variant where targeting does not decide."
        ),
        Column(name="Type", json_path=".status.type", description="Type of its values.", priority=1),
    ),
    conditions={"Expired": OwnCondition(summary="True once its date (`spec.expires`) has passed; it is still served.")},
    summarize=_summarize,
    status_schema={
        "type": {"type": "string", "maxLength": 16, "description": "Type of the flag's values."},
        "variants": {"type": "integer", "format": "int64", "description": "How many variants it has."},
    },
)


def _check_settings(settings: FlagSettings, path: FieldPath) -> Iterator[Violation]:
    yield from check_json(settings.metadata, at(path, "metadata"))
    yield from check_metadata(settings.metadata, at(path, "metadata"))


BLOCK = BlockDefinition(
    name="flags",
    kinds=(FEATURE_FLAG,),
    section=ProfileSection(
        field="flags",
        model=FlagSettings,
        description="Feature flags as a set.",
        check=_check_settings,
        compile=lambda settings: {
            "fractional": settings.fractional,
            "metadata": canonical(settings.metadata),
            "nullVariant": settings.ofrep.null_variant,
        },
    ),
)
