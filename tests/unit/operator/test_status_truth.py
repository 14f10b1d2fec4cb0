"""Statuses over whole histories: edits, sidecars that come, lag, refuse, complain and go, restarts of the operator. kstatus and Argo CD must see what is true."""

import asyncio

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prometheus_client import CollectorRegistry
from tests.support.argocd import ARGO_OF, argocd_health
from tests.support.kstatus import kstatus
from tests.support.operator.running import DEPLOY
from tests.support.operator.statuses import many_facts, seen_by_kubectl
from tests.support.operator.toys import VOCABULARY, gauge

from pillion.kinds import registry
from pillion.kinds.argocd import config_map, customizations, health_script
from pillion.kinds.exchange import Acknowledgement, ConditionReport, UnreadyReport
from pillion_operator.announcing import Announcer
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.conditions import condition
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.reporting import Reporter
from pillion_operator.secretstore import SecretStore
from pillion_operator.settings import Settings
from pillion_operator.work import QueueMetrics

SHIPPED = DEPLOY / "optional" / "argocd-health.yaml"
A = ResourceKey("Gauge", "shop", "a")
BAD = 13
UNREADY = UnreadyReport(kind="Gauge", name="a", reason="SecretMissing", message="create it")
STUCK = ConditionReport(kind="Gauge", name="a", type="Stuck", reason="Rusty", message="oil it", stalls=True)


def test_the_shipped_file_is_current_and_knows_every_kind():
    text = SHIPPED.read_text()
    data = yaml.safe_load(text)["data"]

    assert text == config_map(registry.kinds().values())
    assert data == customizations(registry.kinds().values())
    assert {key.rpartition("_")[2] for key in data} == set(registry.kinds())


