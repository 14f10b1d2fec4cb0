"""Publishing: who gets what, once, with which Secrets, and nothing on ignorance."""

import base64
import hashlib
import json

import msgspec
import pytest
from tests.support.operator.toys import VOCABULARY, gauge

from pillion.kinds.exchange import Acknowledgement, SnapshotMessage
from pillion_operator.api import ApiError
from pillion_operator.catalogue import Catalogue, ResourceKey
from pillion_operator.distribution import Distribution, Subscription
from pillion_operator.fleet import Facts, Fleet
from pillion_operator.secretstore import SecretStore

A = ResourceKey("Gauge", "shop", "a")


class Secrets:
    """The Secrets of an API server; an exception instead of one is raised."""

    def __init__(self, **values):
        self.values, self.reads = values, []

    async def request(self, method, path, *, resource):  # noqa: ARG002
        self.reads.append(path)
        found = self.values.get(path.rpartition("/")[2], ApiError(404, "NotFound", ""))
        if isinstance(found, ApiError):
            raise found
        version, data = found
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        return msgspec.json.encode({"metadata": {"uid": "s", "resourceVersion": version}, "data": encoded})


class World:
    def __init__(self, *documents, **secrets):
        self.catalogue, self.fleet, self.server = Catalogue(VOCABULARY), Fleet(), Secrets(**secrets)
        self.changed = []
        self.store = SecretStore(self.server, 15.0, self.changed.append)
        self.distribution = Distribution(VOCABULARY, self.catalogue, self.fleet, self.store)
        self.edit(*documents)

    def edit(self, *documents):
        for document in documents:
            self.catalogue.observe(document)
        for namespace in self.catalogue.namespaces():
            self.catalogue.relate(namespace)

    def join(self, pod, namespace="shop", revision="", **labels):
        facts = Facts(uid=f"{namespace}-{pod}", namespace=namespace, pod=pod, labels=labels, revision=revision)
        return self.distribution.subscribe(facts)[0]

    async def publish(self, namespace="shop"):
        return await self.distribution.publish(namespace, 1.0)


async def received(subscription: Subscription):
    raw = await subscription.next(0)
    if raw is None:
        return None
    lines = dict(line.split(": ", 1) for line in raw.decode().splitlines() if line)
    message = msgspec.json.decode(lines["data"], type=SnapshotMessage)
    assert hashlib.sha256(message.document.encode()).hexdigest() == lines["id"]
    return json.loads(message.document), message.secrets


def values(document):
    return {name: g["value"] for name, g in document["blocks"]["toy"]["resources"].get("Gauge", {}).items()}


async def test_a_sidecar_gets_what_its_namespace_holds_and_selects_it():
    world = World(
        gauge("a", 1),
        gauge("b", 2, selector={"matchLabels": {"app": "shop"}}),
        gauge("c", 3, selector={"matchLabels": {"app": "other"}}),
        gauge("d", 4, suspend=True),
        gauge("e", 5, namespace="elsewhere"),
    )
    subscription = world.join("p", app="shop")
    await world.publish()

    document, _ = await received(subscription)
    assert values(document) == {"a": 1, "b": 2}
    assert document["namespace"] == "shop"


async def test_nothing_is_sent_twice():
    world = World(gauge("a", 1))
    subscription = world.join("p")
    first = await world.publish()
    await received(subscription)

    second = await world.publish()

    assert (first.offered, second.offered) == (1, 0)
    assert await received(subscription) is None


async def test_a_sidecar_that_comes_with_the_current_revision_is_sent_nothing_and_counts():
    world = World(gauge("a", 1))
    world.join("p")
    await world.publish()
    revision = world.fleet.get("shop", "shop-p").target

    again = world.join("p", revision=revision)
    await world.publish()

    assert await received(again) is None
    assert world.fleet.tally(A).propagated


async def test_only_the_newest_snapshot_waits_for_a_slow_sidecar():
    world = World(gauge("a", 1))
    subscription = world.join("p")
    for value in (1, 2, 3):
        world.edit(gauge("a", value, generation=value, version=value))
        await world.publish()

    document, _ = await received(subscription)
    assert values(document) == {"a": 3}
    assert await received(subscription) is None


