"""Tells everybody whom to trust: the API server by the `caBundle` of the webhook configurations, sidecars by a ConfigMap in their namespace.

The leader alone does so, comparing before it writes: nothing changed, nothing written. It owns just these fields, under a field manager of its own, so that charts and
GitOps tools that apply the webhook configurations never fight with it over them. Configurations that cert-manager is asked to fill in are left to it. A ConfigMap stays when its namespace no longer needs it: it holds nothing secret, and
pods that still run mount it.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from pillion_operator.api import Api, ApiError, core_path
from pillion_operator.injection.sidecar import CA_CONFIG_MAP

JSON = Any

MANAGER: Final = "pillion-ca"
"""Field manager of `caBundle` and of the ConfigMaps."""
INTERVAL: Final = 60.0
"""Seconds after which everything is compared again, though nobody said that anything changed."""
FIRST_INTERVAL: Final = 0.5
"""The same until the API server knows: what waits for the first replica to be ready waits for this."""
GATHER: Final = 0.2
"""Seconds that a change waits for more of them."""
INJECTED_BY_OTHERS: Final = ("cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret")
"""Annotations by which somebody else keeps `caBundle`: two writers that see a rotation at different moments would undo each other's."""

_CONFIGURATIONS: Final = {
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}


class Trust:
    """Spreads the bundle.

    Args:
        api: the way to the API server.
        bundle: gives the PEM bundle; empty while there is none, or where others tell it.
        namespaces: gives the namespaces that have sidecars or are to have them.
        name: name of both webhook configurations.
        leading: tells whether this replica holds the Lease.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        api: Api,
        *,
        bundle: Callable[[], bytes],
        namespaces: Callable[[], Iterable[str]],
        name: str,
        leading: Callable[[], bool],
        registry: CollectorRegistry,
    ) -> None:
        self._api = api
        self._bundle = bundle
        self._namespaces = namespaces
        self._name = name
        self._leading = leading
        self._changed = asyncio.Event()
        self.told = False
        """Whether the API server has been seen to know whom to trust: only from then on can it call the webhooks of this replica."""
        self._log = structlog.get_logger("trust")
        self._writes = Counter(
            "pillion_operator_trust_writes_total",
            "Webhook configurations and ConfigMaps that were given the authority's certificate.",
            ["resource"],
            registry=registry,
        )

    def changed(self) -> None:
        """Say that the bundle, the leader or the namespaces may be others."""
        self._changed.set()

    async def run(self) -> None:
        """Spread, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL if self.told else FIRST_INTERVAL):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(GATHER)
            self._changed.clear()
            try:
                await self.spread()
            except ApiError as error:
                fix = "; apply the operator's ClusterRole" if error.status == 403 else ""
                self.told = self.told or error.status == 403  # who may not look will never know
                self._log.warning(f"the authority's certificate could not be spread{fix}", error=str(error))

    async def spread(self) -> None:
        """Tell whoever does not know it yet; who does not lead only looks.

        Raises:
            ApiError: the API server refused or could not be reached; the rest is done next time.
        """
        bundle, leading = self._bundle(), self._leading()
        if bundle and (leading or not self.told):
            encoded = base64.b64encode(bundle).decode()
            known = [
                await self._tell_webhooks(plural, kind, encoded, leading) for plural, kind in _CONFIGURATIONS.items()
            ]
            self.told = self.told or all(known)
        if bundle and leading:
            await self._tell_namespaces(bundle.decode())

    async def _tell_webhooks(self, plural: str, kind: str, encoded: str, leading: bool) -> bool:  # noqa: FBT001 - of four facts, one is a truth value
        """Compare one configuration, and write it where this replica may; tells whether the API server knows now."""
        path = f"/apis/admissionregistration.k8s.io/v1/{plural}/{self._name}"
        try:
            found = await self._api.get(path, resource=plural)
        except ApiError as error:
            if error.status == 404:
                return True  # admission is not installed
            raise
        if any(name in (found["metadata"].get("annotations") or {}) for name in INJECTED_BY_OTHERS):
            return True
        webhooks = found.get("webhooks") or ()
        if all((webhook.get("clientConfig") or {}).get("caBundle") == encoded for webhook in webhooks):
            return True
        if not leading:
            return False
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": self._name},
            "webhooks": [{"name": webhook["name"], "clientConfig": {"caBundle": encoded}} for webhook in webhooks],
        }
        await self._api.apply(path, body, manager=MANAGER, resource=plural)
        self._writes.labels(plural).inc()
        self._log.info("the API server was told whom to trust", configuration=kind)
        return True

    async def _tell_namespaces(self, bundle: str) -> None:
        wanted = set(self._namespaces())
        if not wanted:
            return
        # A list by name needs no right to read any other ConfigMap.
        query = {"fieldSelector": f"metadata.name={CA_CONFIG_MAP}"}
        listed = await self._api.get("/api/v1/configmaps", resource="configmaps", query=query)
        right = {
            one["metadata"]["namespace"]
            for one in listed.get("items") or ()
            if (one.get("data") or {}).get("ca.crt") == bundle
        }
        for namespace in sorted(wanted - right):
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": CA_CONFIG_MAP,
                    "namespace": namespace,
                    "labels": {"app.kubernetes.io/managed-by": "pillion-operator"},
                },
                "data": {"ca.crt": bundle},
            }
            path = core_path("configmaps", namespace, CA_CONFIG_MAP)
            try:
                await self._api.apply(path, body, manager=MANAGER, resource="configmaps")
            except ApiError as error:
                # A namespace that is being deleted takes nothing new; it must not keep the others from being told.
                self._log.warning("a namespace was not told whom to trust", namespace=namespace, error=str(error))
                if error.status == 0:
                    raise
                continue
            self._writes.labels("configmaps").inc()
