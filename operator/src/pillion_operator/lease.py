"""Which replica writes: a `coordination.k8s.io/v1` Lease, taken, renewed and given back as client-go's leader election does it.

`choose` is the pure part. A replica never compares its clock with another's: it looks at how long *it* has seen a Lease unchanged. It counts itself as leading only
while its own last renewal is younger than the renew deadline, which is shorter than the duration after which anybody else may take over; so two replicas never both
believe to lead, whatever the network does.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from pillion_operator.api import Api, ApiError
from pillion_operator.settings import Settings

JSON = Any

ADDRESS: Final = "pillion.dev/reports-to"
"""Annotation of the Lease: the URL where the holder takes other replicas' reports."""


class Choice(Enum):
    """What to do about the Lease."""

    RENEW = auto()
    TAKE = auto()
    WAIT = auto()


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The Lease as it was seen, and when this replica first saw it like that."""

    holder: str = ""
    duration: float = 0.0
    stamp: str = ""
    """Changes with every renewal; its value is never interpreted."""
    since: float = 0.0
    """Own monotonic seconds."""


def choose(observed: Observed, identity: str, now: float) -> Choice:
    """Decide about a Lease: ours is renewed, a free or expired one is taken, another's is respected."""
    if observed.holder == identity:
        return Choice.RENEW
    if not observed.holder or now > observed.since + observed.duration:
        return Choice.TAKE
    return Choice.WAIT


class Leadership:
    """One replica's part in the election.

    Args:
        settings: who, where, how fast.
        api: the way to the API server.
        registry: where metrics are registered.
        changed: called with whether this replica leads, whenever that changes.
        now: own monotonic seconds; the event loop's unless a test has another clock.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        registry: CollectorRegistry,
        changed: Callable[[bool], None],
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._api = api
        self._changed = changed
        self._now = now or asyncio.get_running_loop().time
        self._observed = Observed()
        self._renewed_at: float | None = None
        self._told = False
        self._address = ""
        self._log = structlog.get_logger("lease")
        base = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
        self._collection, self._path = base, f"{base}/{settings.lease_name}"
        Gauge("pillion_operator_leading", "1 while this replica writes statuses.", registry=registry).set_function(
            lambda: float(self.leading)
        )

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        return self._renewed_at is not None and self._now() < self._renewed_at + self._settings.lease_renew_deadline

    @property
    def leader_address(self) -> str:
        """Where the leader takes reports; empty while nobody leads, or when this replica does."""
        return "" if self._observed.holder in ("", self._settings.identity) else self._address

    async def run(self) -> None:
        """Take part until cancelled."""
        chance = random.Random()  # noqa: S311 - keeps replicas from asking in step, protects nothing
        period = self._settings.lease_retry_period
        while True:
            try:
                async with asyncio.timeout(self._settings.lease_renew_deadline):
                    await self._attempt()
            except (ApiError, TimeoutError) as error:
                if not (isinstance(error, ApiError) and error.status == 409):  # 409: another replica was quicker
                    self._log.warning("lease not renewed", error=str(error), leading=self.leading)
            self._tell()
            pause = period * chance.uniform(0.8, 1.0)
            await asyncio.sleep(pause if self._told else min(pause, self._until_free()))

    def _until_free(self) -> float:
        """Seconds until another's Lease expires: a replica that waits looks again at that moment and not a period later."""
        expires = self._observed.since + self._observed.duration
        return max(0.05, expires - self._now() + 0.01)

    async def release(self) -> None:
        """Give the Lease back, so that the next replica starts at once."""
        if not self.leading:
            return
        self._renewed_at = None
        self._tell()
        try:
            lease = await self._api.get(self._path, resource="leases")
            if lease["spec"].get("holderIdentity") == self._settings.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
                await self._api.replace(self._path, lease, resource="leases")
                self._log.info("lease given back")
        except ApiError as error:
            self._log.warning("lease not given back; it expires by itself", error=str(error))

    async def _attempt(self) -> None:
        began = self._now()
        try:
            lease = await self._api.get(self._path, resource="leases")
        except ApiError as error:
            if error.status != 404:
                raise
            await self._api.create(self._collection, self._new(), resource="leases")
            self._holding(began)
            return
        self._observe(lease, self._now())
        choice = choose(self._observed, self._settings.identity, self._now())
        if choice is Choice.WAIT:
            self._renewed_at = None
            return
        await self._api.replace(self._path, self._updated(lease, taking=choice is Choice.TAKE), resource="leases")
        self._holding(began)

    def _observe(self, lease: JSON, now: float) -> None:
        spec = lease.get("spec") or {}
        holder, stamp = spec.get("holderIdentity") or "", f"{spec.get('renewTime')}/{spec.get('leaseTransitions')}"
        if (holder, stamp) != (self._observed.holder, self._observed.stamp):
            duration = float(spec.get("leaseDurationSeconds") or self._settings.lease_duration)
            self._observed = Observed(holder=holder, duration=duration, stamp=stamp, since=now)
        self._address = (lease["metadata"].get("annotations") or {}).get(ADDRESS, "")

    def _holding(self, began: float) -> None:
        if not self.leading:
            # It had lapsed since the last renewal, perhaps unnoticed: what was not written meanwhile must be looked at again.
            self._told = False
        # Counted from before the request: the server may have written it at any moment since.
        self._renewed_at = began
        self._observed = Observed(holder=self._settings.identity, since=began)
        self._tell()

    def _tell(self) -> None:
        leading = self.leading
        if leading != self._told:
            self._told = leading
            self._log.info("leading" if leading else "no longer leading", identity=self._settings.identity)
            self._changed(leading)

    def _new(self) -> JSON:
        empty = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._settings.lease_name, "namespace": self._settings.namespace},
            "spec": {"leaseTransitions": -1},
        }
        return self._updated(empty, taking=True)

    def _updated(self, lease: JSON, *, taking: bool) -> JSON:
        spec, now = lease["spec"], _micro_time()
        spec["holderIdentity"] = self._settings.identity
        spec["leaseDurationSeconds"] = max(1, round(self._settings.lease_duration))
        spec["renewTime"] = now
        if taking:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        annotations = lease["metadata"].setdefault("annotations", {})
        if self._settings.advertise_url:
            annotations[ADDRESS] = self._settings.advertise_url
        else:
            annotations.pop(ADDRESS, None)
        return lease


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
