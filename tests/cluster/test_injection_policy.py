"""Injection by policy and by webhook give the same pod: the API server is asked for both, side by side, and nothing but names and times may differ."""

import asyncio
import contextlib
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.cluster import namespaces
from tests.support.cluster.api import Api, ApiError
from tests.support.cluster.identities import ensure_service_account
from tests.support.cluster.kubectl import KubectlError
from tests.support.operator.admission import (
    configurations,
    confined,
    has_sidecar,
    injection_policy,
    installed,
    pod,
    trusted,
)
from tests.support.operator.pods import IMPOSSIBLE, PODS
from tests.support.operator.running import QUICK, OperatorProcess, account_access, eventually, install, profile

from pillion_operator.injection.forms import OWN_FOLDERS
from pillion_operator.injection.precedence import ANNOTATIONS, PREFIX

pytestmark = pytest.mark.slow

ASKS = {"pillion.dev/inject": "true"}
STRICT = {"pillion.dev/failure-policy": "strict"}
BY = "tests.pillion.dev/by"
"""Label of a namespace that says who injects there: `webhook`, `policy` or `both`."""

VARIANTS = {
    "plain": {},
    "sized": {"memory-limit": "512Mi", "log-level": "debug", "port": "4700", "image": "registry.example/p:2"},
    "mounted": {"mounts": "v=/srv", "cpu-request": "250m", "memory-request": "1Gi"},
    "broken": {"log-level": "loud"},
}
"""Annotations of namespaces, without their prefix."""


class Side:
    """Namespaces in which webhook and policy inject, alone or together."""

    def __init__(self, cluster, operator, runner):
        self._cluster = cluster
        self._runner = runner
        self._made = []
        self.operator = operator

    def make(self, by, variant="plain", **labels):
        name = namespaces.name_for(f"{by}-{variant}")
        self._made.append(name)
        self._runner.run(self._make(name, {BY: by, **ASKS, **labels}, VARIANTS[variant]))
        return name

    async def _make(self, name, labels, annotations):
        async with Api(self._cluster.access) as api:
            await namespaces.create(api, name, labels)
            named = {PREFIX + key: value for key, value in annotations.items()}
            await api.patch(f"/api/v1/namespaces/{name}", {"metadata": {"annotations": named}})
            await ensure_service_account(api, name, "app")

    def remove(self):
        async def all_of_them():
            async with Api(self._cluster.access) as api:
                for name in self._made:
                    await namespaces.remove(api, name, controlled=self._cluster.controlled)

        self._runner.run(all_of_them())


