"""The sidecar's end of the stream against a real server that misbehaves in every way an operator or a network can."""

import asyncio
import hashlib
import json
import random
from contextlib import asynccontextmanager

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from pillion.kinds.exchange import Acknowledgement, ConditionReport, SnapshotMessage
from pillion.runtime.block import Unready
from pillion.runtime.conditions import Conditions
from pillion.runtime.host import CONFIGURATION, ApplyResult
from pillion.runtime.journal import CONCEALED
from pillion.runtime.last_known_good import LastKnownGood
from pillion.runtime.stream import ConfigurationStream, StreamSettings


def event(name, data="{}", identifier=""):
    return f"event: {name}\nid: {identifier}\ndata: {data}\n\n".encode()


def snapshot(value, secrets=None, revision=None):
    document = json.dumps({"value": value})
    message = msgspec.json.encode(SnapshotMessage(document=document, secrets=secrets or {}))
    return event("snapshot", message.decode(), revision or hashlib.sha256(document.encode()).hexdigest())


def revision_of(value):
    return hashlib.sha256(json.dumps({"value": value}).encode()).hexdigest()


async def soon(holds):
    """Wait for something that happens in another task without announcing itself."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is observed has no event
            await asyncio.sleep(0.005)


class Operator:
    """Plays one script per connection; each step is bytes to send, an event to wait for, "cut" or "hang"."""

    def __init__(self):
        self.scripts, self.connections, self.acks = [], [], []
        self.ack_answers = []
        self.url = ""
        self._news = asyncio.Condition()
        self._end = asyncio.Event()

    async def stream(self, request):
        self.connections.append((request.query["revision"], request.headers["Authorization"]))
        async with self._news:
            self._news.notify_all()
        script = self.scripts.pop(0) if self.scripts else [event("ping"), "hang"]
        if isinstance(script, web.Response):
            return script
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for step in script:
            if step == "hang":
                await self._end.wait()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step == "cut":
                request.transport.abort()
            else:
                await response.write(step)
        return response

    async def ack(self, request):
        status = self.ack_answers.pop(0) if self.ack_answers else 204
        body = await request.read()
        if status == 204:
            self.acks.append(msgspec.json.decode(body, type=Acknowledgement))
        async with self._news:
            self._news.notify_all()
        return web.Response(status=status)

    async def until(self, holds, within=10):
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(holds)

    @asynccontextmanager
    async def serving(self):
        application = web.Application()
        application.router.add_get("/v1/stream", self.stream)
        application.router.add_post("/v1/acks", self.ack)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        self._end.set()
        await runner.cleanup()


class Sidecar:
    def __init__(self, operator, folder, **settings):
        self.applied, self.conditions, self.pauses = [], Conditions(), []
        self.answers = {}
        (folder / "token").write_text("token-one\n")
        self.folder = folder
        self.figures, self.reports = {}, ()
        given = {"url": operator.url, "token_file": folder / "token", "observe_every": 60.0} | settings
        self.stream = ConfigurationStream(
            StreamSettings(**given),
            self.apply,
            self.conditions,
            observe=lambda: self.figures,
            report=lambda: self.reports,
            last_known_good=LastKnownGood(folder / "last.json", self.conditions),
            sleep=self.sleep,
            chance=random.Random(7),
        )

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def apply(self, document, secrets):
        value = json.loads(document)["value"]
        result = self.answers.get(value, ApplyResult(applied=True))
        if result.applied:
            self.applied.append((value, dict(secrets)))
        return result

    @property
    def stale(self):
        return [c.message for c in self.conditions if c.name == CONFIGURATION]

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.stream.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture
async def operator():
    async with Operator().serving() as served:
        yield served


async def test_a_snapshot_is_applied_acknowledged_and_kept(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    sidecar.answers[1] = ApplyResult(applied=True, unready=(Unready(kind="K", name="n", reason="R", message="m"),))
    operator.scripts = [[snapshot(1, {"s": {"k": b"\x00v"}}), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)
        (ack,) = operator.acks
        await soon((tmp_path / "last.json").exists)

    assert sidecar.applied == [(1, {"s": {"k": b"\x00v"}})]
    assert (ack.revision, ack.applied, ack.unready[0].reason) == (revision_of(1), True, "R")
    assert operator.connections == [("", "Bearer token-one")]
    again = Sidecar(operator, tmp_path)
    assert (await again.stream.restore()).applied
    assert again.applied == sidecar.applied
    assert "has not been reached since the start" in again.stale[0]


async def test_it_reconnects_with_the_revision_it_runs_and_the_token_of_the_day(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    operator.scripts = [[snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)
        (tmp_path / "token").write_text("token-two")
        operator._end.set()
        await operator.until(lambda: len(operator.connections) > 1)

    assert operator.connections[1] == (revision_of(1), "Bearer token-two")


async def test_a_refused_configuration_is_told_and_the_last_one_stays(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    sidecar.answers[2] = ApplyResult(applied=False, message="flags: FeatureFlag x: no")
    operator.scripts = [[snapshot(1), "cut"], [snapshot(2), "hang"], [event("ping"), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: any(not a.applied for a in operator.acks))
        operator._end.set()
        await operator.until(lambda: len(operator.connections) == 3)

    refused = next(a for a in operator.acks if not a.applied)
    assert (refused.revision, refused.message) == (revision_of(2), "flags: FeatureFlag x: no")
    assert operator.connections[2][0] == revision_of(1)


async def test_a_document_that_does_not_match_its_revision_is_never_applied(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    operator.scripts = [[snapshot(1, revision="0" * 64), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)

    assert sidecar.applied == []
    assert not operator.acks[0].applied
    assert "does not match its revision" in operator.acks[0].message


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["cut"], "cannot be reached"),
        ([], "closed the stream"),
        ([event("snapshot", "no json", "x")], "a snapshot that is no snapshot"),
        (
            web.Response(status=403, text='{"detail": "the token is bound to no pod"}'),
            "403: the token is bound to no pod",
        ),
        (web.Response(status=502, text="<html>"), "502: Bad Gateway"),
        (web.Response(status=200, text=""), "closed the stream"),
    ],
)
async def test_every_way_to_fail_is_said_and_tried_again(operator, tmp_path, script, said):
    sidecar = Sidecar(operator, tmp_path)
    seen = []
    sidecar.sleep_before = sidecar.sleep

    async def sleep(seconds):
        seen.extend(sidecar.stale)
        await sidecar.sleep_before(seconds)

    sidecar.stream._sleep = sleep
    operator.scripts = [script, [snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)

        assert sidecar.applied == [(1, {})]
        assert sidecar.stale == []
    assert seen[0].startswith("Stale since 2")
    assert said in seen[0]
    assert "there is no configuration to serve yet" in seen[0]


async def test_a_silent_stream_is_dead(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path, silence=0.05)
    operator.scripts = [[event("ping"), "hang"], [snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)

    assert len(operator.connections) >= 2


async def test_an_operator_that_says_goodbye_makes_nothing_stale(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    operator.scripts = [[snapshot(1), event("bye"), "hang"], [event("ping"), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: len(operator.connections) == 2)
        assert sidecar.stale == []


async def test_pauses_grow_are_jittered_bounded_and_heed_the_operator(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path, backoff_first=1.0, backoff_max=8.0)
    busy = [web.Response(status=503, headers={"Retry-After": "20"}, text="{}")]
    operator.scripts = [web.Response(status=500, text="{}") for _ in range(12)] + busy
    async with sidecar.running():
        await operator.until(lambda: len(operator.connections) == 14)

    growing, asked = sidecar.pauses[:12], sidecar.pauses[12]
    bounds = [min(8.0, 1.0 * 2 ** min(n, 16)) for n in range(1, 13)]
    assert all(0 <= pause <= bound for pause, bound in zip(growing, bounds, strict=True))
    assert len(set(growing)) == 12
    assert max(growing) > 4
    assert asked == 20


async def test_an_acknowledgement_is_posted_until_it_arrives(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    operator.ack_answers = [409, 503, 409]
    operator.scripts = [[snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)

    assert operator.acks[0].revision == revision_of(1)
    assert operator.ack_answers == []


async def test_only_the_newest_snapshot_is_applied_while_one_is_under_way(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    go_on, begun = asyncio.Event(), asyncio.Event()
    plain = sidecar.apply

    async def slow(document, secrets):
        if json.loads(document)["value"] == 1:
            begun.set()
            await go_on.wait()
        return await plain(document, secrets)

    sidecar.stream._apply = slow
    later = asyncio.Event()
    operator.scripts = [[snapshot(1), later, snapshot(2), snapshot(3), "hang"]]
    async with sidecar.running():
        await begun.wait()
        later.set()
        await soon(lambda: sidecar.stream.statistics.snapshots == 3)
        go_on.set()
        await operator.until(lambda: operator.acks and operator.acks[-1].revision == revision_of(3))

    assert [value for value, _ in sidecar.applied] == [1, 3]


async def test_figures_are_told_when_they_move_and_only_then(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path, observe_every=0.02)
    operator.scripts = [[snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)
        sidecar.figures = {("K", "n"): {"hits": 3}}
        await operator.until(lambda: len(operator.acks) == 2)
        await asyncio.sleep(0.1)

    assert len(operator.acks) == 2
    assert operator.acks[1].observed[0].figures == {"hits": 3}


async def test_what_is_wrong_is_told_when_it_begins_and_when_it_is_over_without_secrets(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path, observe_every=0.02)
    operator.scripts = [[snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)
        CONCEALED.replace([b"a-secret-value"])
        message = "535 no such user: a-secret-value"
        sidecar.reports = (ConditionReport(kind="K", name="n", type="T", reason="R", message=message),)
        await operator.until(lambda: len(operator.acks) == 2)
        sidecar.reports = ()
        await operator.until(lambda: len(operator.acks) == 3)
        CONCEALED.replace([])

    assert [one.message for one in operator.acks[1].conditions] == ["535 no such user: [redacted]"]
    assert operator.acks[2].conditions == ()


async def test_long_lists_are_cut_to_what_an_acknowledgement_may_hold(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    unready = tuple(Unready(kind="K", name=f"n{n}", reason="R", message="x" * 5000) for n in range(1500))
    sidecar.answers[1] = ApplyResult(applied=True, unready=unready)
    operator.scripts = [[snapshot(1), "hang"]]
    async with sidecar.running():
        await operator.until(lambda: operator.acks)

    assert operator.acks[0].applied
    assert 100 < len(operator.acks[0].unready) < 1000


async def test_a_missing_token_file_is_said_and_waited_for(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    (tmp_path / "token").unlink()
    async with sidecar.running():
        await soon(lambda: sidecar.stale)
        assert "the token file" in sidecar.stale[0]
        (tmp_path / "token").write_text("token-late")
        await operator.until(lambda: operator.connections)

    assert operator.connections[0][1] == "Bearer token-late"


async def test_a_refusal_of_the_host_is_not_cleared_by_a_new_stream(operator, tmp_path):
    sidecar = Sidecar(operator, tmp_path)
    sidecar.conditions.set(CONFIGURATION, "warn", "configuration abc is refused")
    async with sidecar.running():
        await operator.until(lambda: operator.connections)
        await soon(lambda: sidecar.stream.statistics.connected)

        assert sidecar.stale == ["configuration abc is refused"]
