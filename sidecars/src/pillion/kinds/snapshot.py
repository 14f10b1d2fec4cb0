"""The snapshot: all configuration one sidecar needs, as canonical JSON, and its revision, the SHA-256 of that JSON.

Compiling is pure: the same resources in any order give the same bytes, any change of meaning gives other bytes. Secret values are never part
of a snapshot; it holds the *version* of every Secret that it refers to, so that a rotation changes the revision while neither the revision
nor the JSON tells anything about a value. The values travel beside the snapshot.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NewType

import msgspec

from pillion.kinds.definition import Kind
from pillion.kinds.model import JSON
from pillion.kinds.profile import PROFILE_KIND
from pillion.kinds.resource import Resource
from pillion.kinds.selection import Pod, selects

Revision = NewType("Revision", str)
"""The SHA-256 of a snapshot's canonical JSON, in hexadecimal."""

FORMAT: Final = 1
"""Version of the snapshot's own layout. A sidecar refuses a snapshot of a format that it does not know, and keeps its last one."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled configuration.

    Args:
        document: the canonical JSON.
        revision: its SHA-256.
        secrets: names of the Secrets whose values must travel with it.
        resources: the (kind, name) of every resource in it, for counting acknowledgements.
    """

    document: bytes
    revision: Revision
    secrets: frozenset[str]
    resources: frozenset[tuple[str, str]]


def canonical_json(value: JSON) -> bytes:
    """Write *value* with sorted keys and no spaces, as UTF-8.

    Raises:
        ValueError: *value* holds NaN or an infinity, which JSON cannot say.
    """
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def revision_of(document: bytes) -> Revision:
    """Give the revision of a snapshot's canonical JSON."""
    return Revision(hashlib.sha256(document).hexdigest())


def choose_profile(resources: Iterable[Resource], pod: Pod) -> Resource | None:
    """Give the SidecarProfile for *pod*: of those that select it, the first by name. Equal selectors are refused before."""
    found = [r for r in resources if r.kind == PROFILE_KIND and not r.spec.suspend and selects(r.spec.selector, pod)]
    # A profile with a selector is nearer to the pod than one without.
    return min(found, key=lambda r: (r.spec.selector is None, r.name), default=None)


def compile_snapshot(
    resources: Iterable[Resource],
    pod: Pod,
    *,
    kinds: Mapping[str, Kind[Any]],
    blocks: Iterable[str],
    block_of: Mapping[str, str],
    secret_versions: Mapping[str, str],
) -> Snapshot:
    """Compile what the sidecar of *pod* runs.

    Args:
        resources: checked resources; those of other namespaces, suspended ones and those that do not select the pod are left out.
        pod: the pod behind which the sidecar rides.
        kinds: the known kinds.
        blocks: all blocks in start order; a profile may name fewer.
        block_of: the block that owns each kind.
        secret_versions: for each known Secret of the namespace a text that changes whenever its values change.
    """
    own = [r for r in resources if r.namespace == pod.namespace]
    chosen = choose_profile(own, pod)
    profile: dict[str, JSON] = {"name": "", "blocks": list(blocks), "settings": {}, "auth": None}
    if chosen is not None:
        profile = kinds[PROFILE_KIND].compile(chosen.name, chosen.spec)
    running = profile.pop("blocks")
    settings = profile.pop("settings")
    parts: dict[str, JSON] = {name: {"settings": settings.get(name), "resources": {}} for name in running}
    secrets: set[str] = set(chosen.secrets) if chosen else set()
    included: set[tuple[str, str]] = {(PROFILE_KIND, chosen.name)} if chosen else set()
    for resource in own:
        block = block_of.get(resource.kind, "")
        if block not in parts or resource.spec.suspend or not selects(resource.spec.selector, pod):
            continue
        group = parts[block]["resources"].setdefault(resource.kind, {})
        group[resource.name] = kinds[resource.kind].compile(resource.name, resource.spec)
        secrets |= resource.secrets
        included.add((resource.kind, resource.name))
    document = canonical_json(
        {
            "format": FORMAT,
            "namespace": pod.namespace,
            "profile": profile,
            "blocks": parts,
            "secrets": {name: secret_versions.get(name, "") for name in sorted(secrets)},
        }
    )
    return Snapshot(
        document=document, revision=revision_of(document), secrets=frozenset(secrets), resources=frozenset(included)
    )
