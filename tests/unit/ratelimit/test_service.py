"""The service: bodies in, answers out, configurations swapped, figures told. Time stands still unless a test moves it."""

import asyncio
import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from prometheus_client import CollectorRegistry

from pillion.ratelimit import service as module
from pillion.ratelimit.messages import Verdict, Verdicts
from pillion.ratelimit.service import create
from pillion.runtime.block import BlockConfiguration, Context, Identity, Refused, Secrets
from pillion.runtime.conditions import Conditions
from pillion.runtime.problems import Problem
from pillion.runtime.tasks import Tasks

SECOND = 10**9


class Clock:
    """Time that stands still until it is told to move."""

    def __init__(self):
        self.monotonic, self.wall = 5 * SECOND, 1_750_000_000 * SECOND

    def monotonic_ns(self):
        return self.monotonic

    def wall_ns(self):
        return self.wall


def policy(*limits, key="user", **fields):
    made = [
        {
            "name": f"r{index}",
            "match": [],
            "key": [{"attribute": key}] if key else [],
            "limits": [{"algorithm": "gcra", "requests": requests, "per_ns": per, "burst": requests}],
            "percent": 100,
        }
        for index, (requests, per) in enumerate(limits)
    ]
    return {"rules": made} | fields


def cidr(attribute, value):
    return {"attribute": attribute, "test": "cidr", "value": value}


class Running:
    """The block with a configuration, as the runtime drives it."""

    def __init__(self, settings=None, **policies):
        self.clock = Clock()
        self.metrics = CollectorRegistry()
        self.conditions = Conditions()
        self.tasks = Tasks("ratelimit", self.conditions)
        self.block = create(
            Context(
                block="ratelimit",
                data_dir=None,
                clock=self.clock,
                identity=Identity(),
                metrics=self.metrics,
                conditions=self.conditions,
                tasks=self.tasks,
            )
        )
        self.configure(settings, **policies)

    def prepare(self, settings=None, **policies):
        configuration = BlockConfiguration(
            namespace="default", settings=settings, resources={"RateLimitPolicy": policies}, secrets=Secrets({})
        )
        return asyncio.run(self.block.prepare(configuration))

    def configure(self, settings=None, **policies):
        self.prepare(settings, **policies).commit()

    def ask(self, query="", **check):
        answer = self.block.check("", query, json.dumps(check).encode())
        return answer if query else msgspec.json.decode(answer.body, type=Verdict)

    def batch(self, *checks):
        answer = self.block.check_batch("", "", json.dumps({"checks": checks}).encode())
        return msgspec.json.decode(answer.body, type=Verdicts).results

    def figure(self, name, **labels):
        return self.metrics.get_sample_value(name, labels)


CHECKS = st.fixed_dictionaries(
    {"attributes": st.dictionaries(st.sampled_from(["user", "ip", "other"]), st.sampled_from(["a", "b"]))},
    optional={
        "policy": st.sampled_from(["one", "two", None]),
        "cost": st.integers(1, 7),
        "peek": st.booleans(),
    },
)


@given(st.lists(CHECKS, min_size=1, max_size=30))
def test_a_batch_is_a_sequence_of_single_checks(checks):
    policies = {"one": policy((5, SECOND), (9, 60 * SECOND)), "two": policy((6, SECOND), key="ip")}
    singly, together = Running(**policies), Running(**policies)

    assert together.batch(*checks) == [singly.ask(**check) for check in checks]
    assert together.block.statistics() == singly.block.statistics()


def test_a_limit_bites_on_the_sixth_request_and_waits_as_told():
    running = Running(shop=policy((5, 60 * SECOND)))
    check = {"policy": "shop", "attributes": {"user": "a"}}

    assert [running.ask(**check).allowed for _ in range(6)] == [True] * 5 + [False]
    running.clock.monotonic += int(running.ask(**check).retry_after * SECOND)
    assert running.ask(**check).allowed


def test_a_step_of_the_wall_clock_changes_nothing():
    running = Running(shop=policy((1, 60 * SECOND)))
    running.ask(attributes={"user": "a"})

    running.clock.wall += 3_600 * SECOND

    assert not running.ask(attributes={"user": "a"}).allowed


