"""Tells the operator what became of the configuration, until it has heard: the newest acknowledgement only, again after every reconnect.

An acknowledgement also carries the blocks' figures and what is wrong with their resources; both are looked at now and then, and sent when they have moved. Nothing here waits for a stream to come back: while
there is none, there is nobody to tell.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import aiohttp
import msgspec
import structlog

from pillion.kinds import exchange
from pillion.kinds.exchange import Acknowledgement, ConditionReport, Observation, UnreadyReport
from pillion.runtime.host import ApplyResult
from pillion.runtime.journal import CONCEALED

Observe = Callable[[], Mapping[tuple[str, str], Mapping[str, Any]]]
"""Gives the blocks' figures by (kind, name)."""
Report = Callable[[], Iterable[ConditionReport]]
"""Gives what is wrong with resources."""


class Acknowledger:
    """One sidecar's acknowledgements.

    Args:
        url: where they are posted.
        observe: gives the figures.
        report: gives what is wrong.
        observe_every: seconds between two looks at both.
        timeout: seconds for one attempt.
        backoff_max: seconds between two attempts at most.
        sleep: waits.
        chance: draws the jitter.
    """

    def __init__(
        self,
        url: str,
        observe: Observe,
        report: Report,
        *,
        observe_every: float,
        timeout: float,
        backoff_max: float,
        sleep: Callable[[float], Awaitable[None]],
        chance: random.Random,
    ) -> None:
        self._url = url
        self._observe = observe
        self._report = report
        self._observe_every = observe_every
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._backoff_max = backoff_max
        self._sleep = sleep
        self._chance = chance
        self._newest: Acknowledgement | None = None
        self._due = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._connected = asyncio.Event()
        self._log = structlog.get_logger("stream")

    @property
    def delivered(self) -> bool:
        """Whether the operator has heard the newest one."""
        return not self._due.is_set()

    def say(self, revision: str, result: ApplyResult) -> None:
        """Take what became of *revision*; it replaces what was not heard yet."""
        self._newest = Acknowledgement(
            revision=revision[:64],
            applied=result.applied,
            message=CONCEALED.hide(result.message)[: exchange.MAX_MESSAGE],
            unready=tuple(
                UnreadyReport(
                    kind=u.kind,
                    name=u.name,
                    reason=u.reason,
                    message=CONCEALED.hide(u.message)[: exchange.MAX_MESSAGE],
                )
                for u in result.unready[: exchange.MAX_REPORTS]
            ),
            observed=self._observations(),
            conditions=self._conditions(),
        )
        self._due.set()

    def connected(self, session: aiohttp.ClientSession) -> None:
        """Take the connection to the operator, which may be another one than before and know nothing of us."""
        self._session = session
        self._connected.set()
        if self._newest is not None:
            self._due.set()

    def disconnected(self) -> None:
        """Take the end of the connection."""
        self._session = None
        self._connected.clear()

    async def run(self) -> None:
        """Deliver until cancelled."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._observe_every):
                    await self._due.wait()
            except TimeoutError:
                self._look()
                continue
            await self._connected.wait()
            self._due.clear()
            if self._session is None or self._newest is None or await self._post(self._session, self._newest):
                failures = 0
                continue
            self._due.set()
            failures += 1
            await self._sleep(self._chance.uniform(0, min(self._backoff_max, 0.05 * 2 ** min(failures, 10))))

    def _look(self) -> None:
        if self._newest is None:
            return
        looked = msgspec.structs.replace(self._newest, observed=self._observations(), conditions=self._conditions())
        if looked != self._newest:
            self._newest = looked
            self._due.set()

    def _observations(self) -> tuple[Observation, ...]:
        figures = sorted(self._observe().items())[: exchange.MAX_REPORTS]
        return tuple(Observation(kind=kind, name=name, figures=dict(values)) for (kind, name), values in figures)

    def _conditions(self) -> tuple[ConditionReport, ...]:
        # What a receiver or a mail server said may repeat what it was sent; a status may not.
        return tuple(
            msgspec.structs.replace(one, message=CONCEALED.hide(one.message)[: exchange.MAX_MESSAGE])
            for one in islice(self._report(), exchange.MAX_CONDITIONS)
        )

    async def _post(self, session: aiohttp.ClientSession, said: Acknowledgement) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=encode(said), headers=headers, timeout=self._timeout) as response:
                # 409 says that another replica of the operator holds our stream; it closes the connection, and the next one may lead there.
                if response.status not in (204, 409):
                    self._log.warning("acknowledgement refused", status=response.status)
                return response.status == 204
        # RuntimeError: the session was closed under us, together with the stream.
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            self._log.debug("acknowledgement not delivered", error=type(error).__name__)
            return False


def encode(said: Acknowledgement) -> bytes:
    """Write an acknowledgement within its bound: what became of the revision always fits, of long lists the first part."""
    body = msgspec.json.encode(said)
    while len(body) > exchange.MAX_ACKNOWLEDGEMENT_BYTES:
        said = msgspec.structs.replace(
            said,
            observed=said.observed[: len(said.observed) // 2],
            conditions=said.conditions if said.observed else said.conditions[: len(said.conditions) // 2],
            unready=said.unready if said.observed or said.conditions else said.unready[: len(said.unready) // 2],
        )
        body = msgspec.json.encode(said)
    return body
