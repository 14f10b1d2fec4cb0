"""What the hot lane does about one request, decided from its request line and then from its head alone."""

from collections.abc import Callable
from typing import NamedTuple

from pillion.runtime.operation import SHORTCUT_BODY, Again, Hot, HotAnswer, Operation, Shortcut


class Later(NamedTuple):
    """How a request is begun whose answer comes later.

    Args:
        submit: the operation's shortcut.
        route: the path template, for metrics.
    """

    submit: Shortcut
    route: str


class Target(NamedTuple):
    """Where a request line leads.

    Args:
        answer: the function of the hot operation; its parameters are checked.
        rest: the path parameter.
        query: the raw query string.
        max_body: bytes of a body that is taken; 0 for a route that reads none.
        statuses: the counts to increment.
        again: the function that gives what answers a request again.
        later: how a request is begun whose answer comes later.
        unless: names of header fields with which a request is the ordinary lane's.
    """

    answer: Hot
    rest: str
    query: str
    max_body: int
    statuses: dict[int, int]
    again: Callable[[str, str, bytes], Again | None] | None = None
    later: Later | None = None
    unless: frozenset[str] = frozenset()


class Plan(NamedTuple):
    """What to do about one head.

    Args:
        answer: the function to call.
        rest: its first argument.
        query: its second argument.
        body: where its third argument begins, from the beginning of the request.
        end: where the request ends.
        statuses: the counts to increment.
        request_id: what to repeat; empty for nothing.
        again: the function that gives what answers a request again; None also where the head varies.
        later: how it is begun if its answer comes later; `answer` then raises.
    """

    answer: Hot
    rest: str
    query: str
    body: int
    end: int
    statuses: dict[int, int]
    request_id: str
    again: Callable[[str, str, bytes], Again | None] | None
    later: Later | None = None


def shortened(operation: Operation, statuses: dict[int, int]) -> Target:
    """Say where the request line of an operation with a shortcut leads; *statuses* are its counts."""
    assert operation.shortcut is not None  # noqa: S101 - asked for no others
    return Target(
        _later,
        "",
        "",
        min(operation.max_body, SHORTCUT_BODY),
        statuses,
        later=Later(operation.shortcut, operation.path),
        unless=frozenset(one.name.lower() for one in operation.parameters if one.place == "header"),
    )


def _later(_rest: str, _query: str, _body: bytes) -> HotAnswer:
    """Leave a request to the ordinary lane: there is no answer at once, and of several that come together none is begun before its turn."""
    raise LookupError("the answer comes later")
