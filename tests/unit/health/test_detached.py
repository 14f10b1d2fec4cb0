"""Calls that hang: one thread per key, and nobody waits for it."""

import asyncio
import threading

import pytest

from pillion.health.detached import Detached


async def test_a_hung_call_is_joined_and_never_started_twice():
    gate, starts = threading.Event(), []

    def hung():
        starts.append(1)
        gate.wait(30)
        return 7

    detached = Detached()
    first = asyncio.create_task(detached.run("key", hung))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(detached.run("key", hung))
    await asyncio.sleep(0)
    gate.set()

    assert await second == 7
    assert starts == [1]
    assert await detached.run("key", lambda: 8) == 8


async def test_what_it_raises_is_raised():
    def broken():
        raise OSError("no such mount")

    with pytest.raises(OSError, match="no such mount"):
        await Detached().run("key", broken)


def test_a_call_that_ends_after_the_loop_is_gone_harms_nobody():
    gate, ended = threading.Event(), threading.Event()

    def late():
        gate.wait(30)
        ended.set()

    async def give_up():
        task = asyncio.create_task(Detached().run("key", late))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(give_up())
    gate.set()

    assert ended.wait(30)


async def test_names_resolve():
    addresses = await Detached().addresses("localhost", 80)

    assert {address.port for address in addresses} == {80}
    assert {address.host for address in addresses} <= {"127.0.0.1", "::1"}
