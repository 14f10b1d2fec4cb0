"""A raw asyncio client of the Kubernetes API for tests: paths in, JSON out, errors with the server's own words.

Raw on purpose: a test of the operator should say which request it makes, and should not share the operator's client code. One pooled aiohttp session
per client; use it as an async context manager.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from tests.support.cluster.kubeconfig import Access

Json = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

_MAX_LINE: Final = 8 * 1024 * 1024
"""Bound on one watch event: above the 3 MiB that the API server accepts for an object."""


class ApiError(Exception):
    """The API server refused. *status* is the HTTP status, *reason* Kubernetes' own (`NotFound`, `Invalid`…), *message* names the field."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = {}
        self.status = status
        self.reason: str = parsed.get("reason", "")
        self.message: str = parsed.get("message", body)
        self.details: Json = parsed.get("details") or {}
        super().__init__(f"{method} {path}: {status} {self.reason}: {self.message}")


class Api:
    """Requests as the person behind *access*; *timeout* in seconds bounds each of them."""

    def __init__(self, access: Access, timeout: float = 30) -> None:
        self._access = access
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._access.ssl_context())
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(
            self._access.server, connector=connector, headers=self._access.headers(), timeout=timeout
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is closed; use it inside `async with Api(access) as api:`")
        return self._session

    async def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json", **parameters: str
    ) -> Json:
        """One request; *parameters* become the query.

        Raises:
            ApiError: The server answered with a status of 400 or above.
            aiohttp.ClientError: The server could not be reached.
            TimeoutError: It did not answer in time.
        """
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": content_type}
        async with self._open().request(method, path, data=data, headers=headers, params=parameters) as response:
            answer: Json = json.loads(await self._text(method, path, response))
            return answer

    async def text(self, path: str, **parameters: str) -> str:
        """Reads what is no JSON: a log, or what a pod answers through the server's proxy."""
        async with self._open().get(path, params=parameters) as response:
            return await self._text("GET", path, response)

    @staticmethod
    async def _text(method: str, path: str, response: aiohttp.ClientResponse) -> str:
        text = await response.text()
        if response.status >= 400:
            raise ApiError(method, path, response.status, text)
        return text

    async def get(self, path: str, **parameters: str) -> Json:
        """Reads an object or a list."""
        return await self.request("GET", path, **parameters)

    async def create(self, collection: str, manifest: Mapping[str, Any]) -> Json:
        """Creates an object; unknown and doubled fields are errors."""
        return await self.request("POST", collection, manifest, fieldValidation="Strict")

    async def replace(self, path: str, manifest: Mapping[str, Any]) -> Json:
        """Replaces an object or a subresource."""
        return await self.request("PUT", path, manifest)

    async def patch(self, path: str, patch: object, content_type: str = MERGE) -> Json:
        """Patches an object or a subresource: a merge patch unless *content_type* says otherwise."""
        return await self.request("PATCH", path, patch, content_type=content_type)

    async def apply(self, path: str, manifest: Mapping[str, Any], manager: str = "pillion-tests") -> Json:
        """Server-side apply, forced."""
        return await self.request(
            "PATCH", path, manifest, content_type=APPLY, fieldManager=manager, force="true", fieldValidation="Strict"
        )

    async def delete(self, path: str, grace_seconds: int = 0) -> Json:
        """Deletes an object or, by the path of a collection, all that it holds."""
        return await self.request(
            "DELETE", path, {"gracePeriodSeconds": grace_seconds, "propagationPolicy": "Background"}
        )

    async def watch(self, path: str, **parameters: str) -> AsyncGenerator[Json, None]:
        """Events of a watch (`{"type", "object"}`), until the server ends it. Close it (`aclosing`) when leaving early."""
        endless = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout)
        query = {"watch": "true", **parameters}
        async with self._open().get(path, params=query, timeout=endless) as response:
            if response.status >= 400:
                raise ApiError("WATCH", path, response.status, await response.text())
            pending = bytearray()
            async for chunk in response.content.iter_any():
                pending += chunk
                *lines, rest = pending.split(b"\n")
                pending = bytearray(rest)
                if len(pending) > _MAX_LINE:
                    raise ApiError("WATCH", path, response.status, f"one event is longer than {_MAX_LINE} bytes")
                for line in lines:
                    yield json.loads(line)

    async def until(self, collection: str, name: str, condition: Callable[[Json], bool], within: float = 20) -> Json:
        """The object *name* as soon as *condition* holds for it. Follows a watch, so it neither polls nor sleeps.

        Raises:
            TimeoutError: After *within* seconds; the message shows the object as it was last seen.
        """
        seen: Json | None = None
        try:
            async with asyncio.timeout(within):
                while True:  # the API server ends each watch after some minutes
                    async with aclosing(self._changes(collection, name)) as changes:
                        async for seen in changes:
                            if condition(seen):
                                return seen
        except TimeoutError:
            raise TimeoutError(
                f"{collection}/{name}: not as expected within {within:.0f} s; last seen: {json.dumps(seen)}"
            ) from None

    async def _changes(self, collection: str, name: str) -> AsyncGenerator[Json, None]:
        selector = f"metadata.name={name}"
        # Without a resourceVersion a watch begins with the objects that exist already.
        async with aclosing(self.watch(collection, fieldSelector=selector)) as events:
            async for event in events:
                if event["type"] in {"ADDED", "MODIFIED"}:
                    yield event["object"]