@pytest.fixture(scope="module")
def side(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    install(cluster, folder)
    flags = ("--repair-interval=1", "--figures-interval=0")
    operator = OperatorProcess(asyncio.run(account_access(cluster)), folder, *QUICK, *flags, own_authority=True)
    webhooks = [confined(document, BY, "webhook", "both") for document in configurations(operator.webhooks)]
    policies = [confined(document, BY, "policy", "both") for document in injection_policy()]
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        stack.enter_context(installed(cluster, webhooks + policies))
        operator.start()
        stack.callback(operator.stop)
        made = Side(cluster, operator, runner)
        stack.callback(made.remove)
        runner.run(eventually(lambda: trusted(cluster), what="the API server is told whom to trust"))
        yield made


@pytest.fixture(scope="module")
def pairs(side, cluster):
    """For each variant, a namespace where the webhook injects and one where the policy does; both do so already."""
    made = {variant: (side.make("webhook", variant), side.make("policy", variant)) for variant in VARIANTS}

    async def effective():
        async with Api(cluster.access) as api, asyncio.timeout(30):
            for variant, both in made.items():
                for namespace in both:
                    # Neither informers nor watches announce that they have seen something.
                    while variant != "broken" and not expected(await probe(api, namespace), VARIANTS[variant]):  # noqa: ASYNC110 - see above
                        await asyncio.sleep(0.05)

    side._runner.run(effective())
    return made


@pytest.fixture(scope="module")
def together(side, pairs):
    """A namespace where the policy injects and the webhook is the net below it, and another one that is strict."""
    return side.make("both"), side.make("both", **STRICT)


@pytest.fixture
async def operator(side, cluster):
    """The operator, started again where a test has ended it."""
    if not side.operator.process.running:
        side.operator.start()
    await eventually(lambda: trusted(cluster), what="the API server is told whom to trust")
    return side.operator


def expected(found, annotations):
    """Whether a pod was injected as a namespace's annotations say, as far as the log level and requests tell."""
    if not has_sidecar(found):
        return False
    sidecar = found["spec"]["initContainers"][0]
    level = {"name": "PILLION_LOG_LEVEL", "value": annotations.get("log-level", "info")}
    return level in sidecar["env"] and sidecar["resources"]["requests"]["cpu"] == annotations.get("cpu-request", "10m")


async def probe(api, namespace, made=None):
    """A pod as the API server would store it."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    asked = made or pod("probe", volumes=[{"name": "v", "emptyDir": {}}])
    return await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", asked, **query)


async def told(api, namespace, made):
    """What the API server answers to *made*, byte for byte, without what differs between any two answers."""
    try:
        found = await probe(api, namespace, made)
    except ApiError as error:
        text = f"{error.status} {error.message}"
    else:
        for field in ("uid", "creationTimestamp"):
            found["metadata"].pop(field)
        for entry in found["metadata"].get("managedFields", ()):
            entry.pop("time")
        text = json.dumps(found)
    return re.sub(r"kube-api-access-[a-z0-9]{5}", "kube-api-access", text.replace(namespace, "NAMESPACE"))


async def both_say(api, pair, made):
    """The one answer of both; the policy's is shown where they differ."""
    by_webhook, by_policy = await asyncio.gather(*(told(api, namespace, made) for namespace in pair))
    assert by_policy == by_webhook
    return by_policy


def whole(golden):
    """A golden pod with what the API server asks of every pod."""
    return {"apiVersion": "v1", "kind": "Pod", **golden, "metadata": {"name": "p"} | golden["metadata"]}


@pytest.mark.parametrize("variant", ["plain", "sized"])
@pytest.mark.parametrize("name", PODS)
async def test_a_pod_as_met_in_the_world_becomes_the_same_by_both(pairs, api, name, variant):
    answer = json.loads(await both_say(api, pairs[variant], whole(PODS[name])))

    assert has_sidecar(answer)


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_a_pod_that_can_have_none_is_stored_as_it_came_by_both(pairs, api, name):
    answer = json.loads(await both_say(api, pairs["plain"], whole(IMPOSSIBLE[name][0])))

    assert not has_sidecar(answer)
    assert "pillion.dev/injected" not in answer["metadata"].get("annotations", {})


async def test_a_namespace_whose_annotation_cannot_be_read_has_no_sidecars_by_both(pairs, api):
    assert not has_sidecar(json.loads(await both_say(api, pairs["broken"], pod("p"))))


async def test_what_the_policy_gave_is_left_as_it_is_by_both(pairs, api):
    first = whole(PODS["init containers"])
    first["spec"] = {**first["spec"], "automountServiceAccountToken": False}
    once = await probe(api, pairs["sized"][1], first)
    again = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again"}, "spec": once["spec"]}

    answer = json.loads(await both_say(api, pairs["sized"], again))

    assert answer["spec"] == once["spec"]


async def test_a_container_that_came_later_is_equipped_by_both(pairs, api):
    once = await probe(api, pairs["plain"][1])
    once["spec"]["containers"].append({"name": "late", "image": "l"})
    again = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again"}, "spec": once["spec"]}

    late = json.loads(await both_say(api, pairs["plain"], again))["spec"]["containers"][-1]

    assert "PILLION_URL" in {variable["name"] for variable in late["env"]}


def reviews(operator):
    return operator.metric("pillion_operator_admission_reviews_total", webhook="pods")


async def test_where_the_policy_injects_the_webhook_is_asked_about_nothing_else(operator, together, api, cluster):
    before = reviews(operator)
    for namespace in together:
        assert has_sidecar(await probe(api, namespace))
    assert reviews(operator) == before

    manifest = json.dumps(pod("host", hostNetwork=True))
    for namespace in together:
        kubectl = cluster.kubectl.within(namespace)
        with pytest.raises(KubectlError) as warned:
            await kubectl("create", "--dry-run=server", "--warnings-as-errors", "--filename=-", stdin=manifest)
        assert "no Pillion sidecar: the pod uses the node's network" in warned.value.output
    assert reviews(operator) == before + len(together)


async def test_a_pod_beyond_what_an_expression_may_cost_is_left_to_the_webhook(operator, together, pairs, api):
    many = pod("many")
    many["spec"]["containers"] = [{"name": f"c{number}", "image": "i"} for number in range(2600)]

    assert not has_sidecar(await probe(api, pairs["plain"][1], many))
    assert has_sidecar(await probe(api, together[0], many))


async def test_a_container_that_another_policy_adds_is_equipped_in_the_same_request(together, cluster, api, pairs):
    """It comes after ours in the order of names, so ours is invoked again."""
    late = 'Object.spec.containers{name: "late", image: "l"}'
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [rule]},
        "mutations": [
            {
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": f"Object{{spec: Object.spec{{containers: [{late}]}}}}"},
            }
        ],
    }
    kind = "MutatingAdmissionPolicy"
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "zz-late"}}
    binding = {"policyName": "zz-late", "matchResources": {"namespaceSelector": {"matchLabels": {BY: "policy"}}}}
    with installed(
        cluster, [{**head, "kind": kind, "spec": spec}, {**head, "kind": f"{kind}Binding", "spec": binding}]
    ):
        async with asyncio.timeout(20):
            while len((found := await probe(api, pairs["plain"][1]))["spec"]["containers"]) == 1:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.05)

    late = found["spec"]["containers"][1]
    assert "PILLION_URL" in {variable["name"] for variable in late["env"]}
    assert len(found["spec"]["initContainers"]) == 1


