"""Heads that differ from request to request only in their ids, as those of every client with tracing do.

Such a head cannot be remembered as it is. But a client writes its fields in one order, and ids have one length, so that its heads are equal outside the
same few ranges. The ranges of the last head of a length are remembered: what lies outside is a dictionary key, what lies inside is checked to be no more
than a value. Then the head is known to read like the one that was read in full, at a quarter of the price.
"""

import re
from typing import Final, NamedTuple

from pillion.runtime import requestids
from pillion.runtime.plans import Plan

_LAYOUTS_MAX: Final = 64
"""Lengths of heads that are remembered."""

_PLANS_MAX: Final = 64
"""Heads of one length that are remembered: routes and lengths of bodies of one client."""

_IDS = re.compile(rb"\r\n(traceparent|tracestate|x-request-id):[ \t]*([!-~][ -~]*)(?=\r\n|\Z)", re.IGNORECASE)
_VALUE = re.compile(rb"[!-~][ -~]*")


class _Layout(NamedTuple):
    """Where ids stand in heads of one length.

    Args:
        kept: the ranges outside of ids.
        ids: the ranges of ids.
        request_id: the range of the request id among them; None where there is none.
        plans: what to do, by what lies outside of the ids.
    """

    kept: tuple[tuple[int, int], ...]
    ids: tuple[tuple[int, int], ...]
    request_id: tuple[int, int] | None
    plans: dict[bytes, Plan]


class Varying:
    """The plans of such heads."""

    def __init__(self) -> None:
        self._layouts: dict[int, _Layout] = {}

    def forget(self) -> None:
        """Forget everything."""
        self._layouts.clear()

    def find(self, head: bytes) -> Plan | None:
        """Give the plan of a head that was seen before but for its ids; None for any other."""
        layout = self._layouts.get(len(head))
        if layout is None:
            return None
        plan = layout.plans.get(b"".join([head[begin:end] for begin, end in layout.kept]))
        if plan is None:
            return None
        for begin, end in layout.ids:
            if not _VALUE.fullmatch(head, begin, end):
                return None
        if layout.request_id is None:
            return plan
        begin, end = layout.request_id
        request_id = requestids.valid(head[begin:end].rstrip(b" ").decode("ascii"))
        if request_id is None:
            return None
        return plan._replace(request_id=request_id)

    def remember(self, head: bytes, plan: Plan) -> None:
        """Remember the plan of a head that was read in full and holds at most one request id."""
        ids = []
        request_id = None
        for match in _IDS.finditer(head):
            ids.append(match.span(2))
            if match[1].lower() == b"x-request-id":
                request_id = match.span(2)
        edges = [0, *(edge for span in ids for edge in span), len(head)]
        kept = tuple(zip(edges[::2], edges[1::2], strict=True))
        layout = self._layouts.get(len(head))
        if layout is None or layout.kept != kept or len(layout.plans) >= _PLANS_MAX:
            if len(self._layouts) >= _LAYOUTS_MAX:
                self._layouts.clear()
            layout = self._layouts[len(head)] = _Layout(kept, tuple(ids), request_id, {})
        layout.plans[b"".join([head[begin:end] for begin, end in kept])] = plan
