"""The sidecar as a whole: it creates the blocks, hands them configurations, and swaps those in as one.

A configuration is applied entirely or not at all. Every block first builds what it asks for beside what runs; only when all have
succeeded, one synchronous step swaps all of them. A refused configuration leaves the last good one serving and says why.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from pillion.kinds.exchange import ConditionReport
from pillion.kinds.registry import BLOCKS
from pillion.kinds.snapshot import FORMAT, Revision, revision_of
from pillion.runtime import resource_reports
from pillion.runtime.block import (
    Block,
    BlockConfiguration,
    Context,
    Identity,
    Prepared,
    Refused,
    SecretMissing,
    Secrets,
    Unready,
)
from pillion.runtime.clock import Clock, SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.journal import CONCEALED
from pillion.runtime.operation import Answer, Call, HotAnswer, HotOperation, Operation, Reply
from pillion.runtime.problems import Problem
from pillion.runtime.tasks import Tasks

JSON = Any

CONFIGURATION: Final = "configuration"
"""Name of the condition about the configuration: refused, stale, or never received."""


class ApplyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a configuration.

    Args:
        applied: whether it runs now.
        message: why not, naming block, resource, field and fix.
        unready: resources that are applied but cannot work yet.
    """

    applied: bool
    message: str = ""
    unready: tuple[Unready, ...] = ()


class BlockSnapshot(msgspec.Struct, frozen=True):
    """One block's part of a snapshot."""

    settings: JSON
    resources: dict[str, dict[str, JSON]]


class Profile(msgspec.Struct, frozen=True):
    """The part of a snapshot that concerns the sidecar itself."""

    name: str
    auth: JSON


class SnapshotDocument(msgspec.Struct, frozen=True):
    """A snapshot as it travels; see `kinds.snapshot`."""

    format: int
    namespace: str
    profile: Profile
    blocks: dict[str, BlockSnapshot]
    secrets: dict[str, str]


