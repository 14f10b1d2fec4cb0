"""The logs block: a pipeline for each sink, an intake for what applications push, and a query over recent lines."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pillion.logs.compiled import LogPlan, SinkPlan
from pillion.logs.masking import Masker
from pillion.logs.pipeline import Pipeline
from pillion.logs.recent import Reader, Ring, matching
from pillion.logs.records import Shaper
from pillion.logs.sinks import FileSink, HttpSink, Sink
from pillion.logs.spool import Spool, SpoolFull
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
from pillion.runtime.operation import Answer, Call, HotOperation, Operation, Parameter, Reply
from pillion.runtime.problems import FieldError, Problem, malformed
from pillion.runtime.tasks import Tasks

NDJSON: Final = "application/x-ndjson"
PUSHED: Final = "pushed"
"""Name of the source of pushed records."""

MAX_PUSH: Final = 4 << 20
MAX_LIMIT: Final = 1_000
MAX_FOLLOWERS: Final = 8
FOLLOW_PAUSE: Final = 0.25
"""Seconds between two looks of a follower."""

EMPTY: Final = LogPlan(sources=(), mask=(), sinks=(), intake_bytes=1 << 20)


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Records that are on disk."""

    accepted: int
    durability: str


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Recent records, oldest first."""

    lines: list[msgspec.Raw]


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one sink's pipeline has done."""

    records: int
    bytes: int
    batches: int
    retries: int
    quarantined: int
    lost_bytes: int
    lag_bytes: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the block is doing now."""

    sources: int
    sinks: dict[str, SinkStatistics]
    spool_bytes: int
    pushed: int
    masked: dict[str, int]
    followers: int


class _Running(msgspec.Struct, frozen=True):
    """A pipeline and its task; both end together."""

    pipeline: Pipeline
    tasks: Tasks
    identity: tuple[Any, ...]


class LogsBlock:
    """The block."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._plan = EMPTY
        self._secrets = Secrets({})
        self._wanted = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._spool: Spool | None = None
        self._ring = Ring()
        self._pushed = 0
        self._followers = 0
        self._shaper = self._intake_shaper(EMPTY)
        self._started = False
        self._log = structlog.get_logger("logs")
        context.metrics.register(_Metrics(self))

    # --- configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Read the section; pipelines are changed once it is committed.

        Raises:
            Refused: it cannot be read.
        """
        try:
            plan = msgspec.convert(configuration.settings, LogPlan) if configuration.settings else EMPTY
            shaper = self._intake_shaper(plan)
        except (msgspec.ValidationError, ValueError) as error:
            raise Refused(f"the logs section of the SidecarProfile: {error}") from None
        unready: list[Unready] = []
        for sink in plan.sinks:
            if sink.http and sink.http.token:
                try:
                    configuration.secrets.value(*sink.http.token)
                except SecretMissing as missing:
                    unready.append(
                        Unready(
                            kind="SidecarProfile",
                            name=configuration.profile,
                            reason="SecretMissing",
                            message=f"logs sink {sink.name}: {missing}; create it",
                        )
                    )

        def commit() -> None:
            self._plan, self._secrets, self._shaper = plan, configuration.secrets, shaper
            if self._spool is not None:
                self._spool.max_bytes = plan.intake_bytes
            self._wanted.set()

        return Prepared(commit=commit, unready=tuple(unready))

    def _intake_shaper(self, plan: LogPlan) -> Shaper:
        return Shaper(self._fields(PUSHED), "json", Masker(plan.mask))

    def _fields(self, source: str) -> Mapping[str, str]:
        """What every record of *source* carries."""
        identity = self._context.identity
        return {
            "k8s.namespace.name": identity.namespace,
            "k8s.pod.name": identity.pod,
            "k8s.node.name": identity.node,
            "source": source,
        }

    # --- life

    async def start(self) -> None:
        """Open the spool and keep pipelines in step with the configuration."""
        folder = self._context.data_dir / "spool"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._spool = await asyncio.to_thread(Spool, folder, self._plan.intake_bytes)
        self._started = True
        self._context.tasks.spawn("pipelines", self._keep_in_step)
        self._context.tasks.spawn("spool", self._look_after_spool)

    async def _keep_in_step(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._reconcile()

    async def _reconcile(self) -> None:
        """Stop what changed or went, start what is new; an unchanged pipeline goes on undisturbed."""
        plan, secrets = self._plan, self._secrets
        wanted = {sink.name: (sink, self._identity(sink, plan, secrets)) for sink in plan.sinks}
        for name, running in list(self._running.items()):
            if name not in wanted or wanted[name][1] != running.identity:
                await running.tasks.stop()
                del self._running[name]
                for condition in [c.name for c in self._context.conditions if c.name.startswith(f"logs:{name}")]:
                    self._context.conditions.clear(condition)
        spool = self._spool
        if spool is None:
            return
        for name, (sink, identity) in wanted.items():
            if name in self._running:
                continue
            pipeline = Pipeline(
                sink,
                plan,
                self._sink(sink, secrets),
                spool=spool,
                folder=self._context.data_dir,
                fields=self._fields,
                conditions=self._context.conditions,
            )
            tasks = Tasks(f"logs sink {name}", self._context.conditions)
            tasks.spawn("pipeline", pipeline.run)
            self._running[name] = _Running(pipeline, tasks, identity)

    def _identity(self, sink: SinkPlan, plan: LogPlan, secrets: Secrets) -> tuple[Any, ...]:
        """Everything that a pipeline is made of; a change of any of it makes a new one."""
        return (sink, plan.sources, plan.mask, _token(sink, secrets))

    @staticmethod
    def _sink(sink: SinkPlan, secrets: Secrets) -> Sink:
        if sink.http is not None:
            return HttpSink(sink.http, _token(sink, secrets))
        if sink.file is not None:
            return FileSink(sink.file)
        raise Refused(f"logs sink {sink.name} has neither http nor file")

    async def _look_after_spool(self) -> None:
        """Remove what every sink has, and tell what was found damaged."""
        while True:
            await asyncio.sleep(1.0)
            spool = self._spool
            if spool is None or not self._running:
                continue
            await asyncio.to_thread(spool.release, [running.pipeline.cursor for running in self._running.values()])
            if spool.damages:
                text = f"pushed records are damaged on disk and were passed over: {', '.join(spool.damages[:5])}"
                self._log.error("the spool is damaged", places=spool.damages[:5])
                self._context.conditions.set("logs:spool", "warn", text)
                spool.damages.clear()

    async def drain(self) -> None:
        """Hand over what is there now; what a sink does not take stays on disk for the next start."""
        running = list(self._running.values())
        await asyncio.gather(*(one.tasks.stop() for one in running))
        self._running.clear()
        spool = self._spool
        if spool is None:
            return
        for sink in self._plan.sinks:
            pipeline = Pipeline(
                sink,
                self._plan,
                self._sink(sink, self._secrets),
                spool=spool,
                folder=self._context.data_dir,
                fields=self._fields,
                conditions=self._context.conditions,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await pipeline.flush()
            await pipeline.close()

    async def stop(self) -> None:
        """Stop everything; all progress is on disk already."""
        await asyncio.gather(*(one.tasks.stop() for one in self._running.values()))
        self._running.clear()
        if self._spool is not None:
            self._spool.close()

    # --- HTTP

    async def push(self, call: Call[bytes]) -> Answer:
        """Take records and answer once they are on disk."""
        spool = self._spool
        if spool is None or not self._plan.sinks:
            detail = "No sink is configured, so the records could go nowhere; add one to spec.logs.sinks of the SidecarProfile."
            raise Problem(409, "no-sink", "No sink", detail)
        body = call.body if call.body.endswith(b"\n") else call.body + b"\n"
        if not body.strip():
            raise malformed("The body is empty.", FieldError("#", "write one record a line"))
        records = self._shaper.lines(body)
        try:
            await asyncio.to_thread(spool.append, records.body)
        except SpoolFull:
            detail = f"{spool.size} bytes of records wait for sinks that take nothing; try again later, or raise spec.logs.intake."
            raise Problem(507, "intake-full", "Intake is full", detail, headers={"Retry-After": "5"}) from None
        except OSError as error:
            self._context.conditions.set("logs:intake", "fail", f"pushed records cannot be kept: {error.strerror}")
            raise Problem(
                507, "storage-full", "Storage is full", f"The records were not kept: {error.strerror}."
            ) from None
        self._context.conditions.clear("logs:intake")
        self._ring.add(records.body)
        self._pushed += records.lines
        for running in self._running.values():
            running.pipeline.pushed.set()
        return Answer(status=202, body=Accepted(accepted=records.lines, durability="local"))

    async def query(self, call: Call[None]) -> Answer | web.StreamResponse:
        """Give recent records, or follow them."""
        source, query = call.query("source"), call.query("q")
        limit = int(call.query("limit", "100"))
        if source not in ("", PUSHED, *(s.name for s in self._plan.sources)):
            names = ", ".join([*(s.name for s in self._plan.sources), PUSHED])
            detail = f'There is no source "{source[:80]}"; there are {names}.'
            raise Problem(
                404, "unknown-source", "Unknown source", detail, errors=[FieldError("query:source", "is unknown")]
            )
        if call.query("follow", "false") == "true":
            return await self._follow(call.request, source, query)
        reader = Reader(self._plan, self._fields, source)
        try:
            found = await asyncio.to_thread(lambda: matching(self._all(reader, source), query, limit))
        finally:
            await asyncio.to_thread(reader.close)
        return Answer(body=Lines(lines=[msgspec.Raw(line) for line in found]))

    def _all(self, reader: Reader, source: str) -> Iterator[bytes]:
        yield from reader.lines()
        if source in ("", PUSHED):
            yield from self._ring.since(0)[0].splitlines()

    async def _follow(self, request: web.Request, source: str, query: str) -> web.StreamResponse:
        if self._followers >= MAX_FOLLOWERS:
            detail = f"{MAX_FOLLOWERS} followers read already; close one."
            raise Problem(429, "too-many-followers", "Too many followers", detail, headers={"Retry-After": "5"})
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
        await response.prepare(request)
        self._followers += 1
        try:
            async for line in self._followed(source, query):
                await response.write(line + b"\n")
        except ConnectionError:
            pass
        finally:
            self._followers -= 1
        return response

    async def _followed(self, source: str, query: str) -> AsyncIterator[bytes]:
        reader = Reader(self._plan, self._fields, source)
        _, mark = self._ring.since(0)
        try:
            # What stands there already is not news.
            await asyncio.to_thread(lambda: matching(reader.lines(), query, 1))
            while True:
                for line in await asyncio.to_thread(lambda: matching(reader.lines(), query, MAX_LIMIT)):
                    yield line
                pushed, mark = self._ring.since(mark)
                if source in ("", PUSHED):
                    for line in matching(iter(pushed.splitlines()), query, MAX_LIMIT):
                        yield line
                await asyncio.sleep(FOLLOW_PAUSE)
        finally:
            await asyncio.to_thread(reader.close)

    def operations(self) -> Sequence[Operation]:
        """Give its routes."""
        flag: Mapping[str, object] = {"type": "string", "enum": ["true", "false"], "default": "false"}
        number: Mapping[str, object] = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}
        return [
            Operation(
                method="POST",
                path="/v1/logs",
                name="pushLogs",
                summary="Take log records, one a line; answered once they are on disk.",
                tag="logs",
                handler=self.push,
                body=bytes,
                body_media=(NDJSON, "application/json", "text/plain"),
                max_body=MAX_PUSH,
                replies={202: Reply(description="The records are on disk and will be shipped.", type=Accepted)},
            ),
            Operation(
                method="GET",
                path="/v1/logs",
                name="queryLogs",
                summary="Recent log records, masked; or a stream of new ones.",
                tag="logs",
                handler=self.query,
                parameters=(
                    Parameter(
                        name="q",
                        place="query",
                        description="Words that a record must hold, whatever the case.",
                        schema={"type": "string", "maxLength": 256},
                    ),
                    Parameter(
                        name="source",
                        place="query",
                        description="Only this source.",
                        schema={"type": "string", "maxLength": 63},
                    ),
                    Parameter(name="limit", place="query", description="At most so many, the newest.", schema=number),
                    Parameter(
                        name="follow",
                        place="query",
                        description="`true` streams new records as NDJSON until the client goes.",
                        schema=flag,
                    ),
                ),
                replies={200: Reply(description="Records, oldest first.", type=Lines)},
            ),
        ]

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give none: records are written to disk."""
        return []

    # --- introspection

    def statistics(self) -> Statistics:
        """Give what it is doing now."""
        masked: dict[str, int] = {}
        for running in self._running.values():
            for name, hits in running.pipeline.masked.items():
                masked[name] = masked.get(name, 0) + hits
        return Statistics(
            sources=len(self._plan.sources),
            sinks={
                name: SinkStatistics(**msgspec.structs.asdict(running.pipeline.figures))
                for name, running in self._running.items()
            },
            spool_bytes=self._spool.size if self._spool else 0,
            pushed=self._pushed,
            masked=masked,
            followers=self._followers,
        )

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Give nothing: the section belongs to the profile."""
        return {}


class _Metrics(Collector):
    """The block's metrics, read from its statistics when scraped."""

    def __init__(self, block: LogsBlock) -> None:
        self._block = block

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        now = self._block.statistics()
        counters = {
            "records": "Records that the sink confirmed.",
            "bytes": "Bytes that the sink confirmed, before compression.",
            "batches": "Batches that the sink confirmed.",
            "retries": "Batches that were sent again.",
            "quarantined": "Records that the sink refused for good.",
            "lost_bytes": "Bytes of files that were gone before they could be shipped.",
        }
        for name, text in counters.items():
            family = CounterMetricFamily(f"pillion_logs_sink_{name}", text, labels=["sink"])
            for sink, figures in now.sinks.items():
                family.add_metric([sink], getattr(figures, name))
            yield family
        lag = GaugeMetricFamily(
            "pillion_logs_sink_lag_bytes", "Bytes that the sink has not confirmed yet.", labels=["sink"]
        )
        for sink, figures in now.sinks.items():
            lag.add_metric([sink], figures.lag_bytes)
        yield lag
        masked = CounterMetricFamily("pillion_logs_masked", "Values that were masked.", labels=["rule"])
        for rule, hits in now.masked.items():
            masked.add_metric([rule], hits)
        yield masked
        yield CounterMetricFamily("pillion_logs_pushed_records", "Records that were pushed.", value=now.pushed)
        yield GaugeMetricFamily("pillion_logs_spool_bytes", "Pushed records on disk.", value=now.spool_bytes)


def _token(sink: SinkPlan, secrets: Secrets) -> str:
    if sink.http is None or sink.http.token is None:
        return ""
    try:
        return secrets.value(*sink.http.token).decode("utf-8", "replace").strip()
    except SecretMissing:
        return ""


def create(context: Context) -> LogsBlock:
    """Make the block."""
    return LogsBlock(context)
