"""SidecarProfile: which pods get a sidecar and how it is set up. It belongs to no block; each block adds a section of its own.

The spec is put together from the registry, so that a new block brings its section without a change here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pillion.kinds.definition import BlockDefinition, Column, Kind
from pillion.kinds.model import ATOMIC, JSON, Model, SecretKeyRef, Spec
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean

PROFILE_KIND = "SidecarProfile"

_PODS = {
    "pods": "Pods that it selects and that are to have a sidecar.",
    "injected": "How many of them have it.",
    "missed": "How many of them run without it.",
}


class Auth(Model, frozen=True, kw_only=True):
    """Who may use the localhost API."""

    token_ref: Annotated[
        SecretKeyRef,
        Meta(description="Secret key with the bearer token that every request on the main listener must then present."),
    ]


class ProfileBase(Spec, frozen=True, kw_only=True):
    """How the sidecars of the selected pods are set up."""

    blocks: Annotated[
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=63)], ...],
            Meta(min_length=1, max_length=32, extra_json_schema=ATOMIC),
        ]
        | None,
        Meta(description="Blocks that the sidecar runs; absent means all of them. A block that is off costs nothing."),
    ] = None
    auth: Annotated[
        Auth | None, Meta(description="Who may use the localhost API; absent means whoever reaches it.")
    ] = None


def profile_kind(blocks: Sequence[BlockDefinition]) -> Kind[Any]:
    """Put the kind together from what all *blocks* declare."""
    sections = {block.name: block.section for block in blocks if block.section is not None}
    spec = msgspec.defstruct(
        "SidecarProfileSpec",
        [
            (section.field, Annotated[section.model | None, Meta(description=section.description)], None)
            for section in sections.values()
        ],
        bases=(ProfileBase,),
        frozen=True,
        kw_only=True,
        rename="camel",
        forbid_unknown_fields=True,
        namespace={"__doc__": ProfileBase.__doc__},
    )
    names = tuple(block.name for block in blocks)

    def check(profile: Any, path: FieldPath) -> Iterable[Violation]:
        for index, name in enumerate(profile.blocks or ()):
            if name not in names:
                yield Violation(
                    path=at(path, "blocks", index), value=name, rule="is no block", fix=did_you_mean(name, names)
                )
        for section in sections.values():
            value = getattr(profile, section.field)
            if value is not None:
                yield from section.check(value, at(path, section.field))

    def compile_profile(name: str, profile: Any) -> JSON:
        running = [block for block in names if profile.blocks is None or block in profile.blocks]
        settings: dict[str, JSON] = {}
        for block, section in sections.items():
            value = getattr(profile, section.field)
            if block in running and value is not None:
                settings[block] = section.compile(value)
        return {
            "name": name,
            "blocks": running,
            "settings": settings,
            "auth": msgspec.to_builtins(profile.auth) if profile.auth else None,
        }

    return Kind(
        kind=PROFILE_KIND,
        plural="sidecarprofiles",
        short_names=("scp",),
        summary="Which pods get a sidecar, which blocks it runs, and everything about it that is not a rule of one block.",
        spec=spec,
        check=check,
        relate=_ties,
        compile=compile_profile,
        counts_pods=True,
        columns=(
            *(
                Column(name=name.capitalize(), json_path=f".status.{name}", type="integer", description=text)
                for name, text in _PODS.items()
            ),
            Column(
                name="Blocks", json_path=".status.blocks", type="integer", description="Blocks that the sidecars run."
            ),
        ),
        summarize=lambda profile: {"blocks": len(profile.blocks) if profile.blocks is not None else len(names)},
        status_schema={
            **{
                name: {"type": "integer", "format": "int64", "minimum": 0, "description": text}
                for name, text in _PODS.items()
            },
            "blocks": {"type": "integer", "format": "int64", "description": "Blocks that the sidecars run."},
        },
    )


def _ties(profiles: Mapping[str, Any]) -> Iterable[tuple[str, Violation]]:
    """Two profiles with the same selector would both claim a pod: refuse the later one by name."""
    claimed: dict[bytes, str] = {}
    for name in sorted(profiles):
        if profiles[name].suspend:
            continue
        selector = msgspec.json.encode(profiles[name].selector, order="sorted")
        if selector in claimed:
            yield (
                name,
                Violation(
                    path=FieldPath("spec.selector"),
                    rule=f"selects the same pods as SidecarProfile {claimed[selector]}",
                    fix="give each profile a selector of its own, or merge the two",
                ),
            )
        else:
            claimed[selector] = name
