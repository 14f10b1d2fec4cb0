"""The flag block at work: OFREP single evaluation on the hot lane, bulk evaluation, explanation and listing beside it.

All that can be encoded before a request comes is encoded when a configuration is prepared; a single evaluation then decodes the context, runs the
compiled rule and hands out bytes that exist. A swap changes one reference, so no request sees half a ruleset; counts go on where a flag has not
changed. Configuration alone decides the answers: there is no state to lose.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from pillion.flags.counters import FlagMetrics, Totals
from pillion.flags.engine import Definition, Flag, Ruleset, build_flags
from pillion.flags.explain import explain
from pillion.flags.ofrep import (
    InvalidContext,
    bulk_body,
    bulk_failure,
    entity_tag,
    invalid_context,
    matches,
    not_found,
    read_context,
)
from pillion.flags.routes import PAGE, ExplainRequest, hot, ordinary
from pillion.flags.table import (
    Served,
    Settings,
    Table,
    empty,
    encode_answers,
    revision_of,
    same_settings,
)
from pillion.flags.views import FlagList, is_expired, view
from pillion.kinds.exchange import ConditionReport
from pillion.kinds.model import JSON
from pillion.runtime.block import BlockConfiguration, Context, Prepared, Refused, Unready
from pillion.runtime.operation import Answer, Call, HotAnswer, HotOperation, Operation
from pillion.runtime.problems import Problem

_T = TypeVar("_T")

KIND: Final = "FeatureFlag"

_PAUSE_EVERY: Final = 200
"""Flags that are built, or evaluated at once, before other work gets its turn: 10 ms, or less than one."""


class FlagBlock:
    """The block; see `runtime.block.Block`."""

    def __init__(self, context: Context) -> None:
        self._clock = context.clock
        self._totals = Totals()
        self._table = empty()
        context.metrics.register(FlagMetrics(self._counted, self._totals, self._expired))

    # --- configuration

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Build all flags beside those that run.

        Raises:
            Refused: a definition cannot be read.
        """
        settings = _convert(configuration.settings or {}, Settings, "the flags section of the SidecarProfile")
        resources = configuration.resources.get(KIND, {})
        definitions: dict[str, Definition] = {}
        names: dict[str, str] = {}
        unready: list[Unready] = []
        for name in sorted(resources):
            definition = _convert(resources[name], Definition, f"{KIND} {name}")
            if definition.key in definitions:
                unready.append(_taken(name, definition.key, names[definition.key]))
            else:
                definitions[definition.key] = definition
                names[definition.key] = name
        before = self._table
        kept = before.served if same_settings(before.settings, settings) else {}
        known = before.ruleset.flags if before.settings.fractional == settings.fractional else None
        served: dict[str, Served] = {}
        fresh: list[Served] = []
        for number, flag in enumerate(build_flags(definitions.values(), settings.fractional, known), start=1):
            key = flag.definition.key
            old = kept.get(key)
            if old is None or old.flag is not flag or old.resource != names[key]:
                old = Served(flag, names[key], encode_answers(flag, settings))
                fresh.append(old)
            served[key] = old
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        served = {key: served[key] for key in sorted(served)}
        flags = {key: one.flag for key, one in served.items()}
        revision = revision_of(flags.values(), settings)
        table = Table(settings, Ruleset(flags, settings.metadata, settings.fractional, revision), served)

        def commit() -> None:
            # Counts are inherited here and not above: requests went on being counted while the flags were built.
            before = self._table.served
            for new in fresh:
                if new.flag.definition.key in before:
                    new.inherit(before[new.flag.definition.key])
            self._table = table

        return Prepared(commit=commit, unready=tuple(unready))

    async def start(self) -> None:
        """Open nothing: answers depend on configuration and request alone."""

    async def drain(self) -> None:
        """Finish nothing: no answer takes longer than its request."""

    async def stop(self) -> None:
        """Release nothing."""

    # --- evaluation

    def evaluate(self, key: str, _query: str, body: bytes) -> HotAnswer:
        """Answer an OFREP single evaluation."""
        try:
            context = read_context(body)
        except InvalidContext as error:
            self._totals.invalid += 1
            return invalid_context(key, error)
        served = self._table.served.get(key)
        if served is None:
            self._totals.not_found += 1
            return not_found(key)
        return served.answer(context, self._now() if served.flag.reads_time else 0)

    async def evaluate_all(self, call: Call[bytes]) -> Answer:
        """Answer an OFREP bulk evaluation, or 304 where nothing that it depends on has changed."""
        table, now = self._table, self._now()
        bodies = [b""] * len(table.keys)
        try:
            context = read_context(call.body)
            for place, served in table.timed:
                bodies[place] = served.answer(context, now).body
            tag = entity_tag(table.ruleset, context, [bodies[place] for place, _ in table.timed])
        except InvalidContext as error:
            self._totals.invalid += 1
            return Answer(status=400, body=bulk_failure(error))
        if matches(call.request.headers.get("If-None-Match", ""), tag):
            self._totals.bulk_unmodified += 1
            return Answer(status=304, headers={"ETag": tag})
        for number, (place, served) in enumerate(table.lasting, start=1):
            bodies[place] = served.answer(context, now).body
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        self._totals.bulk += 1
        return Answer(body=bulk_body(bodies, table.settings.metadata), headers={"ETag": tag})

    def _now(self) -> int:
        return self._clock.wall_ns() // 1_000_000_000

    # --- insight

    async def explain(self, call: Call[ExplainRequest]) -> Answer:
        """Tell how one flag comes to its answer.

        Raises:
            Problem: 404 for a flag that does not exist.
        """
        table, key = self._table, call.path("key")
        served = table.served.get(key)
        if served is None:
            raise Problem(404, "unknown-flag", "Unknown flag", f'There is no flag "{key}"; GET /v1/flags lists them.')
        now = self._now() if call.body.timestamp is None else call.body.timestamp
        return Answer(body=explain(served.flag, served.resource, table.ruleset, call.body.context, now))

    async def list_flags(self, call: Call[None]) -> Answer:
        """List the flags with what they read and how often they gave which answer."""
        table, now = self._table, self._now()
        first = bisect_right(table.keys, call.query("after"))
        keys = table.keys[first : first + int(call.query("limit", str(PAGE)))]
        more = bool(keys) and keys[-1] != table.keys[-1]
        listed = FlagList(
            revision=table.ruleset.revision,
            fractional=table.settings.fractional,
            total=len(table.keys),
            flags=tuple(view(s.flag, s.resource, s.counts, now) for s in map(table.served.__getitem__, keys)),
            next=keys[-1] if more else "",
        )
        return Answer(body=listed)

    def statistics(self) -> JSON:
        """Give the number of flags, their revision, and what was asked of them."""
        table, totals = self._table, self._totals
        return {
            "flags": len(table.served),
            "revision": table.ruleset.revision,
            "fractional": table.settings.fractional,
            "evaluations": sum(sum(served.counts) for served in table.served.values()),
            "bulk": totals.bulk,
            "bulkUnmodified": totals.bulk_unmodified,
            "notFound": totals.not_found,
            "invalidContext": totals.invalid,
        }

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Nothing: a count per flag would move with every look, and be a write to each of thousands of resources; metrics have it."""
        return {}

    def reports(self) -> Iterator[ConditionReport]:
        """Name the flags that should be gone."""
        now = self._now()
        for served in self._table.served.values():
            if is_expired(served.flag, now):
                date = datetime.fromtimestamp(served.flag.definition.expires, UTC).strftime("%Y-%m-%d")
                yield ConditionReport(
                    kind=KIND,
                    name=served.resource,
                    type="Expired",
                    reason="DatePassed",
                    message=f"expired on {date}; remove the flag and its use in the code, or set a later spec.expires",
                )

    def _counted(self) -> Iterable[tuple[Flag, list[int]]]:
        return ((served.flag, served.counts) for served in self._table.served.values())

    def _expired(self) -> int:
        now = self._now()
        return sum(is_expired(served.flag, now) for served in self._table.served.values())

    # --- routes

    def operations(self) -> Sequence[Operation]:
        """Give the routes of the ordinary lane."""
        return ordinary(self.evaluate_all, self.explain, self.list_flags)

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give the route of the hot lane."""
        return (hot(self.evaluate),)


def _convert(value: JSON, model: type[_T], what: str) -> _T:
    """Read a compiled value.

    Raises:
        Refused: it does not fit its model.
    """
    try:
        return msgspec.convert(value, model)
    except msgspec.ValidationError as error:
        raise Refused(f"{what} cannot be read: {error}; compile it with this version of Pillion") from None


def _taken(name: str, key: str, owner: str) -> Unready:
    message = f'the key "{key}" belongs to {KIND} {owner}; give each flag a key of its own'
    return Unready(kind=KIND, name=name, reason="KeyTaken", message=message)


def create(context: Context) -> FlagBlock:
    """Create the block."""
    return FlagBlock(context)
