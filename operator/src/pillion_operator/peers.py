"""How the leader knows the sidecars of the other replicas: each replica tells it, over the same listener that sidecars use.

A report names every sidecar of the replica with what it said last; it is complete, so a lost one does no harm and a new leader knows everything with the first. It
is sent when something changed, at most a few times a second, and as a heartbeat; a replica that is silent for several heartbeats is dropped together with its sidecars.
The leader's address stands in the Lease; replicas prove that they are replicas with a token of the operator's own service account.
"""

import asyncio
import io
import ssl
from collections.abc import Callable, Iterable
from typing import Annotated, Final

import aiohttp
import msgspec
import structlog
from msgspec import Meta

from pillion_operator.fleet import Facts, Fleet
from pillion_operator.settings import Settings

REPORT_PATH: Final = "/v1/reports"
MAX_REPORT_BYTES: Final = 64 * 1024 * 1024
"""Largest report: 100,000 sidecars with some labels each."""

PACE: Final = 0.2
"""Seconds between two reports at least: one report tells of many acknowledgements."""
HEARTBEAT: Final = 5.0
"""Seconds between two reports at most."""
SILENCE: Final = 15.0
"""Seconds after which a silent replica's sidecars no longer count: three heartbeats."""
TIMEOUT: Final = 5.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one replica knows about its sidecars."""

    replica: Annotated[str, Meta(min_length=1, max_length=200)]
    sidecars: tuple[Facts, ...]


class Peers:
    """The reporting side, and the leader's memory of who reported.

    Args:
        settings: who we are, and how to reach the leader.
        fleet: the sidecars.
        leader_address: gives the URL of the leader; empty where there is none, or where it is us.
        take: takes what a replica says; nothing for a replica that has been silent for too long.
        trusted: gives the authorities of the operator's own certificates, as PEM; used where no file names others.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        *,
        leader_address: Callable[[], str],
        take: Callable[[str, Iterable[Facts]], None],
        trusted: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._leader_address = leader_address
        self._take = take
        self._trusted = trusted
        self._changed = asyncio.Event()
        self._heard: dict[str, float] = {}
        self._log = structlog.get_logger("peers")

    def facts_changed(self) -> None:
        """Say that there is something to report."""
        self._changed.set()

    def heard(self, report: Report) -> None:
        """Take a report."""
        self._heard[report.replica] = asyncio.get_running_loop().time()
        self._take(report.replica, report.sidecars)

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            address = self._leader_address()
            if address:
                await self._send(address)
            self._drop_silent()
            await asyncio.sleep(PACE)

    def _drop_silent(self) -> None:
        before = asyncio.get_running_loop().time() - SILENCE
        for replica in [replica for replica, at in self._heard.items() if at < before]:
            del self._heard[replica]
            self._log.warning("a replica is silent; its sidecars no longer count", replica=replica)
            self._take(replica, ())

    async def _send(self, address: str) -> None:
        own = tuple(sidecar.facts for sidecar in self._fleet if not sidecar.origin and sidecar.left_at is None)
        body = msgspec.json.encode(Report(replica=self._settings.identity, sidecars=own))
        settings = self._settings
        try:
            token = settings.peer_token_file.read_text().strip() if settings.peer_token_file else ""
            if settings.peer_ca_file:
                tls = ssl.create_default_context(cafile=str(settings.peer_ca_file))
            else:
                tls = ssl.create_default_context(cadata=self._trusted().decode() or None)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as session,
                session.post(
                    address + REPORT_PATH,
                    data=io.BytesIO(body),
                    headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                    server_hostname=settings.peer_server_name or None,
                ) as response,
            ):
                if response.status != 204:
                    text = (await response.content.read(500)).decode("utf-8", "replace")
                    self._log.warning("the leader refused a report", status=response.status, answer=text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._changed.set()
            self._log.warning(
                "the leader cannot be told about this replica's sidecars", leader=address, error=str(error)
            )