async def test_without_an_operator_pods_still_get_their_sidecar_and_count_as_injected_afterwards(
    operator, together, api, cluster
):
    lenient, strict = together
    await api.create(f"/apis/pillion.dev/v1alpha1/namespaces/{lenient}/sidecarprofiles", profile("default"))
    operator.stop()

    for namespace in together:
        assert has_sidecar(await api.create(f"/api/v1/namespaces/{namespace}/pods", pod("shop")))
    assert not has_sidecar(await probe(api, lenient, pod("host", hostNetwork=True)))
    with pytest.raises(ApiError, match="failed calling webhook"):
        await probe(api, strict, pod("host", hostNetwork=True))

    operator.start()
    counted = {"pods": 1, "injected": 1, "missed": 0}
    profiles = f"/apis/pillion.dev/v1alpha1/namespaces/{lenient}/sidecarprofiles"
    await api.until(profiles, "default", lambda found: counted.items() <= found.get("status", {}).items())
    table = cluster.kubectl.within(lenient).run("get", "scp")
    assert dict(zip(*(line.split()[:4] for line in table.splitlines()), strict=True)) == {
        "NAME": "default",
        "PODS": "1",
        "INJECTED": "1",
        "MISSED": "0",
    }


def mostly(usual, *rarely):
    """Usually one value, and each of the others now and then."""
    return st.sampled_from([usual] * 3 * len(rarely) + list(rarely))