@given(many_facts, st.booleans(), st.booleans())
def test_argo_cd_and_kstatus_agree_on_every_status(facts, outdated, deleted):
    resource = seen_by_kubectl(facts, generation=facts.generation + outdated)
    if deleted:
        resource["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert argocd_health(health_script(), resource)[0] in ARGO_OF[kstatus(resource)]


@pytest.mark.parametrize("status", [{}, {"observedGeneration": -1}])
def test_argo_cd_waits_for_what_nobody_has_seen(status):
    assert argocd_health(health_script(), {"metadata": {"generation": 1}, "status": status})[0] == "Progressing"


class Server:
    """Holds the one resource, as the API server would."""

    def __init__(self):
        self.version, self.writes = 1, 0
        self.document = gauge("a", 1)

    async def apply(self, _path, body, *, manager, resource):  # noqa: ARG002 - what the API client takes
        self.version += 1
        self.writes += 1
        self.document = self.document | {"status": body["status"]}
        self.document["metadata"] = self.document["metadata"] | {"resourceVersion": str(self.version)}
        return self.document

    def edit(self, value, *, suspend):
        self.version += 1
        generation = self.document["metadata"]["generation"] + 1
        status = self.document["status"]
        self.document = gauge("a", value, generation=generation, version=self.version, status=status, suspend=suspend)


class Operator:
    """The parts of an operator that make a status, without their surroundings."""

    def __init__(self, server):
        registry_ = CollectorRegistry()
        self.catalogue, self.fleet = Catalogue(VOCABULARY), Fleet()
        self.reporter = Reporter(
            Settings(insecure=True, status_interval=0.0, figures_interval=0.0),
            server,
            vocabulary=VOCABULARY,
            catalogue=self.catalogue,
            fleet=self.fleet,
            secrets=SecretStore(server, 15.0, lambda _: None),
            announcer=Announcer(server, "me"),
            leading=lambda: True,
            queues=QueueMetrics(registry_),
            registry=registry_,
        )

    def take(self, document):
        self.catalogue.observe(document)
        self.catalogue.relate("shop")

    @property
    def target(self):
        good = self.catalogue.get(A).good
        held = good is not None and not good.resource.spec.suspend
        contents = {("Gauge", "a"): good.fingerprint} if held else {}
        return good.fingerprint if held else "nothing", contents

    def publish(self):
        revision, contents = self.target
        for sidecar in self.fleet.in_namespace("shop"):
            self.fleet.retarget(sidecar, revision, contents)


class Truth(RuleBasedStateMachine):
    """What is true is kept in plain fields; what is said is read from the object."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server = Server()
        self.operator = Operator(self.server)
        self.value, self.suspended = 1, False
        self.good = (1, False)
        self.sidecars = {}

    def teardown(self):
        self.loop.close()

    @initialize()
    def begin(self):
        self.operator.take(self.server.document)
        self.settle()

    def settle(self):
        self.operator.publish()
        self.loop.run_until_complete(self.operator.reporter._handle(A))

    @property
    def wanted(self):
        value, suspended = self.good
        return None if suspended else value

    @rule(value=st.sampled_from([1, 2, 3, BAD, BAD]), suspend=st.booleans())
    def edit(self, value, suspend):
        self.server.edit(value, suspend=suspend)
        assert kstatus(self.server.document) == "InProgress"  # nobody has judged it yet
        self.value, self.suspended = value, suspend
        if value != BAD:
            self.good = (value, suspend)
        for one in self.sidecars.values():
            one["refuses"] &= one["runs"] != self.wanted  # asked back to what it runs, it refuses nothing any more
        self.operator.take(self.server.document)
        self.settle()

    @rule(pod=st.sampled_from(["p1", "p2", "p3"]))
    def join(self, pod):
        if pod not in self.sidecars:
            self.sidecars[pod] = {"runs": None, "refuses": False, "unready": False, "stuck": False}
            self.operator.fleet.put(Facts(uid=pod, namespace="shop", pod=pod, labels={}, revision="nothing"))
            self.settle()

    @precondition(lambda self: self.sidecars)
    @rule(data=st.data(), refuses=st.booleans(), unready=st.booleans(), stuck=st.booleans())
    def acknowledge(self, data, refuses, unready, stuck):
        pod = data.draw(st.sampled_from(sorted(self.sidecars)))
        one = self.sidecars[pod]
        one["refuses"] = refuses and one["runs"] != self.wanted
        if not one["refuses"]:
            one["runs"] = self.wanted
        runs = one["runs"] is not None
        one["unready"], one["stuck"] = unready and runs, stuck and runs
        said = Acknowledgement(
            revision=self.operator.target[0],
            applied=not one["refuses"],
            message="cannot",
            unready=(UNREADY,) if one["unready"] else (),
            conditions=(STUCK,) if one["stuck"] else (),
        )
        self.operator.fleet.acknowledge("shop", pod, said)
        self.settle()

    @precondition(lambda self: self.sidecars)
    @rule(data=st.data())
    def leave(self, data):
        pod = data.draw(st.sampled_from(sorted(self.sidecars)))
        del self.sidecars[pod]
        self.operator.fleet.leave("shop", pod, 0.0)
        self.operator.fleet.expire(1.0)
        self.settle()

    @precondition(lambda self: all(one["runs"] == self.wanted for one in self.sidecars.values()))
    @rule()
    def restart(self):
        """A new process knows what the API server shows, and what sidecars say when they come back.

        Of one that comes back with an earlier configuration it cannot know what that held (docs/operator.md), so that case is left out.
        """
        former, writes = self.operator.fleet, self.server.writes
        self.operator = Operator(self.server)
        self.operator.take(self.server.document)
        for sidecar in former:
            known = sidecar.facts
            self.operator.fleet.put(known)
        self.operator.publish()
        self.loop.run_until_complete(self.operator.reporter._handle(A))
        assert self.server.writes == writes

    def truth(self):
        lagging = [one for one in self.sidecars.values() if one["runs"] != self.wanted]
        if self.value == BAD or any(one["refuses"] for one in lagging):
            return "Failed"
        if lagging or any(one["unready"] for one in self.sidecars.values()):
            return "InProgress"
        return "Failed" if any(one["stuck"] for one in self.sidecars.values()) else "Current"

    @invariant()
    def kstatus_sees_the_truth(self):
        if self.server.writes:
            assert kstatus(self.server.document) == self.truth()

    @invariant()
    def argo_cd_sees_the_same(self):
        if self.server.writes:
            status, message = argocd_health(health_script(), self.server.document)
            assert status in ARGO_OF[kstatus(self.server.document)]
            assert (status == "Suspended") == (self.suspended and kstatus(self.server.document) == "Current")
            assert message

    @invariant()
    def what_runs_is_what_was_accepted_last(self):
        if self.server.writes and self.value == BAD:
            status = self.server.document["status"]
            assert self.operator.catalogue.get(A).good.resource.spec.value == self.good[0]
            assert (condition(status, "Stale") == {}) == self.good[1]


Truth.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestTruth = Truth.TestCase
