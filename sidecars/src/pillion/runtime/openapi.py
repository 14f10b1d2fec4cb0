"""Describes operations as an OpenAPI 3.1 document. Pure: operations in, JSON out.

The document is made from the very declarations that do the serving: models decode bodies, parameter schemas check parameters, replies are what tests
compare answers with. What the server itself adds to every operation (problems, the token, the request id) is added here in one place as well.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pillion.runtime import requestids
from pillion.runtime.operation import JSON_MEDIA, HotOperation, Operation, Parameter, Reply
from pillion.runtime.problems import PROBLEM_MEDIA, ProblemDocument
from pillion.version import VERSION

JSON = dict[str, Any]
"""A piece of the document."""

_TEMPLATE: Final = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{([^{}]+)\}")
_ARGUMENT = re.compile(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)

_PROBLEM: Final[JSON] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Further members may follow.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "What kind of problem: stable, for code to compare.",
        },
        "title": {"type": "string", "description": "What kind of problem, for people."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What happened this time, and the fix."},
        "instance": {"type": "string", "format": "uri", "description": "This occurrence: `urn:pillion:request:<id>`."},
        "errors": {
            "type": "array",
            "description": "The wrong fields.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "Where: a JSON Pointer fragment for a body (`#/a/b`), else `query:name`, `path:name`, `header:name`.",
                    },
                    "detail": {"type": "string", "description": "What is wrong, and what to write instead."},
                },
            },
        },
    },
}

_INFORMATION: Final = (
    "Backend plumbing on localhost. Every answer that is no success is a problem (RFC 9457). "
    "`X-Request-Id` is echoed where it is 1 to 128 characters that need no quoting; `traceparent` is followed."
)

_ADDED: Final[Mapping[int, str]] = {
    400: "The request is malformed: a parameter is wrong, or the body is no JSON.",
    401: "The token is missing or wrong.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body has a content type or encoding that is not read here.",
    422: "The body does not fit its model.",
}


def document(
    operations: Sequence[Operation], hot_operations: Sequence[HotOperation] = (), *, token: bool = True
) -> JSON:
    """Describe one listener.

    Args:
        operations: what it serves.
        hot_operations: its hot routes.
        token: whether it may ask for a bearer token.

    Raises:
        ValueError: a model cannot be described; the message names the operation.
    """
    every: list[Operation | HotOperation] = [*operations, *hot_operations]
    schemas = _Schemas(every)
    paths: dict[str, JSON] = {}
    for operation in sorted(every, key=lambda one: (one.path, one.method)):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, schemas, token=token)
    components: JSON = {
        "schemas": {"Problem": _PROBLEM, **schemas.components},
        "headers": {
            "RequestId": {
                "description": "Identifies the request in answers, logs and traces.",
                "schema": {"type": "string", "pattern": f"^{requestids.PATTERN}$"},
            }
        },
    }
    if token:
        components["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed only where the sidecar is given a token.",
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pillion",
            "version": VERSION,
            "description": _INFORMATION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in sorted({operation.tag for operation in every})],
        "paths": paths,
        "components": components,
    }


class _Schemas:
    """The schemas of all models, with one name each."""

    def __init__(self, operations: Iterable[Operation | HotOperation]) -> None:
        self._by_type: list[tuple[Any, JSON]] = []
        types: list[Any] = []
        for operation in operations:
            further = operation.body_models.values() if isinstance(operation, Operation) else ()
            for kind in (operation.body, *further, *_reply_types(operation)):
                if kind not in {None, bytes, str, ProblemDocument} and kind not in types:
                    _check(operation, kind)
                    types.append(kind)
        found, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
        self._by_type = list(zip(types, found, strict=True))
        self.components = {name: _explained(schema) for name, schema in sorted(components.items())}

    def schema(self, kind: Any) -> JSON:
        """Give the schema of a model."""
        return next(schema for known, schema in self._by_type if known == kind)

    def has_required(self, kind: Any) -> bool:
        """Tell whether a model has fields without a default, so that an empty body cannot be meant."""
        schema = self.schema(kind)
        name = schema.get("$ref", "").rpartition("/")[2]
        return bool(self.components.get(name, schema).get("required"))


def _check(operation: Operation | HotOperation, kind: Any) -> None:
    """Refuse a model that has no schema."""
    try:
        msgspec.json.schema(kind)
    except TypeError as error:
        raise ValueError(
            f"{operation.method} {operation.path}: the model {kind!r} cannot be described: {error}"
        ) from error


def _explained(schema: JSON) -> JSON:
    """Move what a docstring says under `Args:` to the properties, where a reader looks for it."""
    text = schema.get("description", "")
    summary, _, arguments = text.partition("Args:")
    explained = {**schema}
    if summary.strip():
        explained["description"] = inspect.cleandoc(summary).strip()
    properties = dict(schema.get("properties", {}))
    for name, meaning in _ARGUMENT.findall(arguments):
        camel = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        for known in {name, camel} & properties.keys():
            if "description" not in properties[known]:
                properties[known] = {"description": " ".join(meaning.split()), **properties[known]}
    if properties:
        explained["properties"] = properties
    return explained


def _describe(operation: Operation | HotOperation, schemas: _Schemas, *, token: bool) -> JSON:
    """Describe one operation."""
    description: JSON = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_parameter(parameter) for parameter in _parameters(operation)],
        "responses": _responses(operation, schemas, token=token),
    }
    if operation.body is not None:
        description["requestBody"] = _request_body(operation, schemas)
    if token:
        public = isinstance(operation, Operation) and operation.public
        description["security"] = [] if public else [{"token": []}, {}]
    return description


def _parameters(operation: Operation | HotOperation) -> list[Parameter]:
    """Give all parameters, also those of the path that are not declared."""
    declared = list(operation.parameters)
    known = {parameter.name for parameter in declared if parameter.place == "path"}
    return [
        *(
            Parameter(name=name, place="path", description="Part of the path.", required=True)
            for name in _PATH_PARAMETER.findall(operation.path)
            if name not in known
        ),
        *declared,
    ]


def _parameter(parameter: Parameter) -> JSON:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.required or parameter.place == "path",
        "schema": dict(parameter.schema),
    }


def _request_body(operation: Operation | HotOperation, schemas: _Schemas) -> JSON:
    medias = operation.body_media if isinstance(operation, Operation) else (JSON_MEDIA,)
    if operation.body is bytes:
        models = operation.body_models if isinstance(operation, Operation) else {}
        content: JSON = {
            media: {"schema": schemas.schema(models[media])} if media in models else {} for media in medias
        }
        required = isinstance(operation, Operation) and operation.body_required
    else:
        content = {media: {"schema": schemas.schema(operation.body)} for media in medias}
        required = operation.body_required if isinstance(operation, Operation) else schemas.has_required(operation.body)
    return {
        "description": f"At most {operation.max_body} bytes.",
        "required": required,
        "content": content,
    }


def _responses(operation: Operation | HotOperation, schemas: _Schemas, *, token: bool) -> JSON:
    responses = {status: _reply(reply, schemas) for status, reply in operation.replies.items()}
    public = isinstance(operation, Operation) and operation.public
    reads = operation.body is not None
    added = {
        400: reads or bool(operation.parameters),
        401: token and not public,
        408: reads,
        413: reads,
        415: reads,
        422: reads and operation.body is not bytes,
    }
    for status, applies in added.items():
        if applies:
            responses.setdefault(status, _problem(_ADDED[status]))
    result: JSON = {str(status): responses[status] for status in sorted(responses)}
    result["default"] = _problem("Any other status is a problem, too.")
    return result


def _reply_types(operation: Operation | HotOperation) -> list[Any]:
    """Give the models of all bodies that an operation answers with."""
    return [kind for reply in operation.replies.values() for kind in (reply.type, *reply.further_media.values())]


def _body_schema(kind: Any, schemas: _Schemas) -> JSON:
    """Give the schema of a reply's body; empty for what is no JSON and no text."""
    if kind is None or kind is ProblemDocument:
        return {"$ref": _TEMPLATE.format(name="Problem")}
    if kind is bytes:
        return {}
    return {"type": "string"} if kind is str else schemas.schema(kind)


def _reply(reply: Reply, schemas: _Schemas) -> JSON:
    described: JSON = {"description": reply.description, "headers": _REQUEST_ID}
    if reply.type is None and reply.media != PROBLEM_MEDIA:
        return described
    content: JSON = {
        media: {"schema": schema} if (schema := _body_schema(kind, schemas)) else {}
        for media, kind in ((reply.media, reply.type), *reply.further_media.items())
    }
    return described | {"content": content}


def _problem(description: str) -> JSON:
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {PROBLEM_MEDIA: {"schema": {"$ref": _TEMPLATE.format(name="Problem")}}},
    }


_REQUEST_ID: Final[JSON] = {requestids.HEADER: {"$ref": "#/components/headers/RequestId"}}
