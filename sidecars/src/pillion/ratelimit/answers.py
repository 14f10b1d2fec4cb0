"""Decisions as they go over the wire: JSON bodies, RateLimit header fields, problem details.

Nearly all of an answer depends on the configuration alone and is written once, when it changes; a decision adds five numbers. That makes an
answer cost less than a microsecond, where building it as a structure and encoding that would cost three.

Header fields follow draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` lists the enforced limits that were consulted, `RateLimit`
describes the one that decided. The quota `q` is what the manifest calls `requests`, the window `w` is its `per` in whole seconds.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from pillion.ratelimit.decisions import NEVER, Decision, Limit
from pillion.runtime.problems import QUOTA_EXCEEDED, TYPE_BASE

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
FRACTIONS: Final = tuple(str(n / 1000)[1:] for n in range(1000))
"""`.0`, `.001` … `.999`; looking one up takes a tenth of formatting it."""

_UNLIMITED: Final = '{"allowed":true,"policy":null,"rule":null,"limit":null,"remaining":null,"resetAfter":0,"retryAfter":0,"shadow":false}'


class Texts(NamedTuple):
    """What is known of one limit's answers beforehand."""

    allowed: str
    refused: str
    shadowed: str
    item: str
    """Its place in RateLimit-Policy."""
    alone: str
    """The header lines of a decision that only it was asked for, up to the number that remains."""
    name: str
    """Its name as a structured field."""


class Refusal(NamedTuple):
    """A refusal as an HTTP answer."""

    status: int
    headers: str
    body: bytes


class Answers:
    """Writes the decisions of one engine.

    Args:
        limits: all its limits, in the order of their index.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.texts = [_texts(limit) for limit in limits]
        """What is known beforehand, by index of the limit."""

    def body(self, decision: Decision, cost: int) -> str:
        """Write the JSON of a decision on a request of *cost*."""
        limit = decision.limit
        if limit is None:
            return _denied(decision) if decision.denied_by else _UNLIMITED
        texts = self.texts[limit.index]
        ms = -(-decision.reset_ns // _MILLISECOND)
        reset = f"{ms // 1000}{FRACTIONS[ms % 1000]}"
        retry_ns = decision.retry_ns
        if retry_ns == 0:
            return f'{texts.allowed}{decision.remaining},"resetAfter":{reset},"retryAfter":0,"shadow":false}}'
        start = texts.shadowed if decision.shadow else texts.refused
        if retry_ns == NEVER:
            detail = f',"detail":{_json(_too_costly(limit, cost))}'
            retry = "null"
        else:
            ms = -(-retry_ns // _MILLISECOND)
            detail, retry = "", f"{ms // 1000}{FRACTIONS[ms % 1000]}"
        shadow = "true" if decision.shadow else "false"
        return f'{start}{decision.remaining},"resetAfter":{reset},"retryAfter":{retry},"shadow":{shadow}{detail}}}'

    def headers(self, decision: Decision) -> str:
        """Write the RateLimit header lines of a decision, each ended by CRLF; none where no enforced limit was consulted."""
        told = decision if decision.enforced is None else decision.enforced
        limit = told.limit
        if limit is None:
            return ""
        texts = self.texts[limit.index]
        if len(told.applied) == 1:
            start = texts.alone
        else:
            policies = ", ".join([self.texts[one.index].item for one in told.applied])
            start = f"RateLimit-Policy: {policies}\r\nRateLimit: {texts.name};r="
        if told.more_ns == NEVER:
            return f"{start}{told.remaining}\r\n"
        return f"{start}{told.remaining};t={-(-told.more_ns // _SECOND)}\r\n"

    def refusal(self, decision: Decision, cost: int, status: int = 429) -> Refusal:
        """Write a refusal as problem details (RFC 9457), with `Retry-After` where waiting helps.

        Args:
            decision: a decision that does not allow.
            cost: what the request would have taken.
            status: HTTP status of a request over a limit; one on a deny list is always 403.
        """
        limit = decision.limit
        # A problem has a detail of its own.
        verdict = self.body(decision, cost).removeprefix("{").partition(',"detail":')[0].removesuffix("}") + "}"
        if limit is None:
            detail = _on_deny_list(decision.denied_by)
            head = _problem(TYPE_BASE + "denied", "Denied", 403, detail, [decision.denied_by])
            return Refusal(403, "", f"{head},{verdict}".encode())
        violated = [one.name for one in decision.violated]
        headers = self.headers(decision)
        if decision.retry_ns == NEVER:
            detail = _too_costly(limit, cost)
        else:
            seconds = -(-decision.retry_ns // _SECOND)
            headers += f"Retry-After: {seconds}\r\n"
            detail = f"Rule {limit.rule} of policy {limit.policy} admits {decision.remaining} more now; try again in {seconds} s."
        head = _problem(QUOTA_EXCEEDED, "Quota exceeded", status, detail, violated)
        return Refusal(status, headers, f"{head},{verdict}".encode())


def _problem(kind: str, title: str, status: int, detail: str, violated: Sequence[str]) -> str:
    """Begin a problem document; the decision's members follow, as RFC 9457 section 3.2 allows."""
    document = {"type": kind, "title": title, "status": status, "detail": detail, "violated-policies": list(violated)}
    return msgspec.json.encode(document).decode().removesuffix("}")


def _denied(decision: Decision) -> str:
    policy = _json(decision.denied_by)
    detail = _json(_on_deny_list(decision.denied_by))
    return f'{{"allowed":false,"policy":{policy},"rule":null,"limit":0,"remaining":0,"resetAfter":0,"retryAfter":null,"shadow":false,"detail":{detail}}}'


def _on_deny_list(policy: str) -> str:
    return f"The request is on the deny list of policy {policy}; waiting does not help."


def _too_costly(limit: Limit, cost: int) -> str:
    return (
        f"A cost of {cost} is above the {limit.burst} that rule {limit.rule} of policy {limit.policy} admits at one moment, so it can never pass; "
        + (
            "split the request or raise the burst."
            if limit.algorithm == "gcra"
            else "split the request or raise the limit."
        )
    )


def _texts(limit: Limit) -> Texts:
    member = f'"policy":{_json(limit.policy)},"rule":{_json(limit.rule)},"limit":{limit.burst},"remaining":'
    name = structured_string(limit.name)
    seconds, rest = divmod(limit.per_ns, _SECOND)
    # A window must be whole seconds; one that is not is left out, as the draft allows.
    item = f"{name};q={limit.requests}" + (f";w={seconds}" if not rest else "")
    return Texts(
        allowed=f'{{"allowed":true,{member}',
        refused=f'{{"allowed":false,{member}',
        shadowed=f'{{"allowed":true,{member}',
        item=item,
        alone=f"RateLimit-Policy: {item}\r\nRateLimit: {name};r=",
        name=name,
    )


def structured_string(text: str) -> str:
    """Write *text* as a String of structured fields (RFC 9651 section 4.1.6).

    Raises:
        ValueError: *text* holds anything but visible ASCII and spaces.
    """
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} cannot stand in a structured field")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()
