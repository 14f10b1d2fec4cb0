"""A namespace per test, and its end without a namespace controller.

Deleting a namespace only asks a controller to empty it. Where none runs, this module empties what tests put there and then lifts the
finalizer itself, so that an operator which watches all namespaces does not meet the remains of earlier tests.
"""

import re
import secrets
from contextlib import suppress
from typing import Final

from tests.support.cluster.api import Api, ApiError
from tests.support.cluster.identities import ensure_service_account

PRODUCT_GROUP: Final = "pillion.dev"


def name_for(test: str) -> str:
    """A fresh namespace name that tells which test owns it: at most 63 characters of `[a-z0-9-]` (RFC 1123 label)."""
    slug = re.sub(r"[^a-z0-9]+", "-", test.lower().removeprefix("test_")).strip("-")[:50].strip("-")
    return "-".join(part for part in ("t", slug, secrets.token_hex(3)) if part)


async def create(api: Api, name: str, labels: dict[str, str] | None = None) -> None:
    """Makes the namespace and its `default` service account."""
    await api.create(
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}},
    )
    await ensure_service_account(api, name, "default")


async def remove(api: Api, name: str, *, controlled: bool) -> None:
    """Removes the namespace and what it holds.

    Args:
        api: A client that may do so.
        name: The namespace; gone already is fine.
        controlled: Whether the cluster has a namespace controller, which then does the rest in its own time.
    """
    try:
        await api.delete(f"/api/v1/namespaces/{name}")
        if controlled:
            return
        for collection in await _collections(api, name):
            await api.delete(collection)
        namespace = await api.get(f"/api/v1/namespaces/{name}")
        namespace["spec"]["finalizers"] = []
        await api.replace(f"/api/v1/namespaces/{name}/finalize", namespace)
    except ApiError as error:
        if error.status != 404:
            raise


async def _collections(api: Api, name: str) -> list[str]:
    # No discovery of everything: a hundred requests per test for kinds that no test creates.
    core = ("pods", "serviceaccounts", "configmaps", "secrets", "events")
    paths = [f"/api/v1/namespaces/{name}/{kind}" for kind in core]
    paths.append(f"/apis/coordination.k8s.io/v1/namespaces/{name}/leases")
    groups = await api.get("/apis")
    for group in groups["groups"]:
        if group["name"] != PRODUCT_GROUP:
            continue
        for version in group["versions"]:
            with suppress(ApiError):  # a CRD that another test removes at this moment
                resources = await api.get(f"/apis/{version['groupVersion']}")
                paths += [
                    f"/apis/{version['groupVersion']}/namespaces/{name}/{resource['name']}"
                    for resource in resources["resources"]
                    if resource["namespaced"] and "deletecollection" in resource["verbs"]
                ]
    return paths
