"""The routes of the logs block: push records, query recent ones, follow new ones."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from pillion.kinds.quantities import parse_duration
from pillion.logs.compiled import LogPlan
from pillion.logs.intake import Busy, Intake
from pillion.logs.recent import Reader, Ring, matching
from pillion.logs.spool import SpoolFull
from pillion.runtime.block import Context
from pillion.runtime.operation import Answer, Call, Operation, Parameter, Reply
from pillion.runtime.problems import FieldError, Problem, malformed

NDJSON: Final = "application/x-ndjson"
PUSHED: Final = "pushed"
"""Name of the source of pushed records."""

MAX_PUSH: Final = 4 << 20
MAX_LIMIT: Final = 1_000
MAX_FOLLOWERS: Final = 8
FOLLOW_PAUSE: Final = 0.25
"""Seconds between two looks of a follower."""

STALLED: Final = 60.0
"""Seconds after which a follower that takes nothing is sent away: longer than somebody pauses a terminal to read."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Records that are on disk."""

    accepted: int
    durability: str


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Recent records, oldest first."""

    lines: list[msgspec.Raw]


class LogsApi:
    """The routes.

    Args:
        context: what the runtime lends the block.
        plan: gives the section in force.
        intake: gives the way into the spool; None before the start.
        fields: what is put into every record, by source.
    """

    def __init__(
        self,
        context: Context,
        plan: Callable[[], LogPlan],
        intake: Callable[[], Intake | None],
        fields: Callable[[str], Mapping[str, str]],
    ) -> None:
        self.followers = 0
        self._context = context
        self._plan = plan
        self._intake = intake
        self._fields = fields
        self._ring = Ring()

    def remember(self, records: bytes) -> None:
        """Let queries see records that were pushed."""
        self._ring.add(records, self._context.clock.wall_ns() / 1e9)

    async def push(self, call: Call[bytes]) -> Answer:
        """Take records and answer once they are on disk."""
        intake = self._intake()
        if intake is None or not self._plan().sinks:
            detail = "No sink is configured, so the records could go nowhere; add one to spec.logs.sinks of the SidecarProfile."
            raise Problem(409, "no-sink", "No sink", detail)
        if not call.body.strip():
            raise malformed("The body is empty.", FieldError("#", "write one record a line"))
        condition = "logs:intake"
        try:
            records = await intake.push(call.body)
        except Busy:
            detail = "More records wait for the disk than fit; try again."
            raise Problem(429, "intake-busy", "Intake is busy", detail, headers={"Retry-After": "1"}) from None
        except SpoolFull:
            detail = (
                "Pushed records wait for sinks that take nothing, up to spec.logs.intake; try again later, or raise it."
            )
            self._context.conditions.set(condition, "fail", detail)
            raise Problem(507, "intake-full", "Intake is full", detail, headers={"Retry-After": "5"}) from None
        except OSError as error:
            self._context.conditions.set(condition, "fail", f"pushed records cannot be kept: {error.strerror}")
            detail = f"The records were not kept: {error.strerror}."
            raise Problem(507, "storage-full", "Storage is full", detail, headers={"Retry-After": "5"}) from None
        self._context.conditions.clear(condition)
        return Answer(status=202, body=Accepted(accepted=records, durability="local"))

    async def query(self, call: Call[None]) -> Answer | web.StreamResponse:
        """Give recent records, or follow them."""
        source, query = call.query("source"), call.query("q")
        plan, start = self._plan(), self._start(call.query("since"))
        if source not in ("", PUSHED, *(s.name for s in plan.sources)):
            names = ", ".join([*(s.name for s in plan.sources), PUSHED])
            detail = f'There is no source "{source[:80]}"; there are {names}.'
            raise Problem(
                404, "unknown-source", "Unknown source", detail, errors=[FieldError("query:source", "is unknown")]
            )
        if call.query("follow", "false") == "true":
            return await self._follow(call.request, source, query, start)
        reader = Reader(plan, self._fields, source, start)
        try:
            lines = await asyncio.to_thread(
                lambda: matching(self._all(reader, source, start), query, int(call.query("limit", "100")))
            )
        finally:
            await asyncio.to_thread(reader.close)
        return Answer(body=Lines(lines=[msgspec.Raw(line) for line in lines]))

    def _start(self, text: str) -> float:
        """Give the Unix seconds that `since` means; 0 without it."""
        if not text:
            return 0.0
        try:
            return self._context.clock.wall_ns() / 1e9 - parse_duration(text) / 1e9
        except ValueError:
            pass
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            fix = "write how long ago, as in 5m, or a time with its zone, as in 2026-05-01T12:00:00Z"
            raise malformed("`since` is neither a duration nor a time.", FieldError("query:since", fix))
        return time.timestamp()

    def _all(self, reader: Reader, source: str, start: float) -> Iterator[bytes]:
        yield from reader.lines()
        if source in ("", PUSHED):
            yield from self._ring.since(start).splitlines()

    async def _follow(self, request: web.Request, source: str, query: str, start: float) -> web.StreamResponse:
        if self.followers >= MAX_FOLLOWERS:
            detail = f"{MAX_FOLLOWERS} followers read already; close one."
            raise Problem(429, "too-many-followers", "Too many followers", detail, headers={"Retry-After": "5"})
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
        self.followers += 1
        try:
            await response.prepare(request)
            async with contextlib.aclosing(self._followed(source, query, start)) as followed:
                async for lines in followed:
                    transport = request.transport
                    if transport is None or transport.is_closing():
                        # Gone; while nothing is written, nothing else would tell.
                        break
                    if lines and not await self._written(response, b"".join(line + b"\n" for line in lines)):
                        # Half an answer must not look like a whole one.
                        transport.abort()
                        break
        except ConnectionError:
            pass
        finally:
            self.followers -= 1
        return response

    async def _written(self, response: web.StreamResponse, data: bytes) -> bool:
        """Write to a follower; false when it takes nothing for long, or nothing while the process ends."""
        writing = asyncio.create_task(response.write(data), name="logs: write to a follower")
        leaving = asyncio.create_task(self._context.leaving.wait(), name="logs: watch for the end")
        try:
            await asyncio.wait({writing}, timeout=0)
            await asyncio.wait({writing, leaving}, timeout=STALLED, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                return False
            writing.result()
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
        return True

    async def _pause(self) -> None:
        """Wait between two looks, but not beyond the end of the process."""
        try:
            async with asyncio.timeout(FOLLOW_PAUSE):
                await self._context.leaving.wait()
        except TimeoutError:
            pass

    async def _followed(self, source: str, query: str, start: float) -> AsyncGenerator[list[bytes]]:
        """Give new records as they come; nothing, from time to time, while none come."""
        reader = Reader(self._plan(), self._fields, source, start)
        mark = self._ring.mark
        try:
            old = await asyncio.to_thread(lambda: matching(self._all(reader, source, start), query, MAX_LIMIT))
            if start and old:
                yield old
            while not self._context.leaving.is_set():
                found = await asyncio.to_thread(lambda: matching(reader.lines(), query, MAX_LIMIT))
                if source in ("", PUSHED):
                    pushed, mark = self._ring.after(mark), self._ring.mark
                    found += matching(pushed.splitlines(), query, MAX_LIMIT)
                yield found
                await self._pause()
        finally:
            await asyncio.to_thread(reader.close)

    def operations(self) -> Sequence[Operation]:
        """Give the routes."""
        flag: Mapping[str, object] = {"type": "string", "enum": ["true", "false"], "default": "false"}
        number: Mapping[str, object] = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}
        parameters = (
            _text("q", "Words that a record must hold, whatever the case.", 256),
            _text("source", "Only this source.", 63),
            _text(
                "since",
                "Only records from then on: how long ago, as in `5m`, or a time, as in `2026-05-01T12:00:00Z`.",
                64,
            ),
            Parameter(name="limit", place="query", description="At most so many, the newest.", schema=number),
            Parameter(
                name="follow",
                place="query",
                description="`true` streams new records as NDJSON until the client goes.",
                schema=flag,
            ),
        )
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
                parameters=parameters,
                replies={200: Reply(description="Records, oldest first.", type=Lines, further_media={NDJSON: bytes})},
            ),
        ]


def _text(name: str, description: str, length: int) -> Parameter:
    schema: Mapping[str, Any] = {"type": "string", "maxLength": length}
    return Parameter(name=name, place="query", description=description, schema=schema)
