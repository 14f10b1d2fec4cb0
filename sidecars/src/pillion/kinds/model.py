"""The base of every resource model, and the field types that all kinds share.

A model is a frozen msgspec struct whose fields carry their description and bounds; `schema.py` turns it into the structural schema of a
CRD, `structure.py` checks documents against that schema. A rule that ties several fields together is a `Rule`: the same statement once in
CEL, for the API server, and once in Python, for the command line and the operator. A cluster test proves that both agree.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

JSON = Any
"""A value that came from, or goes to, JSON: the one place where `Any` is meant."""

FREEFORM: dict[str, object] = {"x-kubernetes-preserve-unknown-fields": True}
"""Schema extension of a field whose shape is not the API server's to judge (JsonLogic, JSON Schema, mixed lists)."""

ATOMIC: dict[str, object] = {"x-kubernetes-list-type": "atomic"}
"""Schema extension of a list that is replaced as a whole."""


def list_map(*keys: str) -> dict[str, object]:
    """Give the schema extension of a list whose items are identified by *keys*, so that several appliers merge instead of overwrite."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A statement over several fields of one object.

    Args:
        cel: the statement in CEL over `self`; the API server runs it.
        test: the same statement over the object as JSON with schema defaults applied; true when it holds.
        message: what is not allowed, and the fix after a semicolon. The API server and the command line both print it.
        field: the field below the object that the message is about; empty for the object itself.
    """

    cel: str
    test: Callable[[Mapping[str, JSON]], bool]
    message: str
    field: str = ""


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An object in a manifest. Field names are snake_case here and camelCase there."""

    rules: ClassVar[tuple[Rule, ...]] = ()


DnsLabel = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
"""A name by RFC 1123: lower-case letters, digits and hyphens, at most 63 characters."""

ObjectName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", min_length=1, max_length=253)]
"""The name of a Kubernetes object: a DNS subdomain by RFC 1123."""

SecretKey = Annotated[str, Meta(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
"""A key inside a Secret."""


class SecretKeyRef(Model, frozen=True, kw_only=True):
    """One key of a Secret in the same namespace. The value never appears in a resource, a log or a metric."""

    name: Annotated[ObjectName, Meta(description="Name of the Secret in the same namespace.")]
    key: Annotated[SecretKey, Meta(description="Key inside the Secret.")]


class SecretRef(Model, frozen=True, kw_only=True):
    """A whole Secret in the same namespace; which of its keys are read is said where it is used."""

    name: Annotated[ObjectName, Meta(description="Name of the Secret in the same namespace.")]


LabelKey = Annotated[str, Meta(min_length=1, max_length=317)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]


class LabelExpression(Model, frozen=True, kw_only=True):
    """One requirement of a label selector."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
            test=lambda o: bool(o.get("values")) == (o.get("operator") in ("In", "NotIn")),
            message="values must be given for In and NotIn, and only there; add values or change the operator",
            field="values",
        ),
    )

    key: Annotated[LabelKey, Meta(description="Label that the requirement is about.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"], Meta(description="How the label relates to the values.")
    ]
    values: Annotated[
        tuple[LabelValue, ...], Meta(max_length=64, description="Values for In and NotIn.", extra_json_schema=ATOMIC)
    ] = ()


class LabelSelector(Model, frozen=True, kw_only=True):
    """Which pods: all requirements must hold. An empty selector matches every pod."""

    match_labels: Annotated[
        dict[LabelKey, LabelValue], Meta(max_length=64, description="Labels and their exact values.")
    ] = {}
    match_expressions: Annotated[
        tuple[LabelExpression, ...],
        Meta(max_length=32, description="Requirements beyond equality.", extra_json_schema=ATOMIC),
    ] = ()


class Spec(Model, frozen=True, kw_only=True):
    """The fields that the spec of every kind has."""

    selector: Annotated[
        LabelSelector | None,
        Meta(description="Pods of the namespace whose sidecars get this resource; absent means all of them."),
    ] = None
    suspend: Annotated[
        bool, Meta(description="Park the resource: it stays, but no sidecar runs it until this is false again.")
    ] = False


def walk(value: object) -> Iterator[Model]:
    """Yield *value* and every model below it, depth first."""
    match value:
        case Model():
            yield value
            for field in value.__struct_fields__:
                yield from walk(getattr(value, field))
        case Mapping():
            for item in value.values():
                yield from walk(item)
        case list() | tuple():
            for item in value:
                yield from walk(item)


def secret_names(value: object) -> frozenset[str]:
    """Give the names of all Secrets that *value* refers to, anywhere below it."""
    return frozenset(m.name for m in walk(value) if isinstance(m, SecretKeyRef | SecretRef))
