"""Rate limiting at work: engine, memory and time put together behind the routes.

A check is answered by one plain function, without a coroutine, on both lanes of the server. Time is the wall clock at the start carried on by
the monotonic clock: windows are aligned as people expect, and no step of the wall clock ever grants or takes quota.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from pillion.kinds.violations import did_you_mean
from pillion.ratelimit.answers import Answers
from pillion.ratelimit.compiled import CompiledPolicy, CompiledSettings
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.engine import Engine, UnknownPolicy
from pillion.ratelimit.forwarded import attributes_of
from pillion.ratelimit.kind import RATE_LIMIT_POLICY
from pillion.ratelimit.matching import MalformedAttribute
from pillion.ratelimit.messages import attribute_pointer, decode_batch, decode_check
from pillion.ratelimit.metrics import Decisions, RateLimitCollector, RateLimitStatistics
from pillion.ratelimit.routes import hot_operations, operations
from pillion.runtime.block import Block, BlockConfiguration, Context, Prepared, Refused
from pillion.runtime.operation import JSON_MEDIA, Answer, Call, HotAnswer, HotOperation, Operation
from pillion.runtime.problems import PROBLEM_MEDIA, FieldError, Problem

JSON = Any

SWEEP_PAUSE: Final = 0.05
"""Seconds between two steps of a sweep. A step takes some 0.2 ms, so that sweeping costs at most half a percent of a core."""

SWEEP_REST: Final = 5.0
"""Seconds between two sweeps: how long a counter may outlive its meaning while there is room."""

_tuple: Final = tuple.__new__
"""Makes a named tuple without its Python constructor, which would take longer than the decision."""


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
        self._engine = Engine({}, self._counters)
        self._answers = Answers(())
        context.metrics.register(RateLimitCollector(self.statistics))

    def operations(self) -> Sequence[Operation]:
        """Give the routes of the ordinary lane."""
        return operations(self.authorize)

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give the routes of the hot lane."""
        return hot_operations(self.check, self.check_batch)

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
            engine = Engine(policies, self._counters, self._engine.tallies)
        except ValueError as error:
            raise Refused(f"a RateLimitPolicy cannot be read: {error}") from None
        answers = Answers(engine.limits)

        def commit() -> None:
            self._settings = settings
            self._counters.max_keys = settings.max_keys
            engine.adopt()
            self._engine, self._answers = engine, answers

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
        engine, counters = self._engine, self._counters
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

    def check(self, _rest: str, query: str, body: bytes) -> HotAnswer:
        """Answer `POST /v1/ratelimit/check`.

        Raises:
            Problem: the body cannot be read, or names an unknown policy; nothing was charged.
        """
        check = decode_check(body)
        try:
            decision = self._engine.check(
                check.policy, check.attributes, check.cost, self._monotonic_ns() + self._offset, peek=check.peek
            )
        except UnknownPolicy as unknown:
            raise _unknown_policy(unknown) from None
        except MalformedAttribute as wrong:
            raise _malformed([FieldError(attribute_pointer("#", wrong.attribute), wrong.detail)]) from None
        answers = self._answers
        if query and not decision.allowed and ("enforce", "status") in parse_qsl(query):
            refusal = answers.refusal(decision, check.cost)
            return HotAnswer(refusal.status, refusal.headers, refusal.body, PROBLEM_MEDIA)
        text = answers.body(decision, check.cost)
        return _tuple(HotAnswer, (200, answers.headers(decision), text.encode(), JSON_MEDIA))

    def check_batch(self, _rest: str, _query: str, body: bytes) -> HotAnswer:
        """Answer `POST /v1/ratelimit/check:batch`.

        Raises:
            Problem: a check cannot be read, or names an unknown policy; nothing was charged.
        """
        checks = decode_batch(body).checks
        engine, answers = self._engine, self._answers
        plans, errors = [], []
        for index, check in enumerate(checks):
            try:
                plans.append(engine.plan(check.policy, check.attributes))
            except UnknownPolicy as unknown:
                errors.append(FieldError(f"#/checks/{index}/policy", _no_policy(unknown)))
            except MalformedAttribute as wrong:
                errors.append(FieldError(attribute_pointer(f"#/checks/{index}", wrong.attribute), wrong.detail))
        if errors:
            raise _malformed(errors[:100])
        now = self._monotonic_ns() + self._offset
        results = [
            answers.body(engine.decide(plan, check.cost, now, peek=check.peek), check.cost)
            for check, plan in zip(checks, plans, strict=True)
        ]
        return HotAnswer(200, "", f'{{"results":[{",".join(results)}]}}'.encode())

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
        try:
            decision = self._engine.check(
                call.query("policy") or None, attributes, cost, self._monotonic_ns() + self._offset
            )
        except UnknownPolicy as unknown:
            raise _unknown_policy(unknown) from None
        except MalformedAttribute as wrong:
            raise _malformed([FieldError(f"header:{wrong.attribute.removeprefix('header.')}", wrong.detail)]) from None
        if decision.allowed:
            return Answer(headers=_fields(self._answers.headers(decision)))
        refusal = self._answers.refusal(decision, cost, int(call.query("deny_status", "429")))
        headers = _fields(refusal.headers)
        return Answer(status=refusal.status, headers=headers, body=refusal.body, media=PROBLEM_MEDIA)

    async def _sweep(self) -> None:
        while True:
            more = self._counters.sweep(self._monotonic_ns() + self._offset)
            await asyncio.sleep(SWEEP_PAUSE if more else SWEEP_REST)


def _fields(lines: str) -> dict[str, str]:
    """Turn header lines into fields, for the ordinary lane."""
    return dict(line.split(": ", 1) for line in lines.split("\r\n") if line)


def _no_policy(unknown: UnknownPolicy) -> str:
    return f'There is no policy "{unknown.name[:100]}" here; {did_you_mean(unknown.name[:253], unknown.known)}'


def _unknown_policy(unknown: UnknownPolicy) -> Problem:
    detail = _no_policy(unknown)
    return Problem(
        404,
        "unknown-policy",
        "Unknown policy",
        detail,
        errors=[FieldError("#/policy", "names no policy of this sidecar")],
        extensions={"known-policies": unknown.known[:100]},
    )


def _malformed(errors: Sequence[FieldError]) -> Problem:
    return Problem(422, "invalid-body", "Invalid body", f"{errors[0].pointer}: {errors[0].detail}.", errors=errors)


def create(context: Context) -> Block:
    """Make the block."""
    return RateLimit(context)
