"""Rendering in a process that may be killed: what hangs or swells is cut, everybody else is served."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from pillion.notifications.content import RenderError, Source
from pillion.notifications.renderer import MAX_WAITING, Renderer, RendererBusy, RendererUnavailable
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks

GOOD = Source(subject="Hi {{ name }}", text="Hello {{ name }}", html="<p>{{ name }}</p>")
BIG = "x" * 130_000
# Both stay within every bound of the sandbox; a check would have refused the first, the bound of a request the second.
CPU_BOMB = (
    Source(
        subject="x",
        text="{% set b = big ~ '' %}{% for a in range(9900) %}" + "{% if big == b %}{% endif %}" * 300 + "{% endfor %}",
    ),
    {"big": BIG},
)
MEMORY_BOMB = (Source(subject="x", text="y"), {"x": [[]] * 7_000_000})


@pytest.fixture
async def tasks():
    made = Tasks("test", Conditions())
    yield made
    await made.stop()


@pytest.fixture
async def renderer(tasks):
    made = Renderer(tasks, deadline=1.5)
    yield made
    await made.stop()


async def good(renderer, name="Ada"):
    rendered, _ = await renderer.render("good", GOOD, "en", {"name": name})
    return rendered.text


async def test_nothing_runs_before_the_first_rendering(renderer):
    assert not renderer.statistics().running

    assert await good(renderer) == "Hello Ada"
    assert renderer.statistics().running


@pytest.mark.parametrize("bomb", [CPU_BOMB, MEMORY_BOMB], ids=["cpu", "memory"])
async def test_a_bomb_is_cut_and_everybody_else_is_served(renderer, bomb):
    assert await good(renderer) == "Hello Ada"
    jobs = [good(renderer, f"n{index}") for index in range(40)]
    hostile = renderer.render("bomb", bomb[0], "en", bomb[1])

    results = await asyncio.gather(*jobs[:20], hostile, *jobs[20:], return_exceptions=True)

    failed = results.pop(20)
    assert isinstance(failed, RenderError)
    assert "took longer than 1.5 s" in failed.reason or "needed more memory" in failed.reason
    assert results == [f"Hello n{index}" for index in range(40)]
    assert (renderer.statistics().killed, renderer.statistics().started) == (1, 2)


async def test_a_template_error_names_part_and_line_and_costs_no_process(renderer):
    with pytest.raises(RenderError) as caught:
        await renderer.render("bad", Source(subject="x", html="a\n{{ nope }}"), "en", {})

    assert (caught.value.part, caught.value.line) == ("html", 2)
    assert await good(renderer) == "Hello Ada"
    assert renderer.statistics().started == 1


async def test_a_process_that_was_killed_from_outside_is_begun_anew(renderer):
    await good(renderer)
    os.kill(renderer._process.pid, signal.SIGKILL)
    await renderer._process.wait()

    assert await good(renderer, "Bob") == "Hello Bob"
    assert renderer.statistics().started == 2


async def test_too_many_waiting_renderings_are_refused_at_once(renderer):
    jobs = [asyncio.ensure_future(good(renderer)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)

    with pytest.raises(RendererBusy):
        await good(renderer)
    assert await asyncio.gather(*jobs) == ["Hello Ada"] * MAX_WAITING


async def test_a_caller_that_goes_away_hinders_nobody(renderer):
    going = [asyncio.ensure_future(good(renderer)) for _ in range(10)]
    staying = [asyncio.ensure_future(good(renderer)) for _ in range(10)]
    await asyncio.sleep(0)
    for job in going:
        job.cancel()

    assert await asyncio.gather(*staying) == ["Hello Ada"] * 10


async def test_stopping_fails_what_waits_and_ends_the_process(tasks):
    renderer = Renderer(tasks)
    await good(renderer)
    process = renderer._process
    job = asyncio.ensure_future(renderer.render("slow", CPU_BOMB[0], "en", CPU_BOMB[1]))
    await asyncio.sleep(0)
    await renderer.stop()

    with pytest.raises(RendererUnavailable):
        await job
    assert process.returncode is not None


async def test_the_process_limits_itself(renderer):
    await good(renderer)
    text = Path(f"/proc/{renderer._process.pid}/limits").read_text()  # noqa: ASYNC240 - proc answers at once
    limits = {line[:25].strip(): line[26:47].strip() for line in text.splitlines()}

    assert limits["Max address space"] == str(512 << 20)
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert limits["Max processes"] == "0"


async def test_an_orphan_ends_by_itself(tasks):
    """The kernel's alarm ends a rendering whose sidecar cannot kill it any more."""
    renderer = Renderer(tasks, deadline=0.2)
    await good(renderer)
    process = renderer._process
    renderer._deadline = 60.0
    job = asyncio.ensure_future(renderer.render("bomb", CPU_BOMB[0], "en", CPU_BOMB[1]))

    # 255 is asyncio's word for a child that `kill` found dead, and thereby reaped, before asyncio's own watcher did.
    assert await asyncio.wait_for(process.wait(), 20) in (-signal.SIGALRM, 255)
    with pytest.raises(RenderError):
        await job
    await renderer.stop()
