"""Checks under one configuration: from the bytes of a body to the bytes of an answer.

The service makes one `Checks` per configuration and swaps it as a whole. A plain check is remembered by its bytes: a caller that asks the same
thing again (the same user on the same route) is not parsed and matched again, only decided on. What is remembered depends on the
configuration alone, is bounded, and is forgotten with it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from pillion.kinds.violations import did_you_mean
from pillion.ratelimit.answers import Answers
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.decisions import Limit
from pillion.ratelimit.engine import Engine, UnknownPolicy
from pillion.ratelimit.matching import Key, MalformedAttribute
from pillion.ratelimit.messages import attribute_pointer, decode_batch, decode_check
from pillion.ratelimit.shortcut import Live, Shortcut, again, shortcut
from pillion.runtime.operation import Again, HotAnswer
from pillion.runtime.problems import PROBLEM_MEDIA, FieldError, Problem

MAX_REMEMBERED: Final = 4096
"""Bodies that are remembered; then all are forgotten. Typically 1.5 MB, at most 2.5 MB."""

MAX_REMEMBERED_BYTES: Final = 256
"""Bytes of a body that is remembered."""

_ERRORS_SHOWN: Final = 100
"""Wrong checks of a batch that are named."""

Remembered = tuple[Shortcut, Key, int, int, Limit]
"""What a plain check comes down to: who answers, under which key, in which shard, for which cost, by which limit."""


class Checks:
    """Answers checks.

    Args:
        engine: decides.
        counters: its memory.
    """

    def __init__(self, engine: Engine, counters: Counters) -> None:
        self.engine = engine
        self.answers = Answers(engine.limits)
        self.remembered: dict[bytes, Remembered] = {}
        """Looked up by the service, before it calls `answer`."""
        self.live = Live()
        """Turned off by the service when another configuration takes over."""
        texts = self.answers.texts
        self._shortcuts = [
            shortcut(limit, texts[limit.index], engine.tallies[limit.policy], counters) for limit in engine.limits
        ]

    def answer(self, query: str, body: bytes, now: int) -> HotAnswer:
        """Answer one check.

        Args:
            query: the raw query string.
            body: the body.
            now: nanoseconds since the Unix epoch; must not go back.

        Raises:
            Problem: the body cannot be read, or names an unknown policy; nothing was charged.
        """
        check = decode_check(body)
        status = wants_status(query)
        engine = self.engine
        try:
            plan = engine.plan(check.policy, check.attributes)
        except UnknownPolicy as unknown:
            raise unknown_policy(unknown) from None
        except MalformedAttribute as wrong:
            raise malformed_attributes([FieldError(attribute_pointer("#", wrong.attribute), wrong.detail)]) from None
        cost = check.cost
        if isinstance(plan, list) and len(plan) == 1 and not check.peek:
            rule, key = plan[0]
            if rule.single:
                limit = rule.limits[0]
                index = hash(key) & limit.mask
                short = self._shortcuts[limit.index]
                if len(body) <= MAX_REMEMBERED_BYTES:
                    if len(self.remembered) >= MAX_REMEMBERED:
                        self.remembered.clear()
                    self.remembered[body] = (short, key, index, cost, limit)
                answer = short(key, index, cost, now, status)
                if answer is not None:
                    return answer
        decision = engine.decide(plan, cost, now, peek=check.peek)
        if status and not decision.allowed:
            refusal = self.answers.refusal(decision, cost)
            return HotAnswer(refusal.status, refusal.headers, refusal.body, PROBLEM_MEDIA)
        return HotAnswer(200, self.answers.headers(decision), self.answers.body(decision, cost).encode())

    def again(self, body: bytes, clock: Callable[[], int], offset: int) -> Again | None:
        """Give what answers *body* once more; None where nothing does."""
        known = self.remembered.get(body)
        if known is None:
            return None
        _, key, _, cost, limit = known
        texts, tally = self.answers.texts[limit.index], self.engine.tallies[limit.policy]
        return again(limit, texts, tally, key, cost, live=self.live, clock=clock, offset=offset)

    def answer_batch(self, body: bytes, now: int) -> HotAnswer:
        """Answer a batch. See `answer` for arguments.

        Raises:
            Problem: a check cannot be read, or names an unknown policy; nothing was charged.
        """
        checks = decode_batch(body).checks
        engine, answers = self.engine, self.answers
        plans, errors = [], []
        for index, check in enumerate(checks):
            try:
                plans.append(engine.plan(check.policy, check.attributes))
            except UnknownPolicy as unknown:
                errors.append(FieldError(f"#/checks/{index}/policy", _no_policy(unknown)))
            except MalformedAttribute as wrong:
                errors.append(FieldError(attribute_pointer(f"#/checks/{index}", wrong.attribute), wrong.detail))
        if errors:
            raise malformed_attributes(errors[:_ERRORS_SHOWN])
        results = [
            answers.body(engine.decide(plan, check.cost, now, peek=check.peek), check.cost)
            for check, plan in zip(checks, plans, strict=True)
        ]
        return HotAnswer(200, "", f'{{"results":[{",".join(results)}]}}'.encode())


@lru_cache(maxsize=64)
def wants_status(query: str) -> bool:
    """Tell whether a query string asks for a refusal as an HTTP status."""
    return ("enforce", "status") in parse_qsl(query)


def _no_policy(unknown: UnknownPolicy) -> str:
    return f'There is no policy "{unknown.name[:100]}" here; {did_you_mean(unknown.name[:253], unknown.known)}'


def unknown_policy(unknown: UnknownPolicy, pointer: str = "#/policy") -> Problem:
    """Give the problem of a request that names, at *pointer*, a policy which is not here."""
    return Problem(
        404,
        "unknown-policy",
        "Unknown policy",
        _no_policy(unknown),
        errors=[FieldError(pointer, "names no policy of this sidecar")],
        extensions={"known-policies": unknown.known[:100]},
    )


def malformed_attributes(errors: Sequence[FieldError]) -> Problem:
    """Give the problem of attributes that a rule cannot read."""
    return Problem(422, "invalid-body", "Invalid body", f"{errors[0].pointer}: {errors[0].detail}.", errors=errors)
