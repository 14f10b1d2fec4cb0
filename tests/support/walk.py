"""Walks an OpenAPI document against the live server: every operation answers as it says, and every route that is served is in it."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tests.support.fuzz import operations_of

from pillion.runtime import docspage
from pillion.runtime.server import Server


def served_routes(server: Server) -> set[tuple[str, str]]:
    """Give (method, path) of all routes of the main listener, as its router knows them."""
    router = server._runners[0].app.router
    return {(route.method, route.resource.canonical) for route in router.routes()}


def documented_routes(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Give (method, path) of all documented routes."""
    return {(method, path) for method, path, _ in operations_of(document)}


def conforms(document: Mapping[str, Any], described: Mapping[str, Any], status: int, media: str, body: bytes) -> str:
    """Tell in which way an answer is not as described; nothing where it is."""
    responses = described["responses"]
    reply = responses.get(str(status)) or (responses["default"] if status >= 400 else None)
    if reply is None:
        return f"status {status} is not declared"
    content = reply.get("content", {})
    if not content:
        return f"a body of {len(body)} bytes where none is declared" if body else ""
    media = media.partition(";")[0]
    if media not in content:
        return f"content type {media!r} is not one of {list(content)}"
    schema = content[media].get("schema")
    if schema is None or not media.endswith("json"):
        return ""
    resource = Resource.from_contents(dict(document), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    errors = jsonschema.Draft202012Validator(absolute, registry=registry).iter_errors(json.loads(body))
    return "; ".join(f"{error.json_path}: {error.message}" for error in errors)


async def walk(
    server: Server,
    document: Mapping[str, Any],
    *,
    skip: frozenset[str] = frozenset(),
    headers: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Call every operation with the example that its description gives.

    Returns:
        The status of each, by operation id.

    Raises:
        AssertionError: answers that are not as described.
    """
    wrong, statuses = [], {}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        for method, path, described in operations_of(document):
            if described["operationId"] in skip:
                continue
            url = path
            for parameter in described["parameters"]:
                if parameter["in"] == "path":
                    value = str(docspage.example(document, parameter["schema"]))
                    url = url.replace("{" + parameter["name"] + "}", value)
            query = {
                parameter["name"]: str(docspage.example(document, parameter["schema"]))
                for parameter in described["parameters"]
                if parameter["in"] == "query" and parameter["required"]
            }
            options: dict[str, Any] = {"params": query}
            content = described.get("requestBody", {}).get("content", {})
            if content:
                media, body = next(iter(content.items()))
                options["headers"] = {"Content-Type": "application/octet-stream" if media == "*/*" else media}
                options["data"] = (
                    json.dumps(docspage.example(document, body["schema"])).encode() if "schema" in body else b"example"
                )
            async with session.request(method, url, **options) as response:
                body = await response.read()
                statuses[described["operationId"]] = response.status
                problem = conforms(document, described, response.status, response.headers.get("Content-Type", ""), body)
                if problem:
                    wrong.append(f"{method} {path}: {problem}")
    assert not wrong, "\n".join(wrong)
    return statuses
