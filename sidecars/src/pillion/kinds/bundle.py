"""A set of manifest files as one whole: their resources, their Secrets, and everything that is wrong, each with file and line.

What `kubectl apply -f DIR` would send to the API server, judged without one. Objects of other groups (Deployments, Services…) are left to
`kubectl`; Secrets are read, because resources refer to them.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pillion.kinds.definition import GROUP, Kind
from pillion.kinds.manifests import Document, ManifestError, read_documents
from pillion.kinds.model import JSON
from pillion.kinds.resource import Resource, check_document, check_relations
from pillion.kinds.violations import FieldPath, Violation, at

MAX_SECRET_BYTES: Final = 1 << 20
"""Bound of one Secret, as the API server's."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and where: `line` counts from 1."""

    file: str
    line: int
    resource: str
    violation: Violation


class SecretValues(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one Secret. Its repr shows nothing of them."""

    namespace: str
    name: str
    values: dict[str, bytes]

    def __repr__(self) -> str:
        return f"SecretValues({self.namespace}/{self.name})"

    def version(self, key: bytes) -> str:
        """Give a text that changes with the values and, without *key*, tells nothing about them."""
        parts = [part for name in sorted(self.values) for part in (name.encode(), self.values[name])]
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(key, framed, hashlib.sha256).hexdigest()[:32]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of reading a set of files."""

    resources: tuple[Resource, ...]
    secrets: tuple[SecretValues, ...]
    findings: tuple[Finding, ...]
    ignored: int
    """Objects of other groups."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that refuse the bundle."""
        return tuple(finding for finding in self.findings if finding.violation.severity == "error")


class _Reading:
    """Collects what the files hold; one instance per bundle."""

    def __init__(self, kinds: Mapping[str, Kind[Any]], default_namespace: str) -> None:
        self.kinds = kinds
        self.default_namespace = default_namespace
        self.resources: dict[tuple[str, str, str], Resource] = {}
        self.places: dict[tuple[str, str, str], tuple[str, Document]] = {}
        self.secrets: dict[tuple[str, str], SecretValues] = {}
        self.findings: list[Finding] = []
        self.ignored = 0

    def file(self, name: str, text: str) -> None:
        try:
            for document in read_documents(text):
                self.document(name, document)
        except ManifestError as error:
            self.findings.append(
                Finding(
                    file=name,
                    line=error.line,
                    resource="",
                    violation=Violation(path=FieldPath("file"), rule=str(error)),
                )
            )

    def document(self, file: str, document: Document) -> None:
        group = str(document.value.get("apiVersion", "")).partition("/")[0]
        if document.value.get("kind") == "Secret" and group == "v1":
            self.secret(file, document)
        elif group == GROUP or (document.value.get("kind") in self.kinds and not group):
            self.resource(file, document)
        else:
            self.ignored += 1

    def resource(self, file: str, document: Document) -> None:
        checked = check_document(document.value, self.kinds, default_namespace=self.default_namespace)
        self.report(file, document, checked.violations)
        if checked.resource is None:
            return
        key = checked.resource.key
        if key in self.places:
            other, first = self.places[key]
            twice = Violation(
                path=FieldPath("metadata.name"),
                value=checked.resource.name,
                rule=f"is defined twice: also at {other}:{first.line}",
                fix="rename or remove one of the two",
            )
            self.report(file, document, (twice,))
            return
        self.places[key] = (file, document)
        self.resources[key] = checked.resource

    def secret(self, file: str, document: Document) -> None:
        metadata = document.value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
            missing = Violation(path=FieldPath("metadata.name"), rule="is missing", fix="name the Secret")
            self.report(file, document, (missing,))
            return
        namespace = metadata.get("namespace") or self.default_namespace
        values: dict[str, bytes] = {}
        for field in ("data", "stringData"):
            entries = document.value.get(field) or {}
            if not isinstance(entries, dict):
                self.report(
                    file, document, (Violation(path=FieldPath(field), rule="must be a map", fix="write key: value"),)
                )
                continue
            for key, value in entries.items():
                try:
                    values[key] = _decode(field, value)
                except ValueError as error:
                    self.report(file, document, (Violation(path=at(field, str(key)), rule=str(error)),))
        if sum(map(len, values.values())) > MAX_SECRET_BYTES:
            too_large = Violation(
                path=FieldPath("data"), rule=f"holds more than {MAX_SECRET_BYTES} bytes", fix="make it smaller"
            )
            self.report(file, document, (too_large,))
            return
        self.secrets[(namespace, name)] = SecretValues(namespace=namespace, name=name, values=values)

    def report(self, file: str, document: Document, violations: Iterable[Violation]) -> None:
        kind = document.value.get("kind", "")
        metadata = document.value.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        for violation in violations:
            line = document.line_of(violation.path)
            self.findings.append(Finding(file=file, line=line, resource=f"{kind}/{name}", violation=violation))

    def relations(self) -> None:
        for key, violation in check_relations(self.resources.values(), self.kinds):
            file, document = self.places[key]
            self.report(file, document, (violation,))
        for key, resource in self.resources.items():
            for name in sorted(resource.secrets):
                if (resource.namespace, name) not in self.secrets:
                    file, document = self.places[key]
                    unknown = Violation(
                        path=_mention(document.value.get("spec"), name),
                        value=name,
                        rule="names a Secret that is not among these files",
                        fix="fine if the Secret comes from elsewhere; else add it",
                        severity="warning",
                    )
                    self.report(file, document, (unknown,))


def read_bundle(
    files: Iterable[tuple[str, str]], kinds: Mapping[str, Kind[Any]], *, default_namespace: str = "default"
) -> Bundle:
    """Read and check (file name, text) pairs.

    Args:
        files: in the order in which findings shall be told.
        kinds: the known kinds.
        default_namespace: for documents that name none.
    """
    reading = _Reading(kinds, default_namespace)
    for name, text in files:
        reading.file(name, text)
    reading.relations()
    return Bundle(
        resources=tuple(reading.resources.values()),
        secrets=tuple(reading.secrets.values()),
        findings=tuple(reading.findings),
        ignored=reading.ignored,
    )


def _decode(field: str, value: JSON) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be a string; quote it")  # noqa: TRY004 - an answer to the writer, not a programming error
    if field == "stringData":
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("is no base64; use stringData for plain text") from None


def _mention(value: JSON, secret: str, path: str = "spec") -> FieldPath:
    """Find the field that names *secret*, for the message."""
    if isinstance(value, dict):
        if value.get("name") == secret and set(value) <= {"name", "key"}:
            return at(path, "name")
        for name, item in value.items():
            found = _mention(item, secret, at(path, str(name)))
            if found:
                return found
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found = _mention(item, secret, at(path, index))
            if found:
                return found
    return FieldPath("")
