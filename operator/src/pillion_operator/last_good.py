"""The last accepted version of a resource whose newest one is refused, kept where a restarted operator finds it: in the resource's own status.

It is written with the very status that tells of the refusal, so it costs no object, no right and no write of its own, ends with the resource, and is seen by whoever may
read the resource and by nobody else. A resource that is accepted carries none. What is read back is checked like any manifest before it runs. Pure.

The spec travels as text: exactly what was accepted comes back, whatever the API server thinks of empty fields.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.crd import LAST_GOOD, MAX_LAST_GOOD
from pillion.kinds.definition import API_VERSION
from pillion.kinds.model import Model
from pillion.kinds.resource import Resource

JSON = Any

FIELD: Final = LAST_GOOD


def kept(good: Resource, generation: int) -> dict[str, JSON] | None:
    """Give what is kept of a version; None for one that is too large to stand in an object twice."""
    spec = msgspec.json.encode(_manifest(good.spec), order="sorted").decode()
    return {"generation": generation, "spec": spec} if len(spec) <= MAX_LAST_GOOD else None


def _manifest(value: object) -> JSON:
    """Write a model as a manifest would: what is absent is left out, while a null that somebody wrote into a free-form field stays."""
    match value:
        case Model():
            fields = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
            given = ((name, getattr(value, field)) for name, field in fields)
            return {name: _manifest(item) for name, item in given if item is not None}
        case Mapping():
            return {name: _manifest(item) for name, item in value.items()}
        case list() | tuple():
            return [_manifest(item) for item in value]
        case _:
            return value


def document_of(kind: str, namespace: str, name: str, status: Mapping[str, JSON]) -> tuple[dict[str, JSON], int] | None:
    """Give the resource as it was accepted last, and its generation then; None where nothing readable is kept in its status."""
    held = status.get(FIELD)
    if not isinstance(held, Mapping) or not isinstance(held.get("generation"), int):
        return None
    try:
        spec = msgspec.json.decode(str(held.get("spec", "")))
    except (msgspec.DecodeError, RecursionError):
        return None
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}, held["generation"]
