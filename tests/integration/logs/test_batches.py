"""Batches: a backlog goes out as fast as it is taken, and only the last of it waits for company."""

import asyncio
import json
from collections import Counter

import pytest
from tests.support.running import eventually
from tests.support.shipping import Receiver, pipeline_to

HOUR = 3_600_000_000_000


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.close()


@pytest.mark.parametrize("files", [1, 3])
async def test_a_backlog_does_not_linger(files, tmp_path, receiver):
    """A batch that would wait an hour for more is nonetheless full when more is there than it takes."""
    (tmp_path / "app").mkdir()
    count = 3000
    for number in range(files):
        lines = (json.dumps({"n": n, "text": "x" * 100}) + "\n" for n in range(number, count, files))
        (tmp_path / "app" / f"{number}.log").write_text("".join(lines))
    pipeline = pipeline_to(tmp_path, url=receiver.url, batch=20_000, linger=HOUR)
    running = asyncio.create_task(pipeline.run())

    # All but what the last batches of the files hold.
    await asyncio.to_thread(eventually, lambda: len(receiver.lines) > count - 600)
    await asyncio.to_thread(eventually, lambda: pipeline.figures.lag_bytes < 60_000)
    assert max(size for _, size in receiver.requests) <= 30_000

    pipeline.drain()
    await running
    assert Counter(receiver.numbers()) == Counter(range(count))
