"""The sidecar's end of the configuration stream: it receives snapshots from the operator, has them applied, and acknowledges.

Three loops under one owner: *receive* keeps one stream open and notices when it is dead; *apply* hands over the newest snapshot only, one at a time; the third
acknowledges (`acknowledging`). Whatever happens to the operator, the configuration in force goes on serving; while there is no stream the condition
`configuration` says since when it may be stale, and `LastKnownGood` lets a restart begin with it.

It does not judge a snapshot beyond its checksum: that is the host's work, behind the callback *apply*.
"""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from pillion.kinds import exchange
from pillion.kinds.exchange import SnapshotMessage
from pillion.kinds.snapshot import Revision, revision_of
from pillion.runtime.acknowledging import Acknowledger, Observe, Report
from pillion.runtime.clock import Clock, SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.host import CONFIGURATION, ApplyResult
from pillion.runtime.last_known_good import LastKnownGood
from pillion.runtime.sse import Event, EventParser, EventTooLong
from pillion.version import VERSION

Apply = Callable[[bytes, Mapping[str, Mapping[str, bytes]]], Awaitable[ApplyResult]]
"""Runs a configuration (document, Secret values) or says why not; never raises for a bad one."""

_CHUNK: Final = 1 << 16
_DETAIL_LIMIT: Final = 300
"""Characters of the operator's own words that a condition repeats."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the operator.

    Args:
        url: base URL of the operator's stream listener, as in `https://pillion-operator.pillion-system.svc:3780`.
        token_file: file with the service-account token, audience `pillion`; read again for every connection, since the kubelet rotates it.
        ca_file: PEM file that the operator's certificate must lead to; None trusts the machine's own authorities. Read again for every connection.
        connect_timeout: seconds for TCP, TLS and the answer's head. Too short fails on a busy operator, too long delays the next attempt.
        silence: seconds without a byte after which the stream is dead; the operator pings every 10.
        backoff_first: seconds that the first pause after a failure lasts at most; each pause is drawn between 0 and its bound, so that a thousand sidecars do not return at once.
        backoff_max: bound of the pause after many failures. Longer spares a struggling operator, shorter returns sooner.
        observe_every: seconds between two looks at the blocks' figures and troubles; what has not changed is not sent.
    """

    url: str
    token_file: Path
    ca_file: Path | None = None
    connect_timeout: float = 10.0
    silence: float = exchange.SILENCE_SECONDS
    backoff_first: float = 0.5
    backoff_max: float = 10.0
    observe_every: float = 15.0


class StreamStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the stream is doing now."""

    connected: bool
    revision: str
    connections: int
    snapshots: int
    acknowledged: bool


class StreamLost(Exception):  # noqa: N818 - says what happened
    """The stream ended or could not be opened. `retry_after`: seconds that the operator asked to wait."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConfigurationStream:
    """One sidecar's connection to its operator.

    Args:
        settings: how to reach it.
        apply: runs a configuration; `Host.apply`.
        observe: figures for the operator's status; `Host.observed`.
        report: what is wrong with resources, for the same; `Host.reports`.
        conditions: where staleness is said; `Host.conditions`.
        last_known_good: where what was applied is kept; None keeps nothing.
        clock: the time.
        metrics: where counters are registered.
        sleep: waits; tests replace it.
        chance: draws the jitter; tests seed it.
    """

    def __init__(
        self,
        settings: StreamSettings,
        apply: Apply,
        conditions: Conditions,
        *,
        observe: Observe = dict,
        report: Report = tuple,
        last_known_good: LastKnownGood | None = None,
        clock: Clock | None = None,
        metrics: CollectorRegistry | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._apply = apply
        self._conditions = conditions
        self._kept = last_known_good
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._chance = chance or random.Random()  # noqa: S311 - spreads reconnects, protects nothing
        self._log = structlog.get_logger("stream")
        if settings.url.startswith("http://"):
            self._log.warning(
                "the stream is not encrypted: tokens and Secret values travel in the clear", url=settings.url
            )
        self._revision = ""
        self._mailbox: tuple[str, SnapshotMessage] | None = None
        self._arrived = asyncio.Event()
        self._connected = False
        self._stale_since: int | None = None
        self._stale_message = ""
        self._connections = 0
        self._snapshots = 0
        self._acknowledger = Acknowledger(
            settings.url + exchange.ACKNOWLEDGE_PATH,
            observe,
            report,
            observe_every=settings.observe_every,
            timeout=settings.connect_timeout,
            backoff_max=settings.backoff_max,
            sleep=sleep,
            chance=self._chance,
        )
        registry = metrics or CollectorRegistry()
        self._up = Gauge("pillion_stream_connected", "1 while the configuration stream is open.", registry=registry)
        self._attempts = Counter(
            "pillion_stream_connections_total", "Attempts to open the stream.", ["outcome"], registry=registry
        )
        self._applied = Counter("pillion_stream_snapshots_total", "Snapshots received.", ["outcome"], registry=registry)

    @property
    def statistics(self) -> StreamStatistics:
        """What the stream is doing now."""
        return StreamStatistics(
            connected=self._connected,
            revision=self._revision,
            connections=self._connections,
            snapshots=self._snapshots,
            acknowledged=self._acknowledger.delivered,
        )

    async def restore(self) -> ApplyResult | None:
        """Apply the last known good configuration, if there is one; call it once, before `run`."""
        kept = await asyncio.to_thread(self._kept.load) if self._kept else None
        if kept is None:
            return None
        result = await self._apply(kept.document, kept.secrets)
        if result.applied:
            self._revision = kept.revision
            self._acknowledger.say(kept.revision, result)
            self._stale("the operator has not been reached since the start")
        return result

    async def run(self) -> None:
        """Keep configuration coming until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(), name="stream: receive")
            group.create_task(self._apply_newest(), name="stream: apply")
            group.create_task(self._acknowledger.run(), name="stream: report")

    async def _receive(self) -> None:
        failures = 0
        while True:
            before = self._connections
            try:
                await self._connect()
                pause = 0.0
            except StreamLost as lost:
                self._attempts.labels(outcome="lost").inc()
                self._stale(str(lost))
                pause = lost.retry_after
            failures = 0 if self._connections > before else failures + 1
            bound = min(self._settings.backoff_max, self._settings.backoff_first * 2 ** min(failures, 16))
            await self._sleep(max(pause, self._chance.uniform(0, bound)))

    async def _connect(self) -> None:
        """Open the stream and read it to its end; returns when the operator closed it on purpose.

        Raises:
            StreamLost: anything else.
        """
        settings = self._settings
        try:
            token = (await asyncio.to_thread(settings.token_file.read_text)).strip()
        except OSError as error:
            raise StreamLost(f"the token file {settings.token_file} cannot be read: {error.strerror}") from None
        try:
            tls = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise StreamLost(f"the CA file {settings.ca_file} cannot be used: {error}") from None
        headers = {"Authorization": f"Bearer {token}", "User-Agent": f"pillion-sidecar/{VERSION}"}
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout,
            sock_read=settings.silence,
            connect=settings.connect_timeout,
        )
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    response = await session.get(
                        settings.url + exchange.STREAM_PATH,
                        params={"revision": self._revision},
                        headers={"Accept": "text/event-stream"},
                    )
                async with response:
                    if response.status != 200:
                        raise await _refusal(response)
                    await self._read(session, response)
            except TimeoutError:
                raise StreamLost(f"the operator at {settings.url} does not answer") from None
            except (aiohttp.ClientError, EventTooLong, OSError) as error:
                raise StreamLost(f"the operator at {settings.url} cannot be reached: {_short(error)}") from None
            finally:
                self._connected = False
                self._acknowledger.disconnected()
                self._up.set(0)

    async def _read(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> None:
        parser = EventParser(exchange.MAX_SNAPSHOT_BYTES)
        while chunk := await response.content.read(_CHUNK):
            for event in parser.feed(chunk):
                if not self._connected:
                    self._opened(session)
                if event.type == exchange.SNAPSHOT_EVENT:
                    self._receive_snapshot(event)
                elif event.type == exchange.BYE_EVENT:
                    return
        raise StreamLost(f"the operator at {self._settings.url} closed the stream")

    def _opened(self, session: aiohttp.ClientSession) -> None:
        """The operator has spoken: what runs now is current, or is about to be replaced."""
        self._connections += 1
        self._connected = True
        self._acknowledger.connected(session)
        self._up.set(1)
        self._attempts.labels(outcome="opened").inc()
        if self._stale_message and any(c.message == self._stale_message for c in self._conditions):
            self._conditions.clear(CONFIGURATION)  # a refusal by the host stays until a snapshot is applied
        self._stale_since, self._stale_message = None, ""
        self._log.info("configuration stream opened", url=self._settings.url)

    def _receive_snapshot(self, event: Event) -> None:
        try:
            message = msgspec.json.decode(event.data, type=SnapshotMessage)
        except msgspec.DecodeError:
            raise StreamLost("the operator sent a snapshot that is no snapshot; is it a later version?") from None
        self._snapshots += 1
        self._mailbox = (event.id, message)
        self._arrived.set()

    def _stale(self, reason: str) -> None:
        if self._stale_since is None:
            self._stale_since = self._clock.wall_ns()
        when = datetime.fromtimestamp(self._stale_since // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        going_on = (
            "the last configuration goes on serving" if self._revision else "there is no configuration to serve yet"
        )
        message = f"Stale since {when}: {reason}; {going_on}"
        if message != self._stale_message:
            self._log.warning("configuration may be stale", reason=reason)
        self._stale_message = message
        self._conditions.set(CONFIGURATION, "warn", message)

    async def _apply_newest(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            newest, self._mailbox = self._mailbox, None
            if newest is not None:
                await self._apply_one(*newest)

    async def _apply_one(self, revision: str, message: SnapshotMessage) -> None:
        document = message.document.encode()
        if revision_of(document) != revision:
            self._applied.labels(outcome="damaged").inc()
            detail = "the document does not match its revision; it was damaged on its way"
            self._acknowledger.say(revision, ApplyResult(applied=False, message=detail))
            return
        result = await self._apply(document, message.secrets)
        self._applied.labels(outcome="applied" if result.applied else "refused").inc()
        if result.applied:
            self._revision = revision
        self._acknowledger.say(revision, result)
        if result.applied and self._kept is not None:
            # After the acknowledgement: the configuration is enforced already, and the disk may be slow.
            await asyncio.to_thread(self._kept.save, Revision(revision), document, message.secrets)


async def _refusal(response: aiohttp.ClientResponse) -> StreamLost:
    """Make an error of an answer that is none of ours, with the operator's own words where it gave some."""
    try:
        retry_after = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    try:
        text = (await response.content.read(_CHUNK)).decode("utf-8", "replace")
        detail = str(msgspec.json.decode(text)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError, aiohttp.ClientError, TimeoutError):
        detail = response.reason or ""
    return StreamLost(f"the operator answered {response.status}: {detail[:_DETAIL_LIMIT]}", min(retry_after, 60.0))


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_DETAIL_LIMIT]
