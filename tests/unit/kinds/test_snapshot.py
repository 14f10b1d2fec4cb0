"""A snapshot is the same whatever the order of its resources, and another one whenever their meaning changes."""

import hashlib
from typing import Annotated

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from pillion.kinds.definition import BlockDefinition, Kind
from pillion.kinds.model import LabelSelector, SecretKeyRef, Spec
from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import Resource
from pillion.kinds.selection import Pod
from pillion.kinds.snapshot import compile_snapshot


class ThingSpec(Spec, frozen=True, kw_only=True):
    """A thing."""

    size: Annotated[int, Meta(ge=0, description="Size.")] = 0
    secret_ref: Annotated[SecretKeyRef | None, Meta(description="Secret.")] = None


THING = Kind(
    kind="Thing",
    plural="things",
    short_names=(),
    summary="A thing.",
    spec=ThingSpec,
    compile=lambda _n, s: {"size": s.size},
)
BLOCK = BlockDefinition(name="things", kinds=(THING,))
KINDS = {"Thing": THING, "SidecarProfile": profile_kind((BLOCK,))}
POD = Pod(namespace="shop", labels={"app": "shop", "tier": "web"})


def compiled(resources, pod=POD, versions=None):
    return compile_snapshot(
        resources, pod, kinds=KINDS, blocks=("things",), block_of={"Thing": "things"}, secret_versions=versions or {}
    )


specs = st.builds(
    ThingSpec,
    size=st.integers(0, 5),
    suspend=st.booleans(),
    selector=st.none()
    | st.builds(
        LabelSelector,
        match_labels=st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["shop", "web", "db"])),
    ),
)
resource_sets = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), specs, max_size=4).map(
    lambda named: [Resource(kind="Thing", namespace="shop", name=name, spec=spec) for name, spec in named.items()]
)


@given(resource_sets, st.randoms())
def test_order_does_not_matter(resources, random):
    shuffled = list(resources)
    random.shuffle(shuffled)

    assert compiled(shuffled) == compiled(resources)


def meaning(resources):
    """What a reader would say the sidecar runs: an oracle that knows nothing of JSON."""
    return {
        (r.name, r.spec.size)
        for r in resources
        if not r.spec.suspend
        and (r.spec.selector is None or all(POD.labels.get(k) == v for k, v in r.spec.selector.match_labels.items()))
    }


@given(resource_sets, resource_sets)
def test_the_revision_differs_exactly_when_the_meaning_does(one, other):
    assert (compiled(one).revision == compiled(other).revision) == (meaning(one) == meaning(other))


def test_the_revision_is_the_digest_of_the_document():
    snapshot = compiled([])

    assert snapshot.revision == hashlib.sha256(snapshot.document).hexdigest()


def test_other_namespaces_are_invisible():
    foreign = Resource(kind="Thing", namespace="bank", name="a", spec=ThingSpec(size=3))

    assert compiled([foreign]) == compiled([])


def test_a_rotated_secret_changes_the_revision_but_its_value_is_nowhere():
    using = [
        Resource(kind="Thing", namespace="shop", name="a", spec=ThingSpec(secret_ref=SecretKeyRef(name="s", key="k")))
    ]

    before, after = compiled(using, versions={"s": "1", "unused": "7"}), compiled(using, versions={"s": "2"})

    assert before.revision != after.revision
    assert before.secrets == {"s"}
    assert msgspec.json.decode(before.document)["secrets"] == {"s": "1"}


def test_a_profile_that_selects_the_pod_wins_over_one_for_all():
    spec = KINDS["SidecarProfile"].spec
    everyone = Resource(kind="SidecarProfile", namespace="shop", name="a", spec=spec())
    web = Resource(
        kind="SidecarProfile",
        namespace="shop",
        name="b",
        spec=spec(selector=LabelSelector(match_labels={"tier": "web"})),
    )

    assert msgspec.json.decode(compiled([everyone, web]).document)["profile"]["name"] == "b"
