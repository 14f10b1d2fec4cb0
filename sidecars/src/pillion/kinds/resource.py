"""From a document to a checked resource: structure, rules over several fields, meaning, relations. One function for everybody.

`pillion lint`, `pillion run` and the operator all call `check_document` and `check_relations`; what the API server already refused does
not come here again in a cluster, but the answer would be the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pillion.kinds.definition import API_VERSION, Kind
from pillion.kinds.model import JSON, Model, secret_names
from pillion.kinds.schema import Schema, structural_schema
from pillion.kinds.selection import Namespace
from pillion.kinds.structure import check_rules, check_structure, with_defaults, without_nulls
from pillion.kinds.violations import SPEC, FieldPath, Violation, did_you_mean


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource whose spec passed every check that needs no other resource."""

    kind: str
    namespace: Namespace
    name: str
    spec: Any

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it: kind, namespace, name."""
        return (self.kind, self.namespace, self.name)

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the Secrets that its spec refers to."""
        return secret_names(self.spec)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a check: a resource unless there are errors; warnings do not hinder it."""

    resource: Resource | None
    violations: tuple[Violation, ...] = ()


_schemas: dict[type[Model], Schema] = {}


def spec_schema(model: type[Model]) -> Schema:
    """Give the structural schema of *model*; made once."""
    if model not in _schemas:
        _schemas[model] = structural_schema(model)
    return _schemas[model]


def check_document(
    document: Mapping[str, JSON], kinds: Mapping[str, Kind[Any]], *, default_namespace: str = "default"
) -> Checked:
    """Check one document by itself.

    Args:
        document: the resource as JSON, as read from a file or from the API server.
        kinds: the known kinds, from `registry.kinds()`.
        default_namespace: the namespace of a document that names none.
    """
    name = document.get("kind")
    if document.get("apiVersion") != API_VERSION:
        return _refused("apiVersion", document.get("apiVersion"), "is not served here", f"write {API_VERSION}")
    if not isinstance(name, str) or name not in kinds:
        return _refused("kind", name, f"is no kind of {API_VERSION}", did_you_mean(str(name), kinds))
    kind = kinds[name]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return _refused("metadata.name", msgspec.UNSET, "is missing", "name the resource")
    # `kubectl` refuses other top-level fields; reading on would hide a misplaced `selector`.
    for field in document:
        if field not in ("apiVersion", "kind", "metadata", "spec", "status"):
            known = ("apiVersion", "kind", "metadata", "spec")
            return _refused(str(field), msgspec.UNSET, "is no field of a resource", did_you_mean(str(field), known))
    schema = spec_schema(kind.spec)
    spec = document.get("spec")
    if spec is None:
        return _refused("spec", msgspec.UNSET, "is missing", f"describe the {kind.kind}")
    spec = with_defaults(without_nulls(spec, schema), schema)
    found = list(check_structure(spec, schema, SPEC))
    if not found:
        found += check_rules(spec, kind.spec, SPEC)
    if _errors(found):
        return Checked(resource=None, violations=tuple(found))
    try:
        typed = msgspec.convert(spec, kind.spec, strict=True)
    except msgspec.ValidationError as error:
        return Checked(resource=None, violations=(*found, _from_msgspec(error)))
    found += kind.check(typed, SPEC)
    if _errors(found):
        return Checked(resource=None, violations=tuple(found))
    namespace = Namespace(metadata.get("namespace") or default_namespace)
    return Checked(
        resource=Resource(kind=kind.kind, namespace=namespace, name=metadata["name"], spec=typed),
        violations=tuple(found),
    )


def check_relations(
    resources: Iterable[Resource], kinds: Mapping[str, Kind[Any]]
) -> list[tuple[tuple[str, str, str], Violation]]:
    """Check what only shows across resources, namespace by namespace; gives (key of the resource, violation) pairs."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for resource in resources:
        groups.setdefault((resource.kind, resource.namespace), {})[resource.name] = resource.spec
    return [
        ((kind, namespace, name), violation)
        for (kind, namespace), specs in sorted(groups.items())
        for name, violation in kinds[kind].relate(specs)
    ]


def _errors(found: Iterable[Violation]) -> bool:
    return any(violation.severity == "error" for violation in found)


def _refused(path: str, value: JSON, rule: str, fix: str) -> Checked:
    value = msgspec.UNSET if value is None else value
    return Checked(resource=None, violations=(Violation(path=FieldPath(path), value=value, rule=rule, fix=fix),))


def _from_msgspec(error: msgspec.ValidationError) -> Violation:
    """Translate a conversion error of a free-form field: the schema cannot judge those, the model does."""
    text, _, where = str(error).partition(" - at `$")
    return Violation(
        path=FieldPath("spec" + where.rstrip("`")), rule=f"does not fit: {text}", fix="see the field's description"
    )
