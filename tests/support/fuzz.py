"""Sends malformed requests to every operation of an OpenAPI document and insists on answers that name the fault.

First a table of broken bodies, the same for every operation that reads JSON; then what schemathesis makes of the document. It is for the whole sidecar as
well as for a block alone: `assert_survives(url, document)`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

TIMEOUT = 10.0
"""Seconds for one answer."""

BROKEN: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": b'{"a":',
    "two values": b"{} {}",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"1",
    "no UTF-8": b'{"\xff\xfe": 1}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a zero character": b'{"a": "\\u0000"}',
    "raw control characters": b'{"a": "\x00\x01"}',
    "deep": b"[" * 5000,
    "deep objects": b'{"a":' * 5000,
    "a huge integer": b'{"a": ' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"a": 1e999}',
    "no number": b'{"a": NaN}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "one field twice": b'{"a": 1, "a": 2}',
    "unknown fields": b'{"zzz": 1, "yyy": {"x": []}}',
    "an empty name": b'{"": ""}',
    "much": b'{"a": "' + b"x" * 300_000 + b'"}',
}


def assert_survives(
    url: str,
    document: Mapping[str, Any],
    *,
    seconds: float = 15.0,
    examples: int = 20,
    headers: Mapping[str, str] | None = None,
    skip: Iterable[str] = (),
) -> dict[str, int]:
    """Fail when a malformed request gets a 5xx that is not declared, no answer, or an error that is no problem.

    Args:
        url: base URL of the server.
        document: its OpenAPI document.
        seconds: how long to go on with generated requests; every operation gets its share.
        examples: generated requests per operation and kind, at most.
        headers: sent with every request, as the token.
        skip: operation ids to leave out: streams without end, and what breaks on purpose.

    Returns:
        Requests sent, by operation id.
    """
    loaded = schemathesis.openapi.from_dict(dict(document))
    operations = [result.ok() for result in loaded.get_all_operations()]
    operations = [one for one in operations if one.definition.raw["operationId"] not in set(skip)]
    sent = dict.fromkeys((one.definition.raw["operationId"] for one in operations), 0)
    with requests.Session() as session:
        session.headers.update(headers or {})
        for operation in operations:
            sent[operation.definition.raw["operationId"]] += _send_broken(session, url, operation)
        end = time.monotonic() + seconds
        for index, operation in enumerate(operations):
            share = (end - time.monotonic()) / (len(operations) - index)
            sent[operation.definition.raw["operationId"]] += _send_generated(session, url, operation, examples, share)
    return sent


def _send_broken(session: requests.Session, url: str, operation: Any) -> int:
    """Send the table of broken bodies, and each under a wrong content type."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    if not content:
        return 0
    path = operation.path.replace("{", "").replace("}", "")
    sent = 0
    for name, body in BROKEN.items():
        for media in (*content, "text/html"):
            media_sent = "application/octet-stream" if media == "*/*" else media
            response = session.request(
                operation.method.upper(), url + path, data=body, headers={"Content-Type": media_sent}, timeout=TIMEOUT
            )
            check(operation, response, f"{name} as {media_sent}")
            sent += 1
    return sent


def _send_generated(session: requests.Session, url: str, operation: Any, examples: int, share: float) -> int:
    """Send what schemathesis makes of the operation, wrong ones first."""
    end = time.monotonic() + share
    sent = 0
    raw = operation.definition.raw
    # A path parameter alone has few wrong values, and finding one that fits no pattern takes the generator half a minute.
    only_path = "requestBody" not in raw and all(one.get("in") == "path" for one in raw.get("parameters", ()))
    for mode in (GenerationMode.POSITIVE,) if only_path else (GenerationMode.NEGATIVE, GenerationMode.POSITIVE):

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            nonlocal sent
            if sent and time.monotonic() > end:
                return
            response = case.call(base_url=url, session=session, timeout=TIMEOUT)
            sent += 1
            check(operation, response, case.as_curl_command())

        try:
            send()
        except Unsatisfiable:
            continue  # an operation without parameters and body cannot be asked wrongly
    return sent


def check(operation: Any, response: Any, what: str) -> None:
    """Check one answer: declared or a client's error, and a problem where it is an error."""
    status = response.status_code
    where = f"{operation.method.upper()} {operation.path} ({what}): {status}"
    declared = operation.definition.raw["responses"]
    if status >= 500:
        assert str(status) in declared, f"{where} is an undeclared server error: {body_of(response)!r}"
    if status < 400:
        assert str(status) in declared, f"{where} is not declared"
        return
    media = header(response, "content-type").partition(";")[0]
    if str(status) in declared and media in declared[str(status)].get("content", {}):
        return
    assert media == "application/problem+json", f"{where} has the content type {media!r}"
    problem = response.json()
    assert problem["status"] == status, where
    assert problem["detail"], where


def header(response: Any, name: str) -> str:
    """Give a header field of an answer of requests or of schemathesis."""
    value = response.headers.get(name, "")
    return value[0] if isinstance(value, list) else value


def body_of(response: Any) -> bytes:
    """Give the beginning of a body."""
    return bytes(response.content or b"")[:300]


def operations_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Give (method, path, description) of every operation."""
    for path, methods in document["paths"].items():
        for method, description in methods.items():
            yield method.upper(), path, description
