"""The Secrets that resources refer to, read by name and nothing else: no list, no watch, no Secret that nobody named.

A Secret is read when a sidecar first needs it and again every few seconds while it does; a new version compiles its namespace again. What cannot be read is told
apart: *missing* and *forbidden* are facts that go into the configuration as absent values and into the status as reasons; *unreachable* is no fact, so nothing is
published on it and the last value stays.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import msgspec
import structlog

from pillion_operator.api import Api, ApiError, core_path

CONCURRENCY: Final = 8
"""Secrets that are read at the same time: a poll of a thousand takes a second and does not press the API server."""

Problem = Literal["", "SecretMissing", "SecretForbidden"]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One Secret as it was read last. Its repr holds no value."""

    version: str = ""
    """uid and resourceVersion: changes with every write and with every re-creation; empty where there is no Secret."""
    values: Mapping[str, bytes] = {}
    problem: Problem = ""

    def __repr__(self) -> str:
        return f"Held(version={self.version!r}, keys={sorted(self.values)}, problem={self.problem!r})"


class _Metadata(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str


class _Secret(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None


class SecretStore:
    """The Secrets in use.

    Args:
        api: the way to the API server.
        interval: seconds between two reads of a Secret.
        changed: called with the namespace when one of its Secrets has changed.
    """

    def __init__(self, api: Api, interval: float, changed: Callable[[str], None]) -> None:
        self._api = api
        self._interval = interval
        self._changed = changed
        self._held: dict[str, dict[str, Held]] = {}
        self._reading = asyncio.Semaphore(CONCURRENCY)
        self._log = structlog.get_logger("secrets")

    def keep(self, namespace: str, names: frozenset[str]) -> frozenset[str]:
        """Say which Secrets of *namespace* are in use; others are forgotten. Gives those that must be loaded first."""
        held = self._held.get(namespace, {})
        kept = {name: held[name] for name in names if name in held}
        if names:
            self._held[namespace] = kept
        else:
            self._held.pop(namespace, None)
        return names - kept.keys()

    def namespaces(self) -> list[str]:
        """Give the namespaces with Secrets in use."""
        return list(self._held)

    async def load(self, namespace: str, names: Iterable[str]) -> None:
        """Read Secrets for the first time.

        Raises:
            ApiError: the API server could not be asked.
        """
        for name in names:
            held = await self._read(namespace, name)
            self._held.setdefault(namespace, {})[name] = held

    def get(self, namespace: str, name: str) -> Held:
        """Give a Secret as it was read last; an empty one where it never was."""
        return self._held.get(namespace, {}).get(name, Held())

    def versions(self, namespace: str) -> dict[str, str]:
        """Give the version of every Secret in use."""
        return {name: held.version for name, held in self._held.get(namespace, {}).items()}

    def values(self, namespace: str, names: Iterable[str]) -> dict[str, dict[str, bytes]]:
        """Give the values of the named Secrets that exist."""
        held = self._held.get(namespace, {})
        return {name: dict(held[name].values) for name in names if name in held and held[name].version}

    async def run(self) -> None:
        """Read every Secret in use again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.refresh()

    async def refresh(self) -> None:
        """Read every Secret in use once more."""
        wanted = [(namespace, name) for namespace, named in self._held.items() for name in named]
        for start in range(0, len(wanted), CONCURRENCY):
            await asyncio.gather(*(self._refresh(*one) for one in wanted[start : start + CONCURRENCY]))

    async def _refresh(self, namespace: str, name: str) -> None:
        try:
            held = await self._read(namespace, name)
        except ApiError as error:
            self._log.debug("secret not read", namespace=namespace, name=name, error=str(error))
            return
        named = self._held.get(namespace, {})
        if name in named and (named[name].version, named[name].problem) != (held.version, held.problem):
            named[name] = held
            self._changed(namespace)

    async def _read(self, namespace: str, name: str) -> Held:
        async with self._reading:
            try:
                data = await self._api.request("GET", core_path("secrets", namespace, name), resource="secrets")
            except ApiError as error:
                if error.status == 404:
                    return Held(problem="SecretMissing")
                if error.status == 403:
                    return Held(problem="SecretForbidden")
                raise
        secret = msgspec.json.decode(data, type=_Secret)
        values = {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}
        return Held(version=f"{secret.metadata.uid}/{secret.metadata.resource_version}", values=values)
