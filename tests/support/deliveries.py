"""What tests of the delivery machine share: a clock set by hand, a sender that does as it is told, a machine around them."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pillion.delivery.machine import Machine
from pillion.delivery.model import Delivered, Delivery, Message, Outcome, Policy, Query, Submission
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks

START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000


class Hands:
    """A clock that is set by hand."""

    def __init__(self, wall: int = START) -> None:
        self.wall = wall
        self.monotonic = 1_000

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic

    def pass_time(self, nanoseconds: int) -> None:
        self.wall += nanoseconds
        self.monotonic += nanoseconds


class Scripted:
    """A sender that answers from a script per destination, then with success; it can be told to hold every attempt."""

    def __init__(self) -> None:
        self.script: defaultdict[str, list[Outcome | BaseException]] = defaultdict(list)
        self.sent: list[tuple[Message, Delivery, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.open: set[str] = set()
        """Destinations that the gate does not hold."""
        self.flying = 0
        self.most_flying = 0

    async def send(self, message: Message, delivery: Delivery, attempt: int, deadline: float) -> Outcome:
        assert deadline > asyncio.get_running_loop().time() - 1
        self.sent.append((message, delivery, attempt))
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            if delivery.destination not in self.open:
                await self.gate.wait()
        finally:
            self.flying -= 1
        script = self.script[delivery.destination]
        outcome = script.pop(0) if script else Delivered(status=204)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def ids(self, destination: str = "") -> list[str]:
        return [m.id for m, d, _ in self.sent if not destination or d.destination == destination]


class Bench:
    """A machine with its surroundings; `restart` is what a clean stop and a new process are."""

    def __init__(self, folder: Path, policies: dict[str, Policy], *, clock: Hands | None = None, **settings) -> None:
        self.path = folder / "deliveries.db"
        self.policies = policies
        self.clock = clock or Hands()
        self.settings = {"chance": lambda: 0.0} | settings
        self.sender = Scripted()
        self.conditions = Conditions()
        self.tasks = Tasks("test", self.conditions)
        self.machine = self._make()

    def _make(self) -> Machine:
        return Machine(
            name="test",
            path=self.path,
            sender=self.sender,
            clock=self.clock,
            conditions=self.conditions,
            tasks=self.tasks,
            **self.settings,
        )

    async def open(self) -> None:
        self.machine.configure(self.policies)
        await self.machine.open()

    async def close(self) -> None:
        await self.machine.drain(0)
        await self.machine.stop()
        await self.tasks.stop()

    async def restart(self, policies: dict[str, Policy] | None = None) -> None:
        await self.close()
        self.policies = self.policies if policies is None else policies
        self.sender.sent.clear()
        self.conditions = Conditions()
        self.tasks = Tasks("test", self.conditions)
        self.machine = self._make()
        await self.open()

    def submission(self, *destinations: str, body: bytes = b"{}", **rest) -> Submission:
        return Submission(
            **({"id": self.machine.new_id(), "type": "order.created"} | rest), body=body, destinations=destinations
        )

    async def accept(self, *destinations: str, **rest):
        return (await self.machine.accept([self.submission(*destinations, **rest)]))[0]

    async def pass_time(self, nanoseconds: int) -> None:
        self.clock.pass_time(nanoseconds)
        self.machine.wake()

    async def until(self, done) -> None:
        """Wait until *done* holds; the event loop decides when, no clock does."""
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 - what it looks at has no event
                await asyncio.sleep(0.001)

    async def settled(self) -> None:
        """Wait until nothing is in flight or unrecorded, and nothing that is in memory could start."""

        def quiet() -> bool:
            now = self.machine.statistics()
            return not (now.in_flight or now.unrecorded or now.in_memory)

        await self.until(quiet)

    async def states(self) -> dict[str, str]:
        page = await self.machine.deliveries(Query(limit=1000))
        return {d.id: d.state for d in page.deliveries}

    def status(self, name: str):
        return next(d for d in self.machine.statistics().destinations if d.name == name)


@contextlib.asynccontextmanager
async def bench(folder: Path, policies: dict[str, Policy], **settings):
    """An open machine, closed in the end."""
    made = Bench(folder, policies, **settings)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def in_small_file_system(folder: Path, program: str) -> Any:
    """Run *program* in a mount namespace of its own, with a file system of 3 MiB at *folder*."""
    mount = 'mount -t tmpfs -o size=3m pillion "$1" && exec "$2" -c "$3" "$1"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
        folder,
        sys.executable,
        program,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
