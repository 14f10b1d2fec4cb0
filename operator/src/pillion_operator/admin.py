"""The admin listener: probes for the kubelet, metrics for Prometheus. Nothing secret, no authentication, no effect on anything.

`/livez` fails only when a restart would help; `/readyz` says whether a sidecar that connects now gets an answer. An API server that is away makes neither fail: open
streams go on, and a restart would lose the versions in force.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition

Check = Callable[[], str]
"""Gives what is wrong, or the empty string."""


class Admin:
    """The listener.

    Args:
        address: `host:port`.
        registry: what /metrics shows.
        live: says why the process should be restarted.
        ready: says why it cannot serve sidecars yet.
        refresh: called before metrics are read.
    """

    def __init__(
        self, address: str, registry: CollectorRegistry, *, live: Check, ready: Check, refresh: Callable[[], None]
    ) -> None:
        self._address = address
        self._registry = registry
        self._checks = {"/livez": live, "/readyz": ready}
        self._refresh = refresh
        application = web.Application()
        application.router.add_get("/livez", self._probe)
        application.router.add_get("/readyz", self._probe)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        host, _, port = self._address.rpartition(":")
        await web.TCPSite(self._runner, host.strip("[]") or None, int(port)).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _probe(self, request: web.Request) -> web.Response:
        wrong = self._checks[request.path]()
        return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        self._refresh()
        body: bytes = exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call] # typed in part
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE_LATEST})
