"""What a block declares about its resources: its kinds, and its section of the SidecarProfile.

A block's `kind.py` exposes one `BLOCK: BlockDefinition`. From it come the CRDs, the checks, the compilation into snapshots and the printed
columns; neither the operator nor the runtime knows any block beyond this declaration.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from pillion.kinds.model import JSON, Model, Spec
from pillion.kinds.violations import FieldPath, Violation

GROUP = "pillion.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

S = TypeVar("S", bound=Model)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of `kubectl get`."""

    name: str
    json_path: str
    type: str = "string"
    description: str = ""
    priority: int = 0
    format: str = ""


class OwnCondition(msgspec.Struct, frozen=True, kw_only=True):
    """A condition type of one kind, reported by sidecars.

    Args:
        summary: what it says, in one sentence.
        normally: its status while no sidecar says otherwise. One that is normally false is left out of the status then.
    """

    summary: str
    normally: bool = False


def _no_violations(_spec: Any, _path: FieldPath) -> Iterable[Violation]:
    return ()


def _no_relations(_specs: Mapping[str, Any]) -> Iterable[tuple[str, Violation]]:
    return ()


class Kind(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """One custom resource type.

    Args:
        kind: the name in manifests, as in `RateLimitPolicy`.
        plural: the name in URLs, as in `ratelimitpolicies`.
        short_names: what `kubectl get` also understands.
        summary: one sentence for `kubectl explain`.
        spec: the model of `spec`; a subclass of `Spec`.
        check: meaning beyond the schema, over one spec; pure.
        relate: meaning across the resources of one namespace: specs by name in, (name, violation) pairs out; pure.
        compile: from (name, spec) to the JSON that the sidecar's block reads; pure, called only with a spec that passed `check`.
        columns: own printer columns, between NAME and SIDECARS.
        summarize: own status fields, computed from the spec alone (for example `rules: 3`), for the columns; pure.
        status_schema: structural schema properties of the own status fields.
        conditions: own condition types beside those that every kind has.
        counts_pods: whether the status tells how many pods that the selector matches are to have a sidecar (`pods`), have one (`injected`), or
            have none though they are to (`missed`).
    """

    kind: str
    plural: str
    short_names: tuple[str, ...]
    summary: str
    spec: type[S]
    compile: Callable[[str, S], JSON]
    check: Callable[[S, FieldPath], Iterable[Violation]] = _no_violations
    relate: Callable[[Mapping[str, S]], Iterable[tuple[str, Violation]]] = _no_relations
    columns: tuple[Column, ...] = ()
    summarize: Callable[[S], Mapping[str, JSON]] = lambda _spec: {}
    status_schema: Mapping[str, JSON] = {}
    conditions: Mapping[str, OwnCondition] = {}
    counts_pods: bool = False

    @property
    def singular(self) -> str:
        """The name in lower case, as the API server wants it."""
        return self.kind.lower()

    @property
    def relates(self) -> bool:
        """Whether its resources are judged across each other, and not each by itself alone."""
        return self.relate is not _no_relations

    @property
    def crd_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


class ProfileSection(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """A block's own part of `SidecarProfile.spec`.

    Args:
        field: the field's name in the manifest, as in `health`.
        model: its model.
        description: what `kubectl explain` says about it.
        check: meaning beyond the schema; pure.
        compile: from the section to the JSON that the block reads as its settings; pure.
    """

    field: str
    model: type[S]
    description: str
    compile: Callable[[S], JSON]
    check: Callable[[S, FieldPath], Iterable[Violation]] = _no_violations


class BlockDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a block declares about its resources."""

    name: str
    kinds: tuple[Kind[Any], ...] = ()
    section: ProfileSection[Any] | None = None


__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "BlockDefinition",
    "Column",
    "Kind",
    "OwnCondition",
    "ProfileSection",
    "Spec",
]
