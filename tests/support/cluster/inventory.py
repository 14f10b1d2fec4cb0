"""Every object of a cluster, by discovery: for tests that say what must be left when something is gone."""

import asyncio
from collections.abc import Collection
from typing import Final

from tests.support.cluster.api import Api, ApiError, Json

PASSING: Final = frozenset({"APIService", "ComponentStatus", "Event", "IPAddress"})
"""Kinds that the API server makes and removes by itself, in its own time."""

_WITHIN: Final = 20.0
"""Seconds in which a definition that has just changed is served again."""


async def inventory(api: Api, passing: Collection[str] = PASSING) -> set[str]:
    """Each object as `Kind namespace/name`; the API server's own Leases are left out."""
    groups = await api.get("/apis")
    versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"])]
    found = await asyncio.gather(*(_of_version(api, version, passing) for version in versions))
    return set().union(*found)


async def _of_version(api: Api, version: str, passing: Collection[str]) -> set[str]:
    found: set[str] = set()
    for resource in (await _listed(api, version)).get("resources", ()):
        if "list" not in resource["verbs"] or resource["kind"] in passing:
            continue
        for one in (await _listed(api, f"{version}/{resource['name']}")).get("items", ()):
            metadata = one["metadata"]
            if not metadata["name"].startswith("apiserver-"):
                found.add(f"{resource['kind']} {metadata.get('namespace', '')}/{metadata['name']}")
    return found


async def _listed(api: Api, path: str) -> Json:
    async with asyncio.timeout(_WITHIN):
        while True:
            try:
                return await api.get(path)
            except ApiError as error:
                if error.status == 404:  # a definition that is going away is announced for a while longer
                    return {}
                if error.status != 429:  # "storage is (re)initializing", after a definition has changed
                    raise
            await asyncio.sleep(0.1)