paths = st.from_regex(r"/[a-z]{1,3}(/[a-z.]{1,3})?/{0,2}", fullmatch=True) | st.sampled_from(
    ["/srv", "/srv/", "//x", "/a b", "/a/../b", "/..", "/", "", "x", "/a:b", "/var", "/var/lib", *OWN_FOLDERS]
)
blanks = mostly("", " ", "\t", "\n", "\x1c", "\u00a0")
one_mount = st.builds(
    lambda *parts: "".join(parts), blanks, mostly("v", "w", "pillion-data", "V"), mostly("=", "", "=="), paths, blanks
)
mounts = st.lists(one_mount | blanks, max_size=10).map(",".join)
quantities = st.from_regex(r"(0|[1-9][0-9]{0,4})(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi)?", fullmatch=True)
strange_quantities = st.sampled_from(
    ["none", "lots", "1e3", "\u0661m", "01", "1P", "1000000G", "1000000001M", "999999999999Gi", "999999999998Gi"]
)
words = {
    "image": mostly("registry.example/p:2", "p@sha256:" + "0" * 64, "-flag", "bad image", "a" * 401, "a" * 402, "ä"),
    "image-pull-policy": st.sampled_from(["Always", "Never", "IfNotPresent", "always"]),
    "port": mostly(
        "4000", "3790", "1024", "1023", "65535", "65536", "04000", "\u0664\u0660\u0660\u0660", "40000000000000000000"
    ),
    "admin-port": mostly("4001", "3700", "4000", "8080"),
    "log-level": st.sampled_from(["debug", "warning", "loud"]),
    "mounts": mounts,
}
texts = {name: words.get(name, quantities | quantities | strange_quantities) for name in ANNOTATIONS}
anything = st.text(st.characters(codec="utf-8"), max_size=8)
annotations = st.sets(st.sampled_from(sorted(texts)), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({PREFIX + name: texts[name] for name in names})
) | st.dictionaries(st.sampled_from(sorted(texts)).map(PREFIX.__add__), anything, max_size=1)


def named(*names):
    return st.sampled_from(names).map(lambda name: {"name": name, "value": "v"})


def containers(*names, **further):
    variables = st.lists(named("A", "PILLION_URL", "OFREP_ENDPOINT", "PILLION_SOCKET"), max_size=3)
    places = st.lists(
        mostly("/a", "/run/pillion", "/run/pillion/", "/run/pillion2"),
        max_size=2,
        unique_by=lambda path: path.rstrip("/"),
    )
    mounted = places.map(lambda chosen: [{"name": "v", "mountPath": path} for path in chosen])
    optional = {"env": variables, "volumeMounts": mounted, **further}
    one = st.fixed_dictionaries({"name": st.sampled_from(names), "image": st.just("i")}, optional=optional)
    return st.lists(one, max_size=3, unique_by=lambda container: container["name"])


native = st.just("Always")
port = mostly(80, 3700, 3790, 4000).map(lambda port: [{"containerPort": port}])
specs = st.fixed_dictionaries(
    {
        "containers": containers("app", "web", "db", "pillion", ports=port).filter(bool),
        "volumes": mostly((), "w", "pillion-data", "pillion-socket").map(
            lambda name: [{"name": one, "emptyDir": {}} for one in ("v", name) if one]
        ),
    },
    optional={
        "initContainers": containers("first", "second", "third", restartPolicy=native)
        | containers("pillion", "second", restartPolicy=native),
        "securityContext": st.sampled_from([{}, {"runAsUser": 0}, {"runAsUser": 1000}]),
        "hostNetwork": mostly(False, True),
        "os": mostly({"name": "linux"}, {"name": "windows"}),
        "nodeSelector": mostly({"kubernetes.io/os": "linux"}, {"kubernetes.io/os": "windows"}, {}),
    },
)
labels = mostly({}, {"app": "x"}, *({"pillion.dev/inject": own} for own in ("true", "false", "True", "")))

BROUGHT_ALONG = {
    "containers": [{"name": "app", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/run/pillion"}]}],
    "initContainers": [{"name": "pillion", "image": "i", "restartPolicy": "Always"}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}
"""A sidecar of the pod's own, and an application that has the folder and not the variables."""


@settings(max_examples=200)
@given(variant=st.sampled_from(["plain", "sized", "mounted"]), spec=specs, own=annotations, of_pod=labels)
@example(variant="plain", spec=BROUGHT_ALONG, own={}, of_pod={})
def test_any_pod_becomes_the_same_by_both(pairs, side, cluster, *, variant, spec, own, of_pod):
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": of_pod, "annotations": own},
        "spec": spec,
    }

    async def ask():
        async with Api(cluster.access) as api:
            await both_say(api, pairs[variant], made)

    side._runner.run(ask())