async def test_an_edit_that_is_taken_back_before_its_acknowledgement_is_taken_back_in_the_sidecar_too():
    world = World(gauge("a", 1))
    subscription = world.join("p")
    await world.publish()
    await received(subscription)
    first = world.fleet.get("shop", "shop-p").target
    world.fleet.acknowledge("shop", "shop-p", Acknowledgement(revision=first, applied=True))
    world.edit(gauge("a", 2, generation=2, version=2))
    await world.publish()
    await received(subscription)

    world.edit(gauge("a", 1, generation=3, version=3))
    await world.publish()

    document, _ = await received(subscription)
    assert values(document) == {"a": 1}


async def test_an_edit_elsewhere_is_not_sent():
    world = World(gauge("a", 1), gauge("b", 1, selector={"matchLabels": {"app": "other"}}))
    mine, other = world.join("mine", app="shop"), world.join("other", app="other")
    await world.publish()
    await received(mine)
    await received(other)

    world.edit(gauge("b", 2, generation=2, version=2, selector={"matchLabels": {"app": "other"}}))
    published = await world.publish()

    assert published.offered == 1
    assert await received(mine) is None
    assert values((await received(other))[0]) == {"a": 1, "b": 2}


async def test_like_pods_share_one_message():
    world = World(gauge("a", 1, selector={"matchLabels": {"app": "shop"}}))
    subscriptions = [world.join(str(n), app="shop", hash=str(n)) for n in range(3)]
    await world.publish()

    messages = [await subscription.next(0) for subscription in subscriptions]
    assert messages[0] is messages[1] is messages[2]


async def test_secret_values_travel_beside_the_document_never_in_it():
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), s=("7", {"k": b"hunter2", "other": b"x"}))
    subscription = world.join("p")
    await world.publish()

    document, secrets = await received(subscription)
    assert secrets == {"s": {"k": b"hunter2", "other": b"x"}}
    assert "hunter2" not in json.dumps(document)
    assert document["secrets"] == {"s": "s/7"}
    assert "hunter2" not in repr(world.store.get("shop", "s"))


async def test_a_rotated_secret_is_sent_and_makes_its_resource_lag_until_then():
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), gauge("b", 1), s=("7", {"k": b"old"}))
    subscription = world.join("p")
    await world.publish()
    await received(subscription)
    target = world.fleet.get("shop", "shop-p").target
    world.fleet.acknowledge("shop", "shop-p", Acknowledgement(revision=target, applied=True))

    world.server.values["s"] = ("8", {"k": b"new"})
    await world.store.refresh()
    assert world.changed == ["shop"]
    published = await world.publish()

    assert published.touched == {A}
    assert not world.fleet.tally(A).propagated
    assert (await received(subscription))[1] == {"s": {"k": b"new"}}


async def test_only_secrets_that_a_sidecar_needs_are_read():
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), s=("7", {}), other=("1", {}))
    await world.publish()
    assert world.server.reads == []

    world.join("p")
    await world.publish()
    assert world.server.reads == ["/api/v1/namespaces/shop/secrets/s"]

    world.edit(gauge("a", 1, generation=2, version=2))
    await world.publish()
    await world.store.refresh()
    assert len(world.server.reads) == 1


@pytest.mark.parametrize(("status", "problem"), [(404, "SecretMissing"), (403, "SecretForbidden")])
async def test_a_secret_that_is_not_there_is_a_fact_and_is_published(status, problem):
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), s=ApiError(status, "", ""))
    subscription = world.join("p")
    await world.publish()

    document, secrets = await received(subscription)
    assert document["secrets"] == {"s": ""}
    assert secrets == {}
    assert world.store.get("shop", "s").problem == problem


async def test_nothing_is_published_while_a_secret_cannot_be_asked_for():
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), s=ApiError(0, "Unreachable", "x"))
    subscription = world.join("p")

    with pytest.raises(ApiError):
        await world.publish()
    assert await received(subscription) is None

    world.server.values["s"] = ("7", {"k": b"v"})
    await world.publish()
    assert (await received(subscription))[1] == {"s": {"k": b"v"}}


async def test_an_api_server_that_is_away_later_changes_no_secret():
    world = World(gauge("a", 1, secret={"name": "s", "key": "k"}), s=("7", {"k": b"v"}))
    world.join("p")
    await world.publish()

    world.server.values["s"] = ApiError(0, "Unreachable", "x")
    await world.store.refresh()

    assert world.changed == []
    assert world.store.get("shop", "s").values == {"k": b"v"}


async def test_a_new_stream_of_the_same_pod_closes_the_older_one():
    world = World(gauge("a", 1))
    older = world.join("p")
    newer = world.join("p")

    assert older.closing
    assert world.distribution.unsubscribe(older, 1.0) == set()
    assert world.distribution.subscription("shop-p") is newer
