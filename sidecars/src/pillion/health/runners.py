"""Runs the checks in the background: at their times, side by side, each within its timeout.

Promises: a check never runs twice at a time; a hung target delays nobody else; results only ever go to the check that asked. Deliberately
absent: what results mean (`engine.py`) and what is answered (`service.py`).
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from pillion.health.engine import CheckPlan, Observation, Standing, observe
from pillion.health.metrics import Tally
from pillion.health.probes import Probe, Reading, Unwell
from pillion.health.schedule import Schedule
from pillion.runtime.clock import Clock
from pillion.runtime.journal import CONCEALED

MAX_SLEEP: Final = 60.0
"""Seconds between two looks at the schedule when nothing is due: a bound, not a period."""


class Runner:
    """One check while it is configured: what it looks at, and what it has seen so far."""

    def __init__(self, plan: CheckPlan, probe: Probe, secret: bytes) -> None:
        self.plan = plan
        self.probe = probe
        self.secret = secret
        self.standing = Standing()
        self.last: Observation | None = None
        self.tally = Tally()
        self.flight: asyncio.Task[None] | None = None


class Watch:
    """Runs the checks of one sidecar.

    Args:
        clock: the time.
        entropy: random numbers, for jitter.
        on_result: called after each result.
    """

    def __init__(self, clock: Clock, entropy: random.Random, on_result: Callable[[], None]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._on_result = on_result
        self._schedule: Schedule[Runner] = Schedule()
        self._runners: tuple[Runner, ...] = ()
        self._flights: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("health")

    def set(self, runners: Iterable[Runner]) -> None:
        """Run exactly *runners* from now on; those that ran before go on undisturbed."""
        wanted = tuple(runners)
        for runner in self._runners:
            if runner not in wanted:
                self._schedule.remove(runner)
                if runner.flight is not None:
                    runner.flight.cancel()
        now = self._clock.monotonic_ns()
        for runner in wanted:
            if runner not in self._schedule:
                self._schedule.add(runner, runner.plan.interval, now)
        self._runners = wanted
        self._wake.set()

    async def run(self) -> None:
        """Start each check at its times, for ever."""
        while True:
            now = self._clock.monotonic_ns()
            for runner in self._schedule.take_due(now, self._entropy.random()):
                flight = asyncio.create_task(self._fly(runner), name=f"health: check {runner.plan.name}")
                runner.flight = flight
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)
            due = self._schedule.next_due()
            pause = MAX_SLEEP if due is None else min(max((due - now) / 1e9, 0.0), MAX_SLEEP)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def stop(self) -> None:
        """Cancel what is under way and wait for its end."""
        flights = tuple(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, runner: Runner) -> None:
        """Run one check once."""
        began = self._clock.monotonic_ns()
        output, reading = "", Reading()
        try:
            async with asyncio.timeout(runner.plan.timeout / 1e9):
                reading = await runner.probe()
        except Unwell as unwell:
            output = CONCEALED.hide(str(unwell))
        except TimeoutError:
            output = f"no answer within {runner.plan.timeout / 1e9:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a client library raises, the target is not known to be well
            self._log.warning("a check failed in an unexpected way", check=runner.plan.name, error=type(error).__name__)
            output = f"the check itself failed ({type(error).__name__})"
        finally:
            runner.flight = None
            self._schedule.landed(runner)
            self._wake.set()
        self._land(runner, began, output, reading)

    def _land(self, runner: Runner, began: int, output: str, reading: Reading) -> None:
        """Take in the result of one run."""
        plan, before = runner.plan, runner.standing
        now, wall, success = self._clock.monotonic_ns(), self._clock.wall_ns(), not output
        runner.standing = observe(before, success, plan.failures, plan.successes)
        runner.last = Observation(
            success=success,
            wall=wall,
            monotonic=now,
            duration=now - began,
            output=output,
            measure=reading.measure,
            value=reading.value,
        )
        runner.tally.count(success=success, seconds=(now - began) / 1e9, wall=wall)
        runner.tally.changes = runner.standing.changes
        if before.healthy != runner.standing.healthy and (before.healthy is not None or not success):
            word = "passes again" if success else "fails"
            self._log.warning(f"check {word}", check=plan.name, critical=plan.critical, reason=output)
        self._on_result()
