"""The logs block: a pipeline for each sink, an intake for what applications push, and a query over recent lines."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from pillion.kinds.exchange import ConditionReport
from pillion.logs.api import PUSHED, LogsApi
from pillion.logs.compiled import LogPlan, SinkPlan
from pillion.logs.intake import Intake
from pillion.logs.masking import Masker
from pillion.logs.metrics import LogsCollector, SinkStatistics, Statistics
from pillion.logs.pipeline import Pipeline
from pillion.logs.records import Shaper
from pillion.logs.sinks import FileSink, HttpSink, Sink
from pillion.logs.spool import Spool
from pillion.runtime.block import (
    JSON,
    BlockConfiguration,
    Context,
    Prepared,
    Refused,
    SecretMissing,
    Secrets,
    Unready,
)
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.tasks import Tasks

EMPTY: Final = LogPlan(sources=(), mask=(), sinks=(), intake_bytes=1 << 20)

HAND_OVER: Final = 5.0
"""Seconds that a pipeline which is replaced gets for the batch under way."""

DRAIN: Final = 5.0
"""Seconds that sinks get at the end for what is there. What is left stays on disk for the next start."""


class _Running(msgspec.Struct, frozen=True):
    """A pipeline and its task; both end together."""

    pipeline: Pipeline
    tasks: Tasks
    task: asyncio.Task[None]
    identity: tuple[Any, ...]


class LogsBlock:
    """The block.

    Args:
        context: what the runtime lends it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._plan = EMPTY
        self._secrets = Secrets({})
        self._wanted = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._spool: Spool | None = None
        self._intake: Intake | None = None
        self._masker = Masker(())
        self._retired: dict[str, int] = {}
        """What maskers counted that are gone."""
        self._log = structlog.get_logger("logs")
        self._api = LogsApi(context, lambda: self._plan, lambda: self._intake, self._fields)
        context.metrics.register(LogsCollector(self.statistics))

    # Configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Read the section; pipelines are changed once it is committed.

        Raises:
            Refused: it cannot be read.
        """
        try:
            plan = msgspec.convert(configuration.settings, LogPlan) if configuration.settings else EMPTY
            masker = Masker(plan.mask)
        except (msgspec.ValidationError, ValueError) as error:
            raise Refused(f"SidecarProfile {configuration.profile}: spec.logs: {error}") from None
        unready = []
        for sink in plan.sinks:
            try:
                _token(sink, configuration.secrets)
            except SecretMissing as missing:
                message = f"spec.logs.sinks: {sink.name}: {missing}; create it, the sink waits for it"
                unready.append(
                    Unready(kind="SidecarProfile", name=configuration.profile, reason="SecretMissing", message=message)
                )

        def commit() -> None:
            if plan.mask != self._plan.mask:
                self._retire_masks(self._masker.hits)
                self._masker = masker
            self._plan, self._secrets = plan, configuration.secrets
            if self._spool is not None:
                self._spool.max_bytes = plan.intake_bytes
            self._set_intake()
            self._wanted.set()

        return Prepared(commit=commit, unready=tuple(unready))

    def _set_intake(self) -> None:
        if self._intake is not None:
            self._intake.set(Shaper(self._fields(PUSHED), "json", self._masker), self._masker)

    def _fields(self, source: str) -> Mapping[str, str]:
        """What every record of *source* carries."""
        identity = self._context.identity
        return {
            "k8s.namespace.name": identity.namespace,
            "k8s.pod.name": identity.pod,
            "k8s.node.name": identity.node,
            "source": source,
        }

    # Life

    async def start(self) -> None:
        """Open the spool and keep pipelines in step with the configuration."""
        folder = self._context.data_dir / "spool"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._spool = await asyncio.to_thread(Spool, folder, self._plan.intake_bytes)
        self._intake = Intake(self._spool, self._taken)
        self._set_intake()
        self._context.tasks.spawn("intake", self._intake.run)
        self._context.tasks.spawn("pipelines", self._keep_in_step)
        self._context.tasks.spawn("spool", self._look_after_spool)

    def _taken(self, records: bytes) -> None:
        """Let queries and pipelines know of records that were pushed."""
        self._api.remember(records)
        for running in self._running.values():
            running.pipeline.pushed.set()

    async def _keep_in_step(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._reconcile()

    async def _reconcile(self) -> None:
        """Stop what changed or went, start what is new; an unchanged pipeline goes on undisturbed."""
        plan, secrets, spool = self._plan, self._secrets, self._spool
        if spool is None:
            return
        wanted: dict[str, tuple[SinkPlan, str]] = {}
        waiting: dict[str, str] = {}
        for sink in plan.sinks:
            try:
                wanted[sink.name] = (sink, _token(sink, secrets))
            except SecretMissing as missing:
                # Without its token a sink would refuse everything; the files wait for it.
                waiting[f"logs:{sink.name}:token"] = f"sink {sink.name} waits: {missing}"
        identities = {name: (sink, plan.sources, plan.mask, token) for name, (sink, token) in wanted.items()}
        gone = [name for name, running in self._running.items() if identities.get(name) != running.identity]
        await asyncio.gather(*(self._end(name) for name in gone))
        # Only now: the end of a pipeline forgets what was wrong with it.
        self._tell_waiting(waiting)
        for name, (sink, token) in wanted.items():
            if name in self._running:
                continue
            pipeline = Pipeline(
                sink,
                plan,
                _sink(sink, token),
                spool=spool,
                folder=self._context.data_dir,
                fields=self._fields,
                clock=self._context.clock,
                conditions=self._context.conditions,
            )
            tasks = Tasks(f"logs sink {name}", self._context.conditions)
            task = tasks.spawn("pipeline", pipeline.run)
            self._running[name] = _Running(pipeline, tasks, task, identities[name])

    async def _end(self, name: str) -> None:
        """End one pipeline after its batch, and forget what was wrong with it."""
        running = self._running[name]
        running.pipeline.end()
        await asyncio.wait({running.task}, timeout=HAND_OVER)
        await running.tasks.stop()
        self._retire_masks(running.pipeline.masked)
        del self._running[name]
        for condition in [c.name for c in self._context.conditions]:
            if condition == f"logs:{name}" or condition.startswith(f"logs:{name}:"):
                self._context.conditions.clear(condition)

    def _tell_waiting(self, waiting: Mapping[str, str]) -> None:
        """Say which sinks wait for a token, by condition, and that no other does."""
        for name in [c.name for c in self._context.conditions]:
            if name.startswith("logs:") and name.count(":") == 2 and name.endswith(":token") and name not in waiting:
                self._context.conditions.clear(name)
        for name, text in waiting.items():
            self._context.conditions.set(name, "warn", text)

    def _retire_masks(self, hits: Mapping[str, int]) -> None:
        for rule, count in hits.items():
            self._retired[rule] = self._retired.get(rule, 0) + count

    async def _look_after_spool(self) -> None:
        """Remove what every sink has, and tell what was found damaged."""
        while True:
            await asyncio.sleep(1.0)
            spool = self._spool
            if spool is None or len(self._running) < len(self._plan.sinks):
                # A sink that waits for its token still wants what is there.
                continue
            await asyncio.to_thread(spool.release, [running.pipeline.cursor for running in self._running.values()])
            if spool.damages:
                text = f"pushed records are damaged on disk and were passed over: {', '.join(spool.damages[:5])}"
                self._log.error("the spool is damaged", places=spool.damages[:5])
                self._context.conditions.set("logs:spool", "warn", text)
                spool.damages.clear()

    async def drain(self) -> None:
        """Hand over what is there now; what a sink does not take stays on disk for the next start."""
        for running in self._running.values():
            running.pipeline.drain()
        tasks = {running.task for running in self._running.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN)

    async def stop(self) -> None:
        """Stop everything; all progress is on disk already."""
        await self._context.tasks.stop()
        await asyncio.gather(*(running.tasks.stop() for running in self._running.values()))
        if self._intake is not None:
            self._intake.close()
        if self._spool is not None:
            self._spool.close()

    # What the runtime asks

    def operations(self) -> Sequence[Operation]:
        """Give its routes."""
        return self._api.operations()

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give none: records are written to disk."""
        return []

    def statistics(self) -> Statistics:
        """Give what it is doing now."""
        running = {name: one.pipeline for name, one in self._running.items()}
        return Statistics(
            sources=len(self._plan.sources),
            sinks={name: SinkStatistics(**msgspec.structs.asdict(one.figures)) for name, one in running.items()},
            spool_bytes=self._spool.size if self._spool else 0,
            pushed=self._intake.records if self._intake else 0,
            masked=_sum([self._retired, self._masker.hits, *(one.masked for one in running.values())]),
            followers=self._api.followers,
        )

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Give nothing: the section belongs to the profile."""
        return {}

    def reports(self) -> Iterable[ConditionReport]:
        """Give nothing beyond the block's conditions, which are reported for the profile."""
        return ()


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def _token(sink: SinkPlan, secrets: Secrets) -> str:
    """Give the bearer token of a sink; empty where it needs none.

    Raises:
        SecretMissing: it needs one that is not there.
    """
    if sink.http is None or sink.http.token is None:
        return ""
    return secrets.value(*sink.http.token).decode("utf-8", "replace").strip()


def _sink(plan: SinkPlan, token: str) -> Sink:
    if plan.http is not None:
        return HttpSink(plan.http, token)
    if plan.file is not None:
        return FileSink(plan.file)
    raise TypeError(f"sink {plan.name} has neither http nor file; the rules of the model refuse it")


def create(context: Context) -> LogsBlock:
    """Make the block."""
    return LogsBlock(context)
