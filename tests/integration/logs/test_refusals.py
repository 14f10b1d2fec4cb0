"""What sinks may answer, by real HTTP: too large, not now, not you, never; and where the records are meanwhile."""

import asyncio
import json
import random
from collections import Counter

import pytest
from tests.support.running import Sidecar, eventually
from tests.support.shipping import HastyClock, Receiver, Writer, pipeline_to

from pillion.logs.quarantine import MAX_BYTES
from pillion.runtime.conditions import Conditions

PROFILE = """\
apiVersion: pillion.dev/v1alpha1
kind: SidecarProfile
metadata: {{name: p}}
spec:
  blocks: [logs, health]
  logs:
    sources: [{{name: app, files: ["{folder}/app/*.log"], format: json}}]
    sinks:
    - {{name: live, http: {{url: "{url}", tokenRef: {{name: collector, key: token}}}}, batch: {{linger: 50ms}}}}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {{name: collector}}\nstringData: {{token: {token}}}\n"


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "shop.log"


async def drained(pipeline):
    """Run a pipeline until nothing is left, or its sink refuses."""
    pipeline.drain()
    await asyncio.wait_for(pipeline.run(), 20)


async def until(probe):
    await asyncio.to_thread(eventually, probe)


def quarantined(folder):
    path = folder / "data" / "live.quarantine.ndjson"
    return [json.loads(line)["n"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("seed", range(4))
async def test_413_halves_the_batch_down_to_the_line_that_is_too_large(seed, tmp_path, app, receiver):
    chance = random.Random(seed)
    sizes = [chance.choice([5, 50, 500, 5000]) for _ in range(chance.randrange(1, 60))]
    lines = [json.dumps({"n": number, "text": "x" * size}) for number, size in enumerate(sizes)]
    app.write_text("".join(line + "\n" for line in lines))
    limit = chance.choice([600, 1200, 20_000])
    receiver.answer = lambda _headers, body: 413 if len(body) > limit else 200
    pipeline = pipeline_to(tmp_path, url=receiver.url)

    await drained(pipeline)

    # Each record by itself: its line with the field that is put into it.
    large = [number for number, line in enumerate(lines) if len(line) + len('"source":"app",\n') > limit]
    assert quarantined(tmp_path) == large
    assert receiver.numbers() == [number for number in range(len(lines)) if number not in large]
    assert pipeline.figures.records == len(lines) - len(large)
    assert pipeline.figures.quarantined == len(large)
    assert pipeline.figures.lag_bytes == 0
    assert all(size <= limit for status, size in receiver.requests if status == 200)
    # Halving asks at most twice for each line.
    assert len(receiver.requests) <= 2 * len(lines)


async def test_a_batch_that_was_halved_and_not_finished_comes_again_as_a_whole(tmp_path, app, receiver):
    app.write_text("".join(json.dumps({"n": number}) + "\n" for number in range(8)))
    receiver.answer = lambda _headers, body: 413 if body.count(b"\n") > 4 else 503 if b'"n": 4' in body else 200

    await drained(pipeline_to(tmp_path, url=receiver.url))
    assert receiver.numbers() == [0, 1, 2, 3]
    receiver.answer = None
    await drained(pipeline_to(tmp_path, url=receiver.url))

    assert receiver.numbers() == [0, 1, 2, 3, *range(8)]


async def test_a_full_quarantine_makes_the_sink_wait_and_loses_nothing(tmp_path, app, receiver):
    conditions = Conditions()
    app.write_text("".join(json.dumps({"n": number}) + "\n" for number in range(5)))
    (tmp_path / "data").mkdir()
    kept = tmp_path / "data" / "live.quarantine.ndjson"
    kept.write_bytes(b"{}\n" * (MAX_BYTES // 3))
    receiver.status = 400
    pipeline = pipeline_to(tmp_path, url=receiver.url, clock=HastyClock(100), conditions=conditions)
    running = asyncio.create_task(pipeline.run())

    await until(lambda: any(one.level == "fail" for one in conditions))
    (said,) = [one for one in conditions if one.name == "logs:live:quarantine"]
    assert "it is full" in said.message
    assert str(kept) in said.message
    assert kept.stat().st_size <= MAX_BYTES
    asked = len(receiver.requests)
    await until(lambda: len(receiver.requests) >= asked + 2)
    assert pipeline.figures.quarantined == 0
    assert pipeline.figures.lag_bytes == app.stat().st_size

    kept.unlink()
    await until(lambda: pipeline.figures.quarantined == 5)
    pipeline.drain()
    await running
    assert quarantined(tmp_path) == list(range(5))
    assert [one.level for one in conditions if one.name == "logs:live:quarantine"] == ["warn"]


async def test_a_sink_that_takes_again_gets_what_a_full_quarantine_could_not(tmp_path, app, receiver):
    app.write_text('{"n": 0}\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "live.quarantine.ndjson").write_bytes(b"{}\n" * (MAX_BYTES // 3))
    receiver.status = 422
    pipeline = pipeline_to(tmp_path, url=receiver.url, clock=HastyClock(100))
    running = asyncio.create_task(pipeline.run())
    await until(lambda: len(receiver.requests) >= 2)
    receiver.status = 200

    await until(lambda: receiver.numbers() == [0])
    pipeline.drain()
    await running


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 503])
async def test_what_says_nothing_about_the_batch_is_tried_again(status, tmp_path, app, receiver):
    app.write_text('{"n": 0}\n')
    answers = [status] * 3
    receiver.answer = lambda _headers, _body: answers.pop() if answers else 200
    pipeline = pipeline_to(tmp_path, url=receiver.url, clock=HastyClock(100))
    running = asyncio.create_task(pipeline.run())

    await until(lambda: receiver.numbers() == [0])
    await until(lambda: pipeline.figures.records == 1)
    pipeline.drain()
    await running
    assert [answer for answer, _ in receiver.requests] == [status] * 3 + [200]
    assert pipeline.figures.retries == 3
    assert quarantined(tmp_path) == []


def test_a_token_that_is_missing_wrong_or_new(tmp_path, app, receiver):
    """The sink waits for its Secret, tries again while the token is refused, and goes on with a new one: nothing lost, nothing twice."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "profile.yaml").write_text(PROFILE.format(folder=tmp_path, url=receiver.url))
    secret = manifests / "secret.yaml"
    accepted = ["new-canary"]
    receiver.answer = lambda headers, _body: 200 if headers["Authorization"] == f"Bearer {accepted[0]}" else 401
    writer = Writer(app)

    def said():
        return json.dumps(sidecar.get("/health")[1])

    with Sidecar(manifests, tmp_path / "data") as sidecar:
        writer.write(10)
        eventually(lambda: "sink live waits" in said() and "collector" in said())
        assert receiver.requests == []

        secret.write_text(SECRET.format(token="old-canary"))
        eventually(lambda: [status for status, _ in receiver.requests].count(401) >= 3)
        eventually(lambda: "HTTP 401" in said())
        writer.write(10)
        writer.rotate()

        secret.write_text(SECRET.format(token="new-canary"))
        eventually(lambda: len(set(receiver.numbers())) == writer.n)
        eventually(lambda: "HTTP 401" not in said())

        secret.unlink()
        eventually(lambda: "sink live waits" in said())
        asked = len(receiver.requests)
        writer.write(10)
        accepted[0] = "third-canary"
        secret.write_text(SECRET.format(token="third-canary"))
        eventually(lambda: len(set(receiver.numbers())) == writer.n)
        assert all(status == 200 for status, _ in receiver.requests[asked:])
        kept = list((tmp_path / "data" / "logs").rglob("*"))
    writer.file.close()

    assert Counter(receiver.numbers()) == Counter(range(writer.n))
    assert not any("quarantine" in path.name for path in kept)
    assert "canary" not in sidecar.log.read_text()
    assert not any(b"canary" in path.read_bytes() for path in kept if path.is_file())