def test_a_refusal_is_a_status_where_that_is_asked_for():
    running = Running(shop=policy((1, 60 * SECOND)))
    running.ask(attributes={"user": "a"})

    refused = running.ask("enforce=status", attributes={"user": "a"})
    allowed = running.ask("enforce=status", attributes={"user": "b"})

    assert (refused.status, refused.media) == (429, "application/problem+json")
    assert "Retry-After: 60\r\n" in refused.headers
    assert (allowed.status, allowed.media) == (200, "application/json")


BROKEN = [
    (b"", 400, ["#"]),
    (b"{", 400, ["#"]),
    (b"\xff", 400, ["#"]),
    (b'{"policy":"\\ud800"}', 400, ["#"]),
    (b'{"attributes":' * 2_000, 422, ["#/attributes/*"]),
    (b"[]", 422, ["#"]),
    (b"null", 422, ["#"]),
    (b'{"attribute":{}}', 422, ["#"]),
    (b'{"attributes":[]}', 422, ["#/attributes"]),
    (b'{"attributes":{"a":1,"b":"x","c/d":null}}', 422, ["#/attributes/a", "#/attributes/c~1d"]),
    (b'{"attributes":{"a":1}', 422, ["#/attributes/*"]),
    (b'{"attributes":{"ip":"here"}}', 422, ["#/attributes/ip"]),
    (b'{"cost":0}', 422, ["#/cost"]),
    (b'{"cost":1.5}', 422, ["#/cost"]),
    (b'{"cost":1000000001}', 422, ["#/cost"]),
    (b'{"cost":99999999999999999999}', 422, ["#/cost"]),
    (b'{"peek":1}', 422, ["#/peek"]),
    (b'{"policy":"shpo"}', 404, ["#/policy"]),
    (json.dumps({"attributes": {str(n): "" for n in range(65)}}).encode(), 422, ["#/attributes"]),
]


@pytest.mark.parametrize(("body", "status", "pointers"), BROKEN)
def test_a_body_that_cannot_be_read_is_a_problem_that_names_the_field(body, status, pointers):
    running = Running(shop=policy((5, SECOND), deny=[cidr("ip", "192.0.2.0/24")]))

    with pytest.raises(Problem) as raised:
        running.block.check("", "", body)

    assert raised.value.status == status
    assert [error.pointer for error in raised.value.errors] == pointers
    assert raised.value.document()


def test_an_unknown_policy_is_told_with_those_that_exist():
    running = Running(shop=policy((5, SECOND)))

    with pytest.raises(Problem) as raised:
        running.ask(policy="shpo")

    assert 'did you mean "shop"?' in raised.value.detail
    assert raised.value.extensions == {"known-policies": ("shop",)}


@pytest.mark.parametrize(
    ("bad", "pointer"),
    [
        ({"cost": "1"}, "#/checks/17/cost"),
        ({"attributes": {"user": 5}}, "#/checks/17/attributes/user"),
        ({"attributes": {"ip": "here"}}, "#/checks/17/attributes/ip"),
        ({"policy": "none"}, "#/checks/17/policy"),
        ({"polcy": "shop"}, "#/checks/17"),
    ],
)
def test_one_bad_check_refuses_the_batch_and_charges_nothing(bad, pointer):
    running = Running(shop=policy((5, SECOND), deny=[cidr("ip", "192.0.2.0/24")]))
    good = {"attributes": {"user": "a"}}

    with pytest.raises(Problem) as raised:
        running.batch(*[good] * 17, bad, *[good] * 3)

    assert (raised.value.status, raised.value.errors[0].pointer) == (422, pointer)
    assert running.block.statistics().keys == 0


def test_a_batch_has_between_one_and_a_thousand_checks():
    running = Running(shop=policy((5, SECOND)))

    assert len(running.batch(*[{}] * 1_000)) == 1_000
    for count in (0, 1_001):
        with pytest.raises(Problem, match="length"):
            running.batch(*[{}] * count)


