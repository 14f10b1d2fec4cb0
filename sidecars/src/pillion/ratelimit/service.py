"""Rate limiting at work: engine, memory and time put together behind the routes.

A check is answered by one plain function, without a coroutine, on both lanes of the server. Time is the wall clock at the start carried on by
the monotonic clock: windows are aligned as people expect, and no step of the wall clock ever grants or takes quota.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from pillion.kinds.exchange import ConditionReport
from pillion.ratelimit.checks import Checks, malformed_attributes, unknown_policy, wants_status
from pillion.ratelimit.compiled import CompiledPolicy, CompiledSettings
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.engine import Engine, UnknownPolicy
from pillion.ratelimit.forwarded import attributes_of
from pillion.ratelimit.kind import RATE_LIMIT_POLICY
from pillion.ratelimit.matching import MalformedAttribute
from pillion.ratelimit.metrics import Decisions, RateLimitCollector, RateLimitStatistics
from pillion.ratelimit.routes import hot_operations, operations
from pillion.runtime.block import Block, BlockConfiguration, Context, Prepared, Refused
from pillion.runtime.operation import Again, Answer, Call, HotAnswer, HotOperation, Operation
from pillion.runtime.problems import PROBLEM_MEDIA, FieldError

JSON = Any

SWEEP_PAUSE: Final = 0.05
"""Seconds between two steps of a sweep. A step takes some 0.2 ms, so that sweeping costs at most half a percent of a core."""

SWEEP_REST: Final = 5.0
"""Seconds between two sweeps: how long a counter may outlive its meaning while there is room."""

EVERYBODY: Final = 100
"""Percent of the callers for whom a rule without restriction is enforced."""


class RateLimit:
    """The block.

    Args:
        context: what the runtime lends.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._monotonic_ns = context.clock.monotonic_ns
        self._offset = context.clock.wall_ns() - context.clock.monotonic_ns()
        self._settings = CompiledSettings()
        self._counters = Counters(self._settings.max_keys)
        self._checks = Checks(Engine({}, self._counters), self._counters)
        self._shadowing: Sequence[ConditionReport] = ()
        context.metrics.register(RateLimitCollector(self.statistics))

    def operations(self) -> Sequence[Operation]:
        """Give the routes of the ordinary lane."""
        return operations(self.authorize)

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give the routes of the hot lane."""
        return hot_operations(self.check, self.check_again, self.check_batch)

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Build an engine for *configuration* beside the one that runs.

        Raises:
            Refused: a policy cannot be read.
        """
        settings = msgspec.convert(configuration.settings or {}, CompiledSettings)
        policies = {}
        for name, compiled in configuration.resources.get(RATE_LIMIT_POLICY.kind, {}).items():
            try:
                policies[name] = msgspec.convert(compiled, CompiledPolicy)
            except msgspec.ValidationError as error:
                raise Refused(
                    f"RateLimitPolicy {name}: {error}; upgrade the sidecar to the operator's version"
                ) from None
        try:
            engine = Engine(policies, self._counters, self._checks.engine.tallies)
        except ValueError as error:
            raise Refused(f"a RateLimitPolicy cannot be read: {error}") from None
        checks = Checks(engine, self._counters)
        shadowing = tuple(report for name, policy in policies.items() for report in _shadowing(name, policy))

        def commit() -> None:
            self._settings = settings
            self._shadowing = shadowing
            self._counters.max_keys = settings.max_keys
            engine.adopt()
            self._checks.live.now = False
            self._checks = checks

        return Prepared(commit=commit)

    async def start(self) -> None:
        """Begin to sweep."""
        self._context.tasks.spawn("sweep", self._sweep)

    async def drain(self) -> None:
        """Nothing is in flight: a decision is made in one step."""

    async def stop(self) -> None:
        """Nothing is kept: counters live in memory only."""

    def statistics(self) -> RateLimitStatistics:
        """Give what it is doing now."""
        engine, counters = self._checks.engine, self._counters
        return RateLimitStatistics(
            policies={
                name: Decisions(tally.allowed, tally.limited, tally.shadowed) for name, tally in engine.tallies.items()
            },
            rules=sum(len(policy.rules) for policy in engine.policies),
            limits=len(engine.limits),
            keys=counters.keys,
            max_keys=counters.max_keys,
            evictions=counters.evictions,
            expirations=counters.expirations,
        )

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Nothing is shown per resource yet."""
        return {}

    def reports(self) -> Sequence[ConditionReport]:
        """Name the policies with rules that refuse nobody."""
        return self._shadowing

    def check(self, _rest: str, query: str, body: bytes) -> HotAnswer:
        """Answer `POST /v1/ratelimit/check`.

        Raises:
            Problem: the body cannot be read, or names an unknown policy; nothing was charged.
        """
        checks = self._checks
        now = self._monotonic_ns() + self._offset
        known = checks.remembered.get(body)
        if known is not None:
            shortcut, key, index, cost, _ = known
            answer = shortcut(key, index, cost, now, query != "" and wants_status(query))
            if answer is not None:
                return answer
        return checks.answer(query, body, now)

    def check_again(self, _rest: str, _query: str, body: bytes) -> Again | None:
        """Give what answers a check once more that was just answered."""
        return self._checks.again(body, self._monotonic_ns, self._offset)

    def check_batch(self, _rest: str, _query: str, body: bytes) -> HotAnswer:
        """Answer `POST /v1/ratelimit/check:batch`.

        Raises:
            Problem: a check cannot be read, or names an unknown policy; nothing was charged.
        """
        return self._checks.answer_batch(body, self._monotonic_ns() + self._offset)

    async def authorize(self, call: Call[None]) -> Answer:
        """Answer `/v1/ratelimit/authorize`.

        Raises:
            Problem: the query names an unknown policy; nothing was charged.
        """
        request = call.request
        attributes = attributes_of(
            request.method, request.headers.items(), request.remote, trusted_hops=self._settings.trusted_hops
        )
        cost = int(call.query("cost", "1"))
        now = self._monotonic_ns() + self._offset
        try:
            decision = self._checks.engine.check(call.query("policy") or None, attributes, cost, now)
        except UnknownPolicy as unknown:
            raise unknown_policy(unknown, "query:policy") from None
        except MalformedAttribute as wrong:
            raise malformed_attributes(
                [FieldError(f"header:{wrong.attribute.removeprefix('header.')}", wrong.detail)]
            ) from None
        answers = self._checks.answers
        if decision.allowed:
            return Answer(headers=_fields(answers.headers(decision)))
        refusal = answers.refusal(decision, cost, int(call.query("deny_status", "429")))
        headers = _fields(refusal.headers)
        return Answer(status=refusal.status, headers=headers, body=refusal.body, media=PROBLEM_MEDIA)

    async def _sweep(self) -> None:
        while True:
            more = self._counters.sweep(self._monotonic_ns() + self._offset)
            await asyncio.sleep(SWEEP_PAUSE if more else SWEEP_REST)


def _shadowing(name: str, policy: CompiledPolicy) -> Iterator[ConditionReport]:
    rules = [rule.name for rule in policy.rules if rule.percent < EVERYBODY]
    if rules:
        message = f"rules that only count, for some or all callers: {', '.join(rules)}; to enforce them for all set enforcement.mode to enforce and enforcement.percent to 100"
        yield ConditionReport(
            kind=RATE_LIMIT_POLICY.kind, name=name, type="Shadowing", reason="RulesShadowed", message=message
        )


def _fields(lines: str) -> dict[str, str]:
    """Turn header lines into fields, for the ordinary lane."""
    return dict(line.split(": ", 1) for line in lines.split("\r\n") if line)


def create(context: Context) -> Block:
    """Make the block."""
    return RateLimit(context)
