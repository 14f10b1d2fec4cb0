"""Problem details (RFC 9457): every error that crosses the wire has this one shape.

A problem names what is wrong field by field (`errors[]`), so that a caller can act without reading prose. `type` is a stable URI that code
may compare; texts may change. Nothing secret may be put into a problem.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

PROBLEM_MEDIA: Final = "application/problem+json"
TYPE_BASE: Final = "https://pillion.dev/problems/"
"""Prefix of our own problem types; each is documented under its last segment."""

QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""Registered problem type of a 429 (draft-ietf-httpapi-ratelimit-headers)."""


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wrong field of a request.

    Args:
        pointer: where, as a JSON Pointer fragment (RFC 6901) for a body (`#/attributes/user`), or `query:name`, `header:name`, `path:name`.
        detail: what is wrong and what to write instead.
    """

    pointer: str
    detail: str


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON of a problem."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: tuple[FieldError, ...] = ()
    extensions: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """An answer that is an error. Raised by handlers, rendered by the server.

    Args:
        status: HTTP status, 400-599.
        slug: last segment of the problem type, as in `unknown-policy`; a whole URI is taken as it is.
        title: what kind of problem, the same for every occurrence.
        detail: what happened this time, and the fix.
        errors: the wrong fields.
        headers: further header fields of the answer.
        extensions: further members of the document, as RFC 9457 section 3.2 allows.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.type = slug if ":" in slug else TYPE_BASE + slug
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})

    def document(self, instance: str = "") -> bytes:
        """Render the JSON. *instance* identifies this occurrence, as in `urn:pillion:request:<id>`."""
        body: dict[str, object] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            body["instance"] = instance
        if self.errors:
            body["errors"] = self.errors
        return msgspec.json.encode(body | self.extensions)


def malformed(detail: str, *errors: FieldError) -> Problem:
    """Give the problem of a request that cannot be understood."""
    return Problem(400, "malformed-request", "Malformed request", detail, errors=errors)


def invalid_body(error: msgspec.DecodeError) -> Problem:
    """Give the problem of a body that is no JSON (400) or does not fit its model (422), with a pointer to the field."""
    if isinstance(error, msgspec.ValidationError):
        text, _, where = str(error).partition(" - at `")
        pointer = "#" + where.rstrip("`").lstrip("$").replace("[...]", "/*").replace("[", "/").replace("]", "").replace(
            ".", "/"
        )
        return Problem(
            422, "invalid-body", "Invalid body", f"The body does not fit: {text}.", errors=[FieldError(pointer, text)]
        )
    return malformed(f"The body is no JSON: {error}.", FieldError("#", str(error)))
