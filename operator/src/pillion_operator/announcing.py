"""Kubernetes Events: what `kubectl describe` shows a person who wonders why.

An Event is posted where a written status turns a verdict, and nowhere else: a restart, a resync or a storm of acknowledgements posts none. The same text about the same
object is not repeated within minutes. Posting is best effort, bounded, and never in the way of a status.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from pillion.kinds.definition import API_VERSION
from pillion_operator import conditions
from pillion_operator.api import Api, ApiError
from pillion_operator.catalogue import Known

JSON = Any

CONTROLLER: Final = "pillion.dev/operator"
MAX_NOTE: Final = 1024
"""Characters of an Event's note (events.k8s.io/v1)."""
MAX_WAITING: Final = 500
"""Events that wait to be posted; further ones are dropped, the statuses tell the same."""
SILENCE: Final = 300.0
"""Seconds in which the same words about the same object are not repeated."""
PACE: Final = 0.02
"""Seconds between two Events: a thousand refusals at once must not starve the statuses."""


class Announcer:
    """Posts Events as replica *identity*."""

    def __init__(self, api: Api, identity: str) -> None:
        self._api = api
        self._identity = identity[:128]
        self._waiting: asyncio.Queue[tuple[str, JSON]] = asyncio.Queue(MAX_WAITING)
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._log = structlog.get_logger("events")

    def verdict(self, known: Known, before: Mapping[str, JSON], after: Mapping[str, JSON]) -> None:
        """Announce what a written status turned: a refusal, its end, a resource that stopped working or does less than its full job, and the end of that."""
        old, new = conditions.condition(before, "Accepted"), conditions.condition(after, "Accepted")
        if new["status"] == "False" and (old.get("status"), old.get("message")) != ("False", new["message"]):
            self._post(known, "Warning", "Refused", new["message"])
            return
        if new["status"] == "True" and old.get("status") == "False":
            self._post(known, "Normal", "Accepted", f"generation {after['observedGeneration']} is accepted")
        old, new = conditions.condition(before, "Ready"), conditions.condition(after, "Ready")
        turned = (old.get("status"), old.get("reason")) != (new["status"], new["reason"])
        propagated = conditions.condition(after, "Propagated")
        if turned and new["status"] == "False" and (propagated["status"] == "True" or new["reason"] == "Refused"):
            self._post(known, "Warning", new["reason"], new["message"])
            return
        works = new["status"] == "True"
        old, new = conditions.condition(before, "Degraded"), conditions.condition(after, "Degraded")
        if new and old.get("reason") != new["reason"]:
            self._post(known, "Warning", new["reason"], new["message"])
        elif old and not new and works:
            self._post(known, "Normal", "Recovered", "it does its full job again")

    async def run(self) -> None:
        """Post what waits, until cancelled."""
        while True:
            namespace, body = await self._waiting.get()
            try:
                await self._api.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body, resource="events")
            except ApiError as error:
                self._log.warning("event not posted", error=str(error))
            await asyncio.sleep(PACE)

    def announce(
        self,
        regarding: Mapping[str, JSON],
        kind: Literal["Normal", "Warning"],
        reason: str,
        note: str,
        *,
        action: str,
    ) -> None:
        """Announce something about an object.

        Args:
            regarding: the object: apiVersion, kind, namespace, name, uid.
            kind: how much it matters.
            reason: one CamelCase word.
            note: a sentence for a person.
            action: what was done when it was noticed, one word.
        """
        now = asyncio.get_running_loop().time()
        said = (regarding["uid"], reason, note)
        if self._said.get(said, -SILENCE) > now - SILENCE:
            return
        self._said[said] = now
        self._said.move_to_end(said)
        while len(self._said) > MAX_WAITING:
            self._said.popitem(last=False)
        namespace, name = regarding["namespace"], regarding["name"]
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name[:200].rstrip('.-')}-", "namespace": namespace},
            "eventTime": stamp,
            "reportingController": CONTROLLER,
            "reportingInstance": self._identity,
            "action": action,
            "reason": reason[:128],
            "type": kind,
            "note": note if len(note) <= MAX_NOTE else note[: MAX_NOTE - 1] + "…",
            "regarding": regarding,
        }
        try:
            self._waiting.put_nowait((namespace, body))
        except asyncio.QueueFull:
            self._log.debug("event dropped", resource=f"{regarding['kind']} {namespace}/{name}", reason=reason)

    def _post(self, known: Known, kind: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        key = known.key
        regarding = {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": known.uid,
        }
        self.announce(regarding, kind, reason, note, action="Judged")
