"""AdmissionReview (admission.k8s.io/v1) in, AdmissionReview out: the judgement without any I/O.

Resources are judged by the very functions of `pillion lint`, so that `kubectl apply` says what a pull request's check would have said. A pod is
patched or let through with a warning; it is never refused, because an injector that stops pods takes services down.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pillion.kinds.definition import Kind
from pillion.kinds.resource import Resource, check_document
from pillion.kinds.violations import Violation
from pillion_operator.injection.patch import Injection

JSON = Any

API_VERSION: Final = "admission.k8s.io/v1"

MAX_WARNINGS: Final = 10
MAX_WARNING: Final = 250
"""The API server cuts warnings at 256 characters each and 4096 together."""

MAX_MESSAGE: Final = 2048
"""Characters of a refusal; `kubectl` prints all of it on one line."""

Relations = Callable[[Resource], Iterable[Violation]]
"""What is wrong with a resource beside those that are already there."""


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of an AdmissionRequest that is read."""

    uid: str
    operation: str = "CREATE"
    namespace: str = ""
    name: str = ""
    object: JSON = None
    dry_run: bool = False


class Review(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An AdmissionReview as the API server sends it."""

    api_version: str
    kind: str
    request: Request


class _PodMetadata(msgspec.Struct):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Container(msgspec.Struct, rename="camel"):
    env: list[dict[str, JSON]] | None = None
    ports: list[dict[str, JSON]] | None = None
    volume_mounts: list[dict[str, JSON]] | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    volumes: list[dict[str, JSON]] | None = None
    os: dict[str, JSON] | None = None
    node_selector: dict[str, str] | None = None
    security_context: dict[str, JSON] | None = None


class _Pod(msgspec.Struct):
    """The shape on which injection relies."""

    metadata: _PodMetadata | None = None
    spec: _PodSpec | None = None


class BadReview(ValueError):  # noqa: N818 - says what it is
    """The body is no AdmissionReview of a version that is spoken here."""


_decoder = msgspec.json.Decoder(Review)


def decode(body: bytes) -> Request:
    """Read a review.

    Raises:
        BadReview: it is none.
    """
    try:
        review = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BadReview(f"the body is no AdmissionReview: {error}") from None
    except RecursionError:
        raise BadReview("the body is no AdmissionReview: it is nested too deeply") from None
    if review.api_version != API_VERSION or review.kind != "AdmissionReview":
        raise BadReview(f"{review.api_version} {review.kind} is not spoken here; send {API_VERSION} AdmissionReview")
    return review.request


def validate(request: Request, kinds: Mapping[str, Kind[Any]], relations: Relations) -> bytes:
    """Judge one of our resources."""
    if request.operation == "DELETE" or not isinstance(request.object, dict):
        return _answer(request.uid, allowed=True)
    document = dict(request.object)
    # What the API server adds is not the writer's: only the spec is judged, under the name and namespace of the request.
    metadata = document.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata.setdefault("name", metadata.get("generateName") or request.name or "unnamed")
    document["metadata"] = metadata | ({"namespace": request.namespace} if request.namespace else {})
    if metadata.get("deletionTimestamp"):
        return _answer(request.uid, allowed=True)
    checked = check_document(document, kinds, default_namespace=request.namespace or "default")
    found = list(checked.violations)
    if checked.resource is not None:
        found += relations(checked.resource)
    errors = [v.message for v in found if v.severity == "error"]
    warnings = [v.message for v in found if v.severity == "warning"]
    if not errors:
        return _answer(request.uid, allowed=True, warnings=warnings)
    more = f" (and {len(errors) - 5} more)" if len(errors) > 5 else ""
    return _answer(request.uid, allowed=False, message="; and ".join(errors[:5]) + more, warnings=warnings)


def mutate(request: Request, inject: Callable[[Mapping[str, JSON], str], Injection]) -> tuple[bytes, Injection]:
    """Give a pod its sidecar.

    Args:
        request: the request; its namespace counts, since a pod's own may be missing.
        inject: from (pod, namespace) to the injection.

    Raises:
        BadReview: the object has not the shape of a pod.
    """
    if request.operation != "CREATE" or not isinstance(request.object, dict):
        return _answer(request.uid, allowed=True), Injection(reason="NotAsked", message="no pod is created")
    try:
        msgspec.convert(request.object, _Pod)
    except msgspec.ValidationError as error:
        raise BadReview(f"the object is no pod: {error}") from None
    injection = inject(request.object, request.namespace)
    warnings = []
    if injection.reason and injection.reason != "NotAsked":
        warnings = [f"no Pillion sidecar: {injection.message}"]
    return _answer(request.uid, allowed=True, patch=injection.patch, warnings=warnings), injection


def _answer(
    uid: str, *, allowed: bool, message: str = "", patch: Sequence[JSON] = (), warnings: Sequence[str] = ()
) -> bytes:
    response: dict[str, JSON] = {"uid": uid, "allowed": allowed}
    if message:
        response["status"] = {"code": 422, "reason": "Invalid", "message": message[:MAX_MESSAGE]}
    if patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(patch)).decode()
    if warnings:
        response["warnings"] = [warning[:MAX_WARNING] for warning in warnings[:MAX_WARNINGS]]
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
