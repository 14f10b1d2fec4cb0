"""kill -9 at any moment: what was answered 202 arrives, under its id, with its bytes, whichever lane answered.

That the hot lane takes these requests, `test_publishing.py` shows.
"""

import asyncio
import json
import random
from collections import Counter

import aiohttp
import pytest
from tests.support.crashing import Nursery
from tests.support.receivers import Receiver, receiving
from tests.support.webhooks import manifest

CALLERS = 8


class Flaky(Receiver):
    """Fails and dawdles now and then, as the seed says."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng

    async def handle(self, request):
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.random() * 0.02)
        if self.rng.random() < 0.1:
            self.answers.append((500, {}, b""))
        return await super().handle(request)


async def caller(session, url, rng, accepted, attempted):
    """Publish until the sidecar is gone; note what it confirmed."""
    while True:
        number = len(attempted)
        attempted.append(number)
        event = {"type": "order.created", "data": {"number": number, "filler": "x" * rng.choice([10, 1000, 20_000])}}
        if rng.random() < 0.2:
            event["id"] = f"order-{number}"
        try:
            async with session.post(f"{url}/v1/events", json=event) as response:
                answer = await response.json()
                assert response.status == 202, answer
        except (aiohttp.ClientError, ConnectionError):
            return
        accepted[answer["id"]] = number


@pytest.mark.slow
@pytest.mark.parametrize(("lane", "trials"), [(True, 40), (False, 10)], ids=["hot lane", "ordinary lane"])
async def test_nothing_that_was_accepted_is_lost_however_often_it_is_killed(tmp_path, lane, trials):
    rng = random.Random(20261224)
    accepted: dict[str, int] = {}
    attempted: list[int] = []
    async with receiving(Flaky(rng)) as receiver, aiohttp.ClientSession() as session:
        endpoint = manifest("one", receiver.url, retry={"schedule": ["5ms"] * 20}, concurrency={"max": 16})
        with Nursery() as nursery:
            for _ in range(trials):
                url = nursery.start(tmp_path, endpoint, hot_lane=lane)
                callers = [asyncio.create_task(caller(session, url, rng, accepted, attempted)) for _ in range(CALLERS)]
                enough, patience = len(accepted) + rng.randrange(40), rng.random() * 0.1
                deadline = asyncio.get_running_loop().time() + patience
                while len(accepted) < enough and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a random moment has no event
                    await asyncio.sleep(0)
                nursery.kill()
                await asyncio.gather(*callers)
            url = nursery.start(tmp_path, endpoint)
            async with asyncio.timeout(30):
                while set(accepted) - set(receiver.ids):  # noqa: ASYNC110 - the receiver has no event
                    await asyncio.sleep(0.01)
            async with session.get(f"{url}/v1/webhooks/endpoints") as response:
                (view,) = (await response.json())["endpoints"]
    assert len(accepted) > trials, "the trials were real"
    assert view["failed"] == 0
    numbers = {}
    for headers, body in receiver.got:
        number = json.loads(body)["data"]["number"]
        assert numbers.setdefault(headers["webhook-id"], number) == number, "an id stands for one event"
    assert all(numbers[message] == number for message, number in accepted.items())
    assert set(numbers.values()) <= set(attempted)
    # Events that were stored but not confirmed before the kill are delivered as well; nothing else is.
    assert len(numbers) <= len(accepted) + trials * CALLERS
    repeats = Counter(receiver.ids)
    print(f"{trials} kills, {len(accepted)} accepted, {sum(repeats.values()) - len(repeats)} repeated")