def test_a_new_configuration_counts_only_when_it_is_committed():
    running = Running(shop=policy((5, SECOND)))
    running.ask(attributes={"user": "a"}, cost=4)

    prepared = running.prepare(shop=policy((5, SECOND), (2, SECOND)))
    assert running.ask(attributes={"user": "b"}, cost=3).allowed
    prepared.commit()

    assert not running.ask(attributes={"user": "c"}, cost=3).allowed
    assert running.ask(attributes={"user": "a"}, peek=True).remaining == 1


def test_a_configuration_that_cannot_be_read_is_refused_and_the_last_goes_on():
    running = Running(shop=policy((1, 60 * SECOND)))
    running.ask(attributes={"user": "a"})

    with pytest.raises(Refused, match="RateLimitPolicy shop"):
        running.prepare(shop={"rules": [{"name": "new-field"}]})
    with pytest.raises(Refused, match="CIDR"):
        running.prepare(shop=policy(deny=[cidr("ip", "nowhere")]))

    assert not running.ask(attributes={"user": "a"}).allowed


def test_the_bound_of_the_profile_holds():
    running = Running(settings={"max_keys": 1_000, "trusted_hops": 1}, shop=policy((5, 60 * SECOND)))
    for user in range(1_500):
        running.ask(attributes={"user": str(user)})

    now = running.block.statistics()
    assert now.keys <= now.max_keys == 1_000
    assert running.figure("pillion_ratelimit_keys") == now.keys
    assert running.figure("pillion_ratelimit_evictions_total") == now.evictions >= 500


def test_decisions_are_counted_by_policy():
    running = Running(shop=policy((2, SECOND)), other=policy((9, SECOND), key="ip"))
    for _ in range(3):
        running.ask(attributes={"user": "a"})
    running.ask(attributes={"user": "a"}, peek=True)

    assert running.figure("pillion_ratelimit_decisions_total", policy="shop", outcome="allowed") == 2
    assert running.figure("pillion_ratelimit_decisions_total", policy="shop", outcome="limited") == 1
    assert running.figure("pillion_ratelimit_decisions_total", policy="shop", outcome="shadowed") == 0
    assert running.figure("pillion_ratelimit_decisions_total", policy="other", outcome="allowed") == 0
    running.configure(shop=policy((4, SECOND)))
    assert running.figure("pillion_ratelimit_decisions_total", policy="shop", outcome="allowed") == 2
    assert running.figure("pillion_ratelimit_decisions_total", policy="other", outcome="allowed") is None


def test_statistics_can_be_shown():
    running = Running(shop=policy((2, SECOND), (9, SECOND)))
    running.ask(attributes={"user": "a"})

    assert json.loads(msgspec.json.encode(running.block.statistics())) == {
        "policies": {"shop": {"allowed": 1, "limited": 0, "shadowed": 0}},
        "rules": 2,
        "limits": 2,
        "keys": 2,
        "maxKeys": 100_000,
        "evictions": 0,
        "expirations": 0,
    }


def test_counters_that_say_nothing_are_swept_in_the_background(monkeypatch):
    monkeypatch.setattr(module, "SWEEP_PAUSE", 0)
    running = Running(shop=policy((5, SECOND)))
    for user in range(3_000):
        running.ask(attributes={"user": str(user)})
    running.clock.monotonic += SECOND

    async def sweep():
        await running.block.start()
        while running.block.statistics().keys:  # noqa: ASYNC110 - the sweep announces itself to nobody
            await asyncio.sleep(0)
        await running.tasks.stop()

    asyncio.run(asyncio.wait_for(sweep(), 30))
    assert running.block.statistics().expirations == 3_000
    assert list(running.conditions) == []


def test_a_policy_with_shadowed_rules_is_told():
    shadowed = policy((5, SECOND), (9, SECOND))
    shadowed["rules"][1]["percent"] = 10
    (told,) = Running(one=shadowed, two=policy((5, SECOND))).block.reports()

    assert (told.name, told.type, told.degrades) == ("one", "Shadowing", False)
    assert "r1;" in told.message
