"""Renders an OpenAPI document as one HTML page: every route with its parameters, bodies, answers and a line of curl to copy.

One page without scripts and without anything from elsewhere, so that it works in a pod without internet and under a policy that allows nothing.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any, Final

JSON = Mapping[str, Any]

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { font: 600 1rem ui-monospace, monospace; margin: 2rem 0 .25rem; overflow-wrap: anywhere; }
h3 b { display: inline-block; min-width: 4.5rem; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; border-radius: .4rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); }
summary { cursor: pointer; }
"""

_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Header fields that the page is served with."""

_EXAMPLE_DEPTH: Final = 4
"""Levels of a body that an example shows."""


def page(document: JSON, base_url: str) -> bytes:
    """Render the page.

    Args:
        document: an OpenAPI document of `openapi.document`.
        base_url: where the listener is reached, as in `http://localhost:3700`.
    """
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
        f"<pre>export PILLION_URL={escape(shlex.quote(base_url))}</pre>",
        "<p>The same as a machine reads it: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(document, path, method.upper(), operation))
    for tag in sorted(by_tag):
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += by_tag[tag]
    return "\n".join(parts).encode()


def _operation(document: JSON, path: str, method: str, operation: JSON) -> str:
    parts = [
        f"<h3 id={escape(operation['operationId'])}><b>{method}</b> {escape(path)}</h3><p>{escape(operation['summary'])}</p>",
        f"<pre>{escape(curl(document, path, method, operation))}</pre>",
    ]
    if operation["parameters"]:
        rows = "".join(
            f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}{', required' if parameter['required'] else ''}"
            f"<td>{escape(parameter['description'])} <code>{escape(_short(parameter['schema']))}</code>"
            for parameter in operation["parameters"]
        )
        parts.append(f"<table><tr><th>Parameter<th>Where<th>Meaning{rows}</table>")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_schema(document, f"Body: {media}", content.get("schema")))
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(', '.join(reply.get('content', {})))}<td>{escape(reply['description'])}"
        for status, reply in operation["responses"].items()
    )
    parts.append(f"<table><tr><th>Answer<th>Content type<th>When{rows}</table>")
    for status, reply in operation["responses"].items():
        if status.startswith("2"):
            for media, content in reply.get("content", {}).items():
                parts.append(_schema(document, f"Answer {status}: {media}", content.get("schema")))
    return "\n".join(parts)


def _schema(document: JSON, title: str, schema: JSON | None) -> str:
    """Show a schema, folded."""
    if not schema:
        return ""
    text = json.dumps(_resolved(document, schema), indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def curl(document: JSON, path: str, method: str, operation: JSON) -> str:
    """Give a command that calls an operation, with an example of everything that it requires."""
    url = path
    query = []
    for parameter in operation["parameters"]:
        value = str(example(document, parameter["schema"]))
        if parameter["in"] == "path":
            url = url.replace("{" + parameter["name"] + "}", value)
        elif parameter["in"] == "query" and parameter["required"]:
            query.append(f"{parameter['name']}={value}")
    if query:
        url += "?" + "&".join(query)
    words = ["curl", "-sS"]
    if method != "GET":
        words += ["-X", method]
    words.append(f'"$PILLION_URL{url}"')
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        media, body = next(iter(content.items()))
        if media != "*/*":
            words += ["-H", shlex.quote(f"Content-Type: {media}")]
        if "schema" in body:
            words += ["-d", shlex.quote(json.dumps(example(document, body["schema"]), ensure_ascii=False))]
        else:
            words += ["--data-binary", "@file"]
    return " ".join(words)


def example(document: JSON, schema: JSON, depth: int = _EXAMPLE_DEPTH) -> Any:
    """Give a small value that fits a schema as far as its shape goes: the default, the first allowed value, or what is required and no more."""
    schema = _resolved(document, schema)
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(document, schema["anyOf"][0], depth)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            required = schema.get("required", [])
            return {name: example(document, fields[name], depth - 1) for name in required} if depth else {}
        case "array":
            return [example(document, schema.get("items", {}), depth - 1)] if schema.get("minItems") and depth else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "example"


def _resolved(document: JSON, schema: JSON) -> JSON:
    """Follow a reference."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _short(schema: JSON) -> str:
    """Write a parameter's schema on one line."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in schema.items() if name != "description")
