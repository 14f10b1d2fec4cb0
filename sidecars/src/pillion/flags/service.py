"""The flag block at work: OFREP single evaluation on the hot lane, bulk evaluation, explanation and listing beside it.

All that can be encoded before a request comes is encoded when a configuration is prepared; a single evaluation then decodes the context, runs the
compiled rule and hands out bytes that exist. A swap changes one reference, so no request sees half a ruleset; counts go on where a flag has not
changed. Configuration alone decides the answers: there is no state to lose.
"""

import asyncio
import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from pillion.flags.bucketing import Generation
from pillion.flags.counters import FlagMetrics, Totals, carried_over
from pillion.flags.engine import Definition, Flag, Outcome, Ruleset, build_flags
from pillion.flags.explain import explain
from pillion.flags.ofrep import (
    InvalidContext,
    bulk_body,
    bulk_failure,
    entity_tag,
    invalid_context,
    matches,
    not_found,
    outcome_answer,
    outcome_body,
    read_context,
)
from pillion.flags.routes import PAGE, ExplainRequest, hot, ordinary
from pillion.flags.views import FlagList, is_expired, view
from pillion.kinds.model import JSON
from pillion.runtime.block import BlockConfiguration, Context, Prepared, Refused, Unready
from pillion.runtime.operation import Answer, Call, HotAnswer, HotOperation, Operation
from pillion.runtime.problems import Problem

_T = TypeVar("_T")

KIND: Final = "FeatureFlag"

_PAUSE_EVERY: Final = 100
"""Flags that are built before other work gets its turn; about 10 ms."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The compiled `flags` section of a SidecarProfile."""

    fractional: Generation = "v2"
    metadata: dict[str, JSON] = {}
    null_variant: bool = True


class _Served:
    """A flag with what it takes to serve it: its resource, its encoded answers, and how often each was given."""

    __slots__ = ("answers", "counts", "flag", "resource")

    def __init__(self, flag: Flag, resource: str, answers: tuple[HotAnswer, ...], counts: list[int]) -> None:
        self.flag = flag
        self.resource = resource
        self.answers = answers
        self.counts = counts


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration, swapped in as a whole."""

    settings: Settings
    ruleset: Ruleset
    served: Mapping[str, _Served]
    keys: tuple[str, ...]
    """Sorted."""


class FlagBlock:
    """The block; see `runtime.block.Block`."""

    def __init__(self, context: Context) -> None:
        self._clock = context.clock
        self._totals = Totals()
        settings = Settings()
        ruleset = Ruleset({}, {}, settings.fractional, "")
        self._table = _Table(settings=settings, ruleset=ruleset, served={}, keys=())
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
        kept = before.served if _same(before.settings, settings) else {}
        known = before.ruleset.flags if before.settings.fractional == settings.fractional else None
        flags: dict[str, Flag] = {}
        answers: dict[str, tuple[HotAnswer, ...]] = {}
        for number, flag in enumerate(build_flags(definitions.values(), settings.fractional, known), start=1):
            flags[flag.definition.key] = flag
            answers[flag.definition.key] = _encode(flag, settings, kept.get(flag.definition.key))
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        flags = {key: flags[key] for key in sorted(flags)}
        ruleset = Ruleset(flags, settings.metadata, settings.fractional, _revision(flags.values(), settings))

        def commit() -> None:
            # Counts are taken over here and not above: requests went on being counted while the flags were built.
            old = self._table.served
            self._table = _Table(
                settings=settings,
                ruleset=ruleset,
                served={key: _serve(old.get(key), flag, names[key], answers[key]) for key, flag in flags.items()},
                keys=tuple(flags),
            )

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
        flag = served.flag
        outcome = flag.evaluate(context, self._now() if flag.reads_time else 0)
        served.counts[outcome.index] += 1
        return (
            served.answers[outcome.index] if outcome is flag.outcomes[outcome.index] else self._failure(flag, outcome)
        )

    def _failure(self, flag: Flag, outcome: Outcome) -> HotAnswer:
        """Encode an error that names what this one evaluation came to."""
        return outcome_answer(outcome_body(flag, outcome, {}, null_variant=False), outcome)

    async def evaluate_all(self, call: Call[bytes]) -> Answer:
        """Answer an OFREP bulk evaluation, or 304 where nothing that it depends on has changed."""
        table = self._table
        now = self._now()
        bodies: dict[str, bytes] = {}
        try:
            context = read_context(call.body)
            for flag in table.ruleset.timed:
                bodies[flag.definition.key] = self._answered(table, flag, context, now)
            tag = entity_tag(table.ruleset, context, list(bodies.values()))
        except InvalidContext as error:
            self._totals.invalid += 1
            return Answer(status=400, body=bulk_failure(error))
        if matches(call.request.headers.get("If-None-Match", ""), tag):
            self._totals.bulk_unmodified += 1
            return Answer(status=304, headers={"ETag": tag})
        for key, flag in table.ruleset.flags.items():
            if key not in bodies:
                bodies[key] = self._answered(table, flag, context, now)
        self._totals.bulk += 1
        return Answer(
            body=bulk_body([bodies[key] for key in table.keys], table.settings.metadata), headers={"ETag": tag}
        )

    def _answered(self, table: _Table, flag: Flag, context: Mapping[str, JSON], now: int) -> bytes:
        outcome = flag.evaluate(context, now)
        served = table.served[flag.definition.key]
        served.counts[outcome.index] += 1
        if outcome is flag.outcomes[outcome.index]:
            return served.answers[outcome.index].body
        return self._failure(flag, outcome).body

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
        """Give how often each flag was evaluated, and whether it should be gone."""
        now = self._now()
        return {
            (KIND, served.resource): {"evaluations": sum(served.counts), "expired": is_expired(served.flag, now)}
            for served in self._table.served.values()
        }

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


def _revision(flags: Iterable[Flag], settings: Settings) -> str:
    """Give a text that changes whenever an answer may change."""
    digest = hashlib.sha256(msgspec.json.encode(settings))
    for flag in flags:
        digest.update(b"\n" + flag.fingerprint)
    return digest.hexdigest()[:32]


def _same(one: Settings, other: Settings) -> bool:
    """Compare settings as JSON, where 1, 1.0 and true differ."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _encode(flag: Flag, settings: Settings, old: _Served | None) -> tuple[HotAnswer, ...]:
    """Encode all answers of a flag, or take over those of *old* if it is the same flag."""
    if old is not None and old.flag is flag:
        return old.answers
    metadata, null_variant = settings.metadata, settings.null_variant
    return tuple(
        outcome_answer(outcome_body(flag, outcome, metadata, null_variant=null_variant), outcome)
        for outcome in flag.outcomes
    )


def _serve(old: _Served | None, flag: Flag, resource: str, answers: tuple[HotAnswer, ...]) -> _Served:
    """Put a flag to work; counts go on where an answer is still one."""
    if old is None:
        counts = [0] * len(answers)
    elif old.flag is flag:
        counts = old.counts
    else:
        counts = carried_over(old.flag, old.counts, flag)
    return _Served(flag, resource, answers, counts)


def create(context: Context) -> FlagBlock:
    """Create the block."""
    return FlagBlock(context)
