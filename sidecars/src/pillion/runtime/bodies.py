"""Reads request bodies within bounds: size, time, content type, encoding; and decodes JSON so that every way it can fail is a problem.

`decode` is for blocks too: a hot operation decodes its own body, and msgspec fails in more ways than `DecodeError` (text that is no UTF-8 raises
`UnicodeDecodeError`, deep nesting raises `RecursionError`).
"""

import asyncio
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from pillion.runtime.problems import FieldError, Problem, invalid_body, malformed

T = TypeVar("T")

ENCODINGS: Final = frozenset({"gzip", "deflate", "br", "zstd"})
"""Content codings that aiohttp undoes while it reads; the size bound holds for what comes out."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body.

    Raises:
        Problem: 400 for what is no JSON, 422 for what does not fit the model, with a pointer to the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise invalid_body(error) from None
    except UnicodeDecodeError:
        raise malformed("The body is no JSON: a text in it is not UTF-8.", FieldError("#", "is not UTF-8")) from None
    except RecursionError:
        raise malformed("The body is nested too deeply; flatten it.", FieldError("#", "is nested too deeply")) from None


def media_type(content_type: str) -> str:
    """Give `type/subtype` of a `Content-Type` field, lower case, without parameters."""
    return content_type.partition(";")[0].strip(" \t").lower()


@lru_cache(maxsize=256)
def accepts(accepted: tuple[str, ...], content_type: str) -> bool:
    """Tell whether a `Content-Type` field is one of *accepted*; `*/*` takes any and none, `text/*` any text."""
    given = media_type(content_type)
    family = given.partition("/")[0] + "/*"
    return any(wanted in (given, family, "*/*") for wanted in accepted)


def too_large(limit: int) -> Problem:
    """Give the problem of a body over its bound."""
    return Problem(
        413, "body-too-large", "Body too large", f"The body is longer than {limit} bytes; send less at a time."
    )


def unsupported_media(accepted: tuple[str, ...], content_type: str) -> Problem:
    """Give the problem of a body in a format that the operation does not read; `Accept` as RFC 9110 section 15.5.16 asks."""
    wanted = ", ".join(accepted)
    return Problem(
        415,
        "unsupported-media-type",
        "Unsupported media type",
        f'Content-Type "{media_type(content_type)[:100]}" is not read here; send {wanted}.',
        errors=[FieldError("header:content-type", f"must be {wanted}")],
        headers={"Accept": wanted},
    )


def check_declared(request: web.BaseRequest, accepted: tuple[str, ...], limit: int) -> None:
    """Check what the head says about the body, before a byte of it is read.

    Raises:
        Problem: 413 or 415.
    """
    if not request.body_exists:
        return
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    if not accepts(accepted, content_type):
        raise unsupported_media(accepted, content_type)
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    if encoding and encoding not in ENCODINGS:
        raise Problem(
            415,
            "unsupported-content-encoding",
            "Unsupported content encoding",
            f'Content-Encoding "{encoding[:100]}" is not read here; send gzip or none.',
            errors=[FieldError("header:content-encoding", "must be gzip, deflate or absent")],
            headers={"Accept-Encoding": "gzip, deflate"},
        )


async def read(request: web.BaseRequest, limit: int, timeout: float) -> bytes:  # noqa: ASYNC109 - the bound is a setting
    """Read the body, decompressed.

    Raises:
        Problem: 413 over *limit* bytes, 408 after *timeout* seconds, 400 where it ends early or its encoding is broken.
    """
    if not request.body_exists:
        return b""
    content = request.content
    parts: list[bytes] = []
    size = 0
    try:
        if content.is_eof():  # all of it came with the head, as most do: no timer needed
            body = content.read_nowait()
            if len(body) > limit:
                raise too_large(limit)
            return body
        async with asyncio.timeout(timeout):
            while part := await content.readany():
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise Problem(
            408, "body-timeout", "Body timeout", f"The body did not arrive within {timeout:g} seconds; send it again."
        ) from None
    except (RequestPayloadError, web.PayloadAccessError) as error:
        raise malformed(f"The body cannot be read: {str(error)[:200]}.", FieldError("#", "is broken")) from None
    return b"".join(parts)
