"""What is known of namespaces: their Pillion labels and annotations, watched, compared with a list now and then, and asked for where they are missing.

Admission needs them with every pod, and must not wait for the API server while the API server waits for it. Only our own labels and annotations are kept: a cluster may
have thousands of namespaces with kilobytes of annotations each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
import structlog

from pillion_operator.api import Api, ApiError
from pillion_operator.injection.precedence import INJECT_LABEL, PREFIX

JSON = Any

ASK_TIMEOUT: Final = 1.5
"""Seconds that a review waits for a namespace that is not known: half of what the API server gives the review."""
LIST_TIMEOUT: Final = 30.0
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace: those of its labels and annotations that are ours."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    ending: bool = False

    @property
    def asks(self) -> bool:
        """Whether its pods get sidecars unless they decline."""
        return not self.ending and self.labels.get(INJECT_LABEL) == "true"


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata


class _List(msgspec.Struct):
    items: list[_Object] | None = None


class Namespaces:
    """The cache.

    Args:
        api: the way to the API server.
        interval: seconds between two comparisons with a list.
        changed: called when a namespace begins or ceases to ask for sidecars.
        sleep: waits; tests have their own.
    """

    def __init__(
        self,
        api: Api,
        interval: float,
        changed: Callable[[], None] = lambda: None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._interval = interval
        self._changed = changed
        self._sleep = sleep
        self._known: dict[str, Namespace] = {}
        self._log = structlog.get_logger("namespaces")

    def told(self, kind: str | None, document: JSON) -> None:
        """Take an event of the watch: its type, and the namespace."""
        metadata = msgspec.convert(document["metadata"], _Metadata)
        self._set(metadata.name, None if kind == "DELETED" else _ours(metadata))

    def get(self, name: str) -> Namespace | None:
        """Give a namespace that is known."""
        return self._known.get(name)

    def asking(self) -> list[str]:
        """Give the names of the namespaces that ask for sidecars, sorted."""
        return sorted(name for name, namespace in self._known.items() if namespace.asks)

    async def find(self, name: str) -> Namespace:
        """Give a namespace, from the cache or from the API server; an empty one where there is none of that name.

        Raises:
            ApiError: it is not known, and the API server cannot be asked.
        """
        return self._known.get(name) or await self.ask(name)

    async def ask(self, name: str) -> Namespace:
        """Give a namespace as the API server has it now.

        Raises:
            ApiError: it cannot be asked.
        """
        path = f"/api/v1/namespaces/{quote(name, safe='')}"
        try:
            data = await self._api.request("GET", path, resource="namespaces", accept=_METADATA, timeout=ASK_TIMEOUT)
        except ApiError as error:
            if error.status != 404:
                raise
            self._set(name, None)
            return Namespace()
        found = _ours(msgspec.json.decode(data, type=_Object).metadata)
        self._set(name, found)
        return found

    async def run(self) -> None:
        """Compare with a list now and again and again, until cancelled: a watch can die silently."""
        while True:
            try:
                await self.refresh()
            except ApiError as error:
                self._log.warning("namespaces cannot be listed", error=str(error))
            await self._sleep(self._interval)

    async def refresh(self) -> None:
        """Take the list of the API server.

        Raises:
            ApiError: it cannot be asked.
        """
        data = await self._api.request(
            "GET",
            "/api/v1/namespaces",
            resource="namespaces",
            query={"resourceVersion": "0"},
            accept=_METADATA_LIST,
            timeout=LIST_TIMEOUT,
        )
        listed = msgspec.json.decode(data, type=_List).items or ()
        self._replace({one.metadata.name: _ours(one.metadata) for one in listed})

    def _replace(self, listed: Mapping[str, Namespace]) -> None:
        for name in self._known.keys() | listed.keys():
            self._set(name, listed.get(name))

    def _set(self, name: str, namespace: Namespace | None) -> None:
        before = self._known.get(name)
        if namespace is None:
            self._known.pop(name, None)
        else:
            self._known[name] = namespace
        if (before is not None and before.asks) != (namespace is not None and namespace.asks):
            self._changed()


def _ours(metadata: _Metadata) -> Namespace:
    return Namespace(
        labels=_prefixed(metadata.labels.items()),
        annotations=_prefixed(metadata.annotations.items()),
        ending=metadata.deletion_timestamp is not None,
    )


def _prefixed(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in items if name.startswith(PREFIX)}
