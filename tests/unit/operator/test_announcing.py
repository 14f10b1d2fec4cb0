"""Kubernetes Events: where a verdict turns, once, bounded."""

import asyncio

import pytest
from tests.support.operator.toys import VOCABULARY, gauge

from pillion_operator.announcing import MAX_WAITING, Announcer
from pillion_operator.catalogue import Catalogue, ResourceKey


def status(accepted="True", ready="True", reason="Ready", message="", propagated="True"):
    conditions = [
        ("Accepted", accepted, "R", message),
        ("Propagated", propagated, "R", ""),
        ("Ready", ready, reason, message),
    ]
    return {
        "observedGeneration": 2,
        "conditions": [{"type": t, "status": s, "reason": r, "message": m} for t, s, r, m in conditions],
    }


@pytest.fixture
def known():
    catalogue = Catalogue(VOCABULARY)
    catalogue.observe(gauge("a", 1))
    return catalogue.get(ResourceKey("Gauge", "shop", "a"))


class Posts:
    def __init__(self):
        self.bodies = []

    async def create(self, path, body, *, resource):  # noqa: ARG002
        assert path == "/apis/events.k8s.io/v1/namespaces/shop/events"
        self.bodies.append(body)


async def posted(known, *turns):
    api = Posts()
    announcer = Announcer(api, "me")
    for before, after in turns:
        announcer.verdict(known, before, after)
    task = asyncio.create_task(announcer.run())
    for _ in range(5):
        await asyncio.sleep(0)  # the first Event needs no pause; at most one waits here
    task.cancel()
    return [(b["type"], b["reason"], b["note"]) for b in api.bodies]


REFUSED = status(accepted="False", ready="False", reason="NotAccepted", message="spec.value: wrong", propagated="False")
DEGRADED = status()
DEGRADED["conditions"].append({"type": "Degraded", "status": "True", "reason": "StoreFull", "message": "make room"})
UNREADY = status(ready="False", reason="SecretMissing", message="create it")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, status(), []),
        ({}, REFUSED, [("Warning", "Refused", "spec.value: wrong")]),
        (status(), REFUSED, [("Warning", "Refused", "spec.value: wrong")]),
        (REFUSED, REFUSED, []),
        (REFUSED, status(), [("Normal", "Accepted", "generation 2 is accepted")]),
        (status(), UNREADY, [("Warning", "SecretMissing", "create it")]),
        (UNREADY, UNREADY, []),
        (status(), status(ready="False", reason="Propagating", propagated="False"), []),
        (status(), DEGRADED, [("Warning", "StoreFull", "make room")]),
        (DEGRADED, DEGRADED, []),
        (DEGRADED, status(), [("Normal", "Recovered", "it does its full job again")]),
        (DEGRADED, status(ready="False", reason="Propagating", propagated="False"), []),
    ],
)
async def test_events_tell_turns_and_nothing_else(known, before, after, said):
    assert await posted(known, (before, after)) == said


async def test_the_same_words_are_not_repeated(known):
    assert len(await posted(known, (status(), REFUSED), (status(), REFUSED), (status(), REFUSED))) == 1


async def test_a_storm_is_bounded(known):
    announcer = Announcer(Posts(), "me")
    for number in range(2 * MAX_WAITING):
        turned = status(accepted="False", ready="False", message=f"wrong {number}", propagated="False")
        announcer.verdict(known, status(), turned)

    assert announcer._waiting.qsize() == MAX_WAITING
