"""What the hot lane does about one request, decided from its head alone."""

from collections.abc import Callable
from typing import NamedTuple

from pillion.runtime.operation import Again, Hot


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
    """

    answer: Hot
    rest: str
    query: str
    body: int
    end: int
    statuses: dict[int, int]
    request_id: str
    again: Callable[[str, str, bytes], Again | None] | None