class ConfigurationView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `/v1/config` tells about the configuration in force."""

    revision: str
    source: str
    applied_at: str
    stale: bool
    message: str
    namespace: str
    profile: str
    blocks: tuple[str, ...]
    resources: dict[str, tuple[str, ...]]
    unready: tuple[Unready, ...]


class _Slot:
    """One block and whether it is on."""

    def __init__(self, name: str, block: Block, tasks: Tasks) -> None:
        self.name = name
        self.block = block
        self.tasks = tasks
        self.on = False
        self.started = False
        self.probed = any(operation.public for operation in block.operations())
        """Whether it answers probes: those are asked whatever the profile says, and must not wait for ever for a start."""


class Host:
    """The blocks of one sidecar.

    Args:
        data_dir: where blocks keep what must survive a restart; one folder each is made in it.
        identity: who this sidecar is.
        source: where configuration comes from, for `/v1/config`.
        clock: the time.
        blocks: names of the blocks; all of the registry unless a test wants fewer.

    `token` is the bearer token that the configuration in force asks for; `on_applied` is called, synchronously with the swap, after each change.
    """

    def __init__(
        self,
        data_dir: Path,
        identity: Identity,
        *,
        source: str,
        clock: Clock | None = None,
        blocks: tuple[str, ...] = BLOCKS,
    ) -> None:
        self.conditions = Conditions()
        self.metrics = CollectorRegistry()
        self.clock = clock or SystemClock()
        self.source = source
        self.identity = identity
        self.token: bytes | None = None
        self.on_applied: Callable[[], None] = lambda: None
        self.leaving = asyncio.Event()
        """To be set before requests in flight are waited for."""
        self._log = structlog.get_logger("host")
        self._applying = asyncio.Lock()
        self._revision: Revision | None = None
        self._document: SnapshotDocument | None = None
        self._applied_at = ""
        self._unready: tuple[Unready, ...] = ()
        self._concealed: tuple[bytes, ...] = ()
        self._applied_gauge = Gauge(
            "pillion_configuration_applied_timestamp_seconds",
            "When the configuration in force was applied.",
            registry=self.metrics,
        )
        self._slots = [self._create(name, data_dir, identity) for name in blocks]

    def _create(self, name: str, data_dir: Path, identity: Identity) -> _Slot:
        own = data_dir / name
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        tasks = Tasks(name, self.conditions)
        context = Context(
            block=name,
            data_dir=own,
            clock=self.clock,
            identity=identity,
            metrics=self.metrics,
            conditions=self.conditions,
            tasks=tasks,
            leaving=self.leaving,
        )
        block: Block = import_module(f"pillion.{name}.service").create(context)
        return _Slot(name, block, tasks)

    @property
    def revision(self) -> Revision | None:
        """The revision in force; None before the first."""
        return self._revision

    def operations(self) -> list[Operation]:
        """Give all routes; those of a block that is off answer 404 with the reason."""
        found = [
            # Probes answer whatever the profile says: without them the kubelet would kill a sidecar that waits for its configuration.
            operation
            if operation.public
            else msgspec.structs.replace(operation, handler=partial(self._guarded, slot, operation.handler))
            for slot in self._slots
            for operation in slot.block.operations()
        ]
        return [*found, *self._own_operations()]

    def hot_operations(self) -> list[HotOperation]:
        """Give all routes of the hot lane."""
        return [
            msgspec.structs.replace(operation, answer=partial(self._guarded_hot, slot, operation.answer))
            for slot in self._slots
            for operation in slot.block.hot_operations()
        ]

    async def _guarded(self, slot: _Slot, handler: Any, call: Call[Any]) -> Any:
        if not slot.on:
            raise _off(slot.name, configured=self._revision is not None)
        return await handler(call)

    def _guarded_hot(self, slot: _Slot, answer: Any, rest: str, query: str, body: bytes) -> HotAnswer:
        if not slot.on:
            raise _off(slot.name, configured=self._revision is not None)
        return answer(rest, query, body)  # type: ignore[no-any-return] # the slot holds the block's own function

    async def apply(self, document: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> ApplyResult:
        """Run the configuration *document* with these Secret values, or say why not.

        One configuration is applied at a time; later calls wait.
        """
        async with self._applying:
            try:
                return await self._apply(document, secrets)
            except Refused as refused:
                message = f"configuration {revision_of(document)[:12]} is refused: {refused}"
                self._log.warning("configuration refused", reason=str(refused), revision=revision_of(document))
                self.conditions.set(CONFIGURATION, "warn", f"{message}; the last good one goes on serving")
                return ApplyResult(applied=False, message=message)

    async def _apply(self, document: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> ApplyResult:
        try:
            snapshot = msgspec.json.decode(document, type=SnapshotDocument)
        except msgspec.DecodeError as error:
            raise Refused(f"it is no snapshot: {error}") from None
        if snapshot.format != FORMAT:
            raise Refused(f"its format is {snapshot.format}, this sidecar knows {FORMAT}; upgrade the sidecar first")
        values = Secrets(secrets)
        token = self._token(snapshot, values)
        # From here on nothing that is written may show these values; those of the configuration before are still in use meanwhile.
        CONCEALED.add(value for keys in secrets.values() for value in keys.values())
        prepared: list[tuple[_Slot, Prepared]] = []
        for slot in self._slots:
            part = snapshot.blocks.get(slot.name)
            if part is None and not slot.started and not slot.probed:
                continue
            # A block that is switched off keeps running without resources, so that what it accepted is still delivered.
            configuration = BlockConfiguration(
                namespace=snapshot.namespace,
                settings=part.settings if part else None,
                resources=part.resources if part else {},
                secrets=values,
                profile=snapshot.profile.name,
            )
            try:
                prepared.append((slot, await slot.block.prepare(configuration)))
            except Refused as refused:
                raise Refused(f"{slot.name}: {refused}") from refused
            except Exception as error:
                self._log.exception("a block failed to prepare a configuration", block=slot.name)
                raise Refused(f"{slot.name} cannot run it ({type(error).__name__}); see the sidecar's log") from error
        values_now = tuple(value for keys in secrets.values() for value in keys.values())
        # Attempts that are under way may end with the former ones.
        CONCEALED.replace(values_now + self._concealed)
        self._concealed = values_now
        for slot, one in prepared:
            one.commit()
            slot.on = slot.name in snapshot.blocks
        self.token = token
        self.on_applied()
        self._document = snapshot
        self._revision = revision_of(document)
        now = self.clock.wall_ns()
        self._applied_at = _rfc3339(now)
        self._applied_gauge.set(now / 1e9)
        self._unready = tuple(unready for _, one in prepared for unready in one.unready)
        for slot, _ in prepared:
            if not slot.started:
                await slot.block.start()
                slot.started = True
        # Last, and with no await behind it: whoever restores an old configuration says so before anybody can look.
        self.conditions.clear(CONFIGURATION)
        self._log.info("configuration applied", revision=self._revision, unready=len(self._unready))
        return ApplyResult(applied=True, unready=self._unready)

    def _token(self, snapshot: SnapshotDocument, secrets: Secrets) -> bytes | None:
        if not snapshot.profile.auth:
            return None
        ref = snapshot.profile.auth["tokenRef"]
        try:
            token = secrets.value(ref["name"], ref["key"]).strip()
        except SecretMissing as missing:
            # Serving without the token that was asked for would open the API silently.
            raise Refused(f"SidecarProfile {snapshot.profile.name}: spec.auth.tokenRef: {missing}; create it") from None
        if len(token) < 16:
            raise Refused(
                f"SidecarProfile {snapshot.profile.name}: spec.auth.tokenRef: the token is shorter than 16 bytes"
            )
        return token

    def observed(self) -> dict[tuple[str, str], Mapping[str, JSON]]:
        """Give every block's figures per resource, for the operator's status."""
        found: dict[tuple[str, str], Mapping[str, JSON]] = {}
        for slot in self._slots:
            if slot.on:
                found.update(slot.block.observed())
        return found

    def reports(self) -> tuple[ConditionReport, ...]:
        """Give what is not as it normally is with the resources, for their status."""
        document = self._document
        if document is None:
            return ()
        return resource_reports.together(
            [report for slot in self._slots if slot.on for report in slot.block.reports()],
            # That a configuration is refused or stale, the operator knows better.
            [condition for condition in self.conditions if condition.name != CONFIGURATION],
            {name: part.resources for name, part in document.blocks.items()},
            document.profile.name,
        )

    async def drain(self) -> None:
        """Let every block finish what is in flight."""
        await asyncio.gather(*(slot.block.drain() for slot in self._slots if slot.started))

    async def stop(self) -> None:
        """Stop tasks and close stores, in reverse start order."""
        for slot in reversed(self._slots):
            if slot.started:
                await slot.block.stop()
            await slot.tasks.stop()

    def _own_operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/config",
                name="getConfiguration",
                summary="The configuration in force: revision, age, resources, and what cannot work yet.",
                tag="sidecar",
                handler=self._get_configuration,
                replies={200: Reply(description="The configuration in force.", type=ConfigurationView)},
            ),
            Operation(
                method="GET",
                path="/v1/statistics",
                name="getStatistics",
                summary="What every block is doing now.",
                tag="sidecar",
                handler=self._get_statistics,
                replies={200: Reply(description="Statistics by block.", type=dict[str, Any])},
            ),
        ]

    async def _get_configuration(self, _call: Call[None]) -> Answer:
        document = self._document
        condition = next((c for c in self.conditions if c.name == CONFIGURATION), None)
        resources: dict[str, list[str]] = {}
        for part in document.blocks.values() if document else ():
            for kind, named in part.resources.items():
                resources.setdefault(kind, []).extend(named)
        return Answer(
            body=ConfigurationView(
                revision=self._revision or "",
                source=self.source,
                applied_at=self._applied_at,
                stale=condition is not None,
                message=condition.message if condition else "",
                namespace=document.namespace if document else "",
                profile=document.profile.name if document else "",
                blocks=tuple(document.blocks) if document else (),
                resources={kind: tuple(sorted(names)) for kind, names in sorted(resources.items())},
                unready=self._unready,
            )
        )

    async def _get_statistics(self, _call: Call[None]) -> Answer:
        return Answer(body={slot.name: slot.block.statistics() for slot in self._slots if slot.on})


def _off(block: str, *, configured: bool) -> Problem:
    if not configured:
        detail = "The sidecar has no configuration yet; it is waiting for its first one."
        return Problem(503, "not-configured", "Not configured yet", detail, headers={"Retry-After": "1"})
    detail = f"The block {block} is off in this sidecar's SidecarProfile; add it to spec.blocks."
    return Problem(404, "block-off", "Block is off", detail)


def _rfc3339(nanoseconds: int) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 - once per configuration

    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")
