"""The election: at no moment do two replicas believe to lead, whatever fails between them and the API server."""

import asyncio
import contextlib
import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pillion_operator.api import ApiError
from pillion_operator.lease import Choice, Leadership, Observed, choose
from pillion_operator.settings import Settings


@pytest.mark.parametrize(
    ("holder", "age", "choice"),
    [
        ("me", 0, Choice.RENEW),
        ("me", 99, Choice.RENEW),
        ("", 0, Choice.TAKE),
        ("other", 14, Choice.WAIT),
        ("other", 15, Choice.WAIT),
        ("other", 15.1, Choice.TAKE),
    ],
)
def test_a_lease_is_renewed_taken_or_respected(holder, age, choice):
    observed = Observed(holder=holder, duration=15, since=1000.0)

    assert choose(observed, "me", 1000.0 + age) is choice


class World:
    """One Lease behind an API server that can be slow, and lose requests or answers."""

    def __init__(self):
        self.time = 0.0
        self.lease = None
        self.version = 0
        self.trouble = iter(())
        self.watch = lambda: None

    def pass_time(self, seconds):
        self.time += seconds
        self.watch()

    def api(self):
        world = self

        class Api:
            async def get(self, path, *, resource):  # noqa: ARG002
                world.meddle("get")
                if world.lease is None:
                    raise ApiError(404, "NotFound", "")
                return copy.deepcopy(world.lease)

            async def create(self, path, body, *, resource):  # noqa: ARG002
                return world.write(body, None)

            async def replace(self, path, body, *, resource):  # noqa: ARG002
                return world.write(body, body["metadata"]["resourceVersion"])

        return Api()

    def meddle(self, _verb):
        delay, lost = next(self.trouble, (0.0, ""))
        self.pass_time(delay)
        if lost == "request":
            raise ApiError(0, "Unreachable", "")
        return lost

    def write(self, body, version):
        lost = self.meddle("write")
        if (self.lease is None) != (version is None) or (version is not None and int(version) != self.version):
            raise ApiError(409, "Conflict", "")
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.lease["spec"]["renewTime"] = f"stamp {self.version}"
        if lost == "answer":
            self.pass_time(3.0)
            raise ApiError(0, "Unreachable", "the answer was lost")
        return self.lease


def replica(world, name, told=None):
    return Leadership(
        Settings(identity=name, insecure=True, namespace="x"),
        world.api(),
        CollectorRegistry(),
        told or (lambda _leading: None),
        now=lambda: world.time,
    )


troubles = st.tuples(st.sampled_from([0.0, 0.1, 4.0, 9.0, 20.0]), st.sampled_from(["", "", "", "request", "answer"]))
steps = st.lists(
    st.tuples(
        st.sampled_from(["attempt", "attempt", "attempt", "wait", "release"]),
        st.integers(0, 2),
        st.sampled_from([0.5, 2.0, 8.0, 16.0]),
        st.lists(troubles, max_size=3),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(steps)
def test_there_are_never_two_leaders(script):
    world = World()
    replicas = [replica(world, name) for name in "abc"]

    def at_most_one():
        assert sum(one.leading for one in replicas) <= 1

    world.watch = at_most_one

    async def play():
        for verb, index, seconds, trouble in script:
            world.trouble = iter(trouble)
            if verb == "wait":
                world.pass_time(seconds)
            elif verb == "release":
                await replicas[index].release()
            else:
                with contextlib.suppress(ApiError):
                    await replicas[index]._attempt()
            at_most_one()

    asyncio.run(play())


async def test_a_released_lease_is_taken_at_the_next_attempt():
    world = World()
    told = []
    first, second = replica(world, "a", told.append), replica(world, "b")
    await first._attempt()
    await second._attempt()
    assert (first.leading, second.leading) == (True, False)

    await first.release()
    await second._attempt()

    assert (first.leading, second.leading) == (False, True)
    assert told == [True, False]
    assert world.lease["spec"]["leaseTransitions"] == 1


async def test_a_silent_leader_is_replaced_after_the_duration_as_its_successor_saw_it():
    world = World()
    first, second = replica(world, "a"), replica(world, "b")
    await first._attempt()
    world.pass_time(9)
    await second._attempt()  # sees the Lease for the first time
    world.pass_time(11)
    await second._attempt()
    assert not second.leading
    assert second._until_free() == pytest.approx(1.01)  # and looks again just then

    world.pass_time(2)
    await second._attempt()

    assert second.leading


async def test_a_lapse_that_nobody_noticed_is_announced_with_the_next_renewal():
    """A status that was due meanwhile was not written, and only the announcement makes the writer look again."""
    world = World()
    told = []
    only = replica(world, "a", told.append)
    await only._attempt()
    world.pass_time(11)
    assert not only.leading

    await only._attempt()

    assert only.leading
    assert told == [True, True]
