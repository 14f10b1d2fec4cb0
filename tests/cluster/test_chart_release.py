"""The chart on an API server of its own: installed, upgraded from charts of before, rolled back, uninstalled, and exactly that left which the README says.

No pod runs here; the operator runs as a process with the rights that the chart gave it, so that what an operator leaves behind is there too.
"""

import asyncio
import base64
import contextlib
import json
import re
import tarfile
from dataclasses import dataclass, field

import pytest
import yaml
from tests.support.charting import CHART, EVERYTHING, GIVEN, LOADER, NAMESPACE, ROOT, helm  # noqa: F401 - a fixture
from tests.support.cluster import namespaces, sources
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import ClusterUnavailableError, open_cluster
from tests.support.cluster.inventory import inventory
from tests.support.cluster.kubectl import KubectlError
from tests.support.operator.running import QUICK, OperatorProcess, account_access, eventually, policy, profile

pytestmark = pytest.mark.slow

RELEASED = sorted((ROOT / "tests" / "chart" / "released").glob("*.tgz"))
APPS = ("chart-one", "chart-two")
REDIS = f"replicas=3,networkPolicy.enabled=true,redis.namespaces={{{APPS[1]}}},redis.url=redis://redis.cache.svc:6379/0"
FOREIGN = {
    "monitoring.coreos.com": ("ServiceMonitor", "PodMonitor", "PrometheusRule"),
    "cert-manager.io": ("Issuer", "Certificate"),
}
"""Kinds of others that the chart can make."""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """An API server that knows nothing of the product yet."""
    if isinstance(sources.choose(), sources.Offered | sources.Kind):
        pytest.skip("a release owns its cluster; this one is somebody's")
    try:
        with open_cluster(lambda _: None) as cluster:
            for group, kinds in FOREIGN.items():
                cluster.kubectl.run("apply", "--server-side", "--filename=-", stdin=foreign(group, kinds))
            asyncio.run(_namespaces(cluster))
            for group in FOREIGN:
                cluster.kubectl.run(
                    "wait", "--for=condition=Established", "crd", "--selector", f"group={group}", "--timeout=30s"
                )
            yield cluster
    except ClusterUnavailableError as unavailable:
        pytest.skip(f"no API server: {unavailable}")


async def _namespaces(cluster):
    async with Api(cluster.access) as api:
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in (NAMESPACE, *APPS):
            await namespaces.create(api, name, restricted)


def foreign(group, kinds):
    """Definitions that take anything, as far as a server-side dry run needs them."""
    return "---\n".join(
        json.dumps(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{kind.lower()}s.{group}", "labels": {"group": group}},
                "spec": {
                    "group": group,
                    "scope": "Namespaced",
                    "names": {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower()},
                    "versions": [
                        {
                            "name": "v1",
                            "served": True,
                            "storage": True,
                            "schema": {
                                "openAPIV3Schema": {
                                    "type": "object",
                                    "properties": {
                                        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                                    },
                                }
                            },
                        }
                    ],
                },
            }
        )
        + "\n"
        for kind in kinds
    )


@pytest.mark.parametrize("values", [EVERYTHING, GIVEN], ids=lambda path: path.stem)
def test_the_api_server_takes_every_object_and_pods_pass_restricted_security(own, helm, values):  # noqa: F811
    documents = helm.documents("--values", str(values))
    pods = [one for one in documents if one["kind"] == "Pod"]
    for deployment in (one for one in documents if one["kind"] == "Deployment"):
        template = deployment["spec"]["template"]
        template["spec"].pop("serviceAccountName", None)
        template["spec"].pop("priorityClassName", None)
        metadata = template["metadata"] | {"name": f"of-{deployment['metadata']['name']}", "namespace": NAMESPACE}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})

    for found in (documents, pods):
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
        said = own.kubectl.run(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifest
        )
        assert len(said.splitlines()) == len(found)


def objects(cluster):
    """Every object of the cluster."""

    async def listed():
        async with Api(cluster.access) as api:
            return await inventory(api)

    return asyncio.run(listed())


def definitions(cluster):
    """The specs of our definitions."""
    listed = json.loads(cluster.kubectl.run("get", "crd", "--output=json"))["items"]
    return {one["metadata"]["name"]: schema(one) for one in listed if one["spec"]["group"] == "pillion.dev"}


def schema(definition):
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def shipped(chart=None):
    """The same as a chart brings them."""
    if chart is None:
        texts = [file.read_text() for file in (CHART / "files" / "crds").iterdir()]
    else:
        with tarfile.open(chart) as archive:
            names = [name for name in archive.getnames() if "/files/crds/" in name]
            texts = [archive.extractfile(name).read().decode() for name in names]
    return {one["metadata"]["name"]: schema(one) for one in (yaml.load(text, LOADER) for text in texts)}


def bundles(cluster):
    """What the webhooks are told to believe."""
    listed = json.loads(
        cluster.kubectl.run("get", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "--output=json")
    )
    return [webhook["clientConfig"].get("caBundle", "") for one in listed["items"] for webhook in one["webhooks"]]


def cleanup():
    """The commands of the README that remove what an uninstall leaves."""
    section = (CHART / "README.md").read_text().split("## Uninstall")[1].split("## ")[0]
    return [line.split()[2:] for line in re.findall(r"^\$ kubectl .*$", section, re.MULTILINE)]


@dataclass
class Story:
    """What was there after each step."""

    before: set[str]
    objects: dict[str, set[str]] = field(default_factory=dict)
    definitions: dict[str, dict] = field(default_factory=dict)
    bundles: dict[str, list[str]] = field(default_factory=dict)
    resources: dict[str, set[str]] = field(default_factory=dict)
    ready: bool = False
    may_read: dict[str, bool] = field(default_factory=dict)

    def record(self, cluster, step):
        self.objects[step] = objects(cluster) - self.before
        self.definitions[step] = definitions(cluster)
        self.bundles[step] = bundles(cluster)
        self.resources[step] = {
            one for one in self.objects[step] if one.split()[0] in {"RateLimitPolicy", "SidecarProfile"}
        }


@pytest.fixture(scope="module", params=RELEASED, ids=lambda path: path.stem)
def chart_of_before(request):
    return request.param


@pytest.fixture(scope="module")
def story(own, helm, chart_of_before, tmp_path_factory):  # noqa: F811
    """One release from its first day to its last."""
    run = helm.on(own.kubectl.kubeconfig)
    place = ("pillion", "--namespace", NAMESPACE)
    told = Story(objects(own))

    run("install", "pillion", str(chart_of_before), *place[1:], "--set", f"secrets.namespaces={{{APPS[0]}}}")
    established(own)
    apply(own, policy("shop", 5), profile("default"))
    told.record(own, "installed")

    run("upgrade", "pillion", str(CHART), *place[1:], "--reset-then-reuse-values")
    with operated(own, tmp_path_factory.mktemp("operator")):
        path = f"/apis/pillion.dev/v1alpha1/namespaces/{APPS[0]}/ratelimitpolicies/shop"
        until(lambda: "conditions" in json.loads(own.kubectl.run("get", "--raw", path)).get("status", {}))
        until(lambda: all(bundles(own)))
        until(lambda: f"ConfigMap {APPS[0]}/pillion-ca" in objects(own))
        told.ready = True
    told.record(own, "upgraded")

    run("upgrade", "pillion", str(CHART), *place[1:], "--set", REDIS)
    told.may_read = {name: may_read(own, name) for name in ("pillion-redis", "another")}
    told.record(own, "changed")

    run("rollback", "pillion", "1", "--namespace", NAMESPACE)
    told.record(own, "rolled back")
    run("rollback", "pillion", "2", "--namespace", NAMESPACE)
    told.record(own, "rolled forward")

    run("uninstall", *place)
    told.record(own, "uninstalled")

    run("install", "pillion", str(CHART), *place[1:])
    run("uninstall", *place)
    told.record(own, "installed and uninstalled again")

    for command in cleanup():
        own.kubectl.run(*command)
    gone = ("RateLimitPolicy", "SidecarProfile")
    until(lambda: not any(one.startswith(gone) for one in objects(own)))
    told.record(own, "cleaned")
    return told


def may_read(cluster, secret):
    """Whether the operator may read a Secret of the second namespace."""
    account = f"--as=system:serviceaccount:{NAMESPACE}:pillion-operator"
    try:
        cluster.kubectl.within(APPS[1]).run("auth", "can-i", "get", f"secrets/{secret}", account, "--quiet")
    except KubectlError:
        return False
    return True


def until(holds):
    asyncio.run(eventually(holds, within=30, pause=0.2))


def established(cluster):
    cluster.kubectl.run("wait", "--for=condition=Established", *(f"crd/{name}" for name in shipped()), "--timeout=30s")


def apply(cluster, *resources):
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources)})
    cluster.kubectl.within(APPS[0]).run("apply", "--filename=-", stdin=manifest)


@contextlib.contextmanager
def operated(cluster, folder):
    """The operator, as the service account of the chart."""
    operator = OperatorProcess(asyncio.run(account_access(cluster)), folder, *QUICK, own_authority=True)
    operator.start()
    try:
        yield
    finally:
        operator.stop()


RUNTIME = {f"Secret {NAMESPACE}/pillion-ca", f"Lease {NAMESPACE}/pillion-operator", f"ConfigMap {APPS[0]}/pillion-ca"}
"""What the operator makes while it runs."""


def of_helm(objects):
    """Without resources, what the operator made, and Helm's own records."""
    return {
        one
        for one in objects
        if one not in RUNTIME
        and not one.startswith(("RateLimitPolicy", "SidecarProfile", f"Secret {NAMESPACE}/sh.helm."))
    }


def test_an_installation_is_what_the_chart_renders(story, helm, chart_of_before):  # noqa: F811
    rendered = {
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
        for one in helm.documents("--set", f"secrets.namespaces={{{APPS[0]}}}", chart=chart_of_before)
    }

    assert of_helm(story.objects["installed"]) == rendered


def test_an_upgrade_brings_the_new_fields_of_the_definitions(story, chart_of_before):
    assert story.definitions["installed"] == shipped(chart_of_before)
    assert story.definitions["upgraded"] == shipped()
    assert story.definitions["installed"] != story.definitions["upgraded"]


def test_an_upgrade_keeps_the_values_of_the_release(story):
    assert f"RoleBinding {APPS[0]}/pillion-operator-secrets" in story.objects["upgraded"]


def test_the_operator_works_with_the_rights_of_the_chart(story):
    assert story.ready
    assert story.objects["upgraded"] >= RUNTIME


def test_an_upgrade_takes_nothing_from_what_the_operator_wrote(story):
    assert story.bundles["upgraded"] == story.bundles["changed"]
    assert b"BEGIN CERTIFICATE" in base64.b64decode(story.bundles["changed"][0])


def test_the_operator_may_read_the_url_of_redis_and_nothing_beside_it(story):
    assert f"Secret {APPS[1]}/pillion-redis" in story.objects["changed"]
    assert story.may_read == {"pillion-redis": True, "another": False}


def test_a_rollback_gives_back_what_was_and_keeps_resources(story, chart_of_before):
    assert story.definitions["rolled back"] == shipped(chart_of_before)
    assert of_helm(story.objects["rolled back"]) == of_helm(story.objects["installed"])
    assert of_helm(story.objects["rolled forward"]) == of_helm(story.objects["upgraded"])
    assert all(story.bundles["rolled forward"])


def test_resources_outlive_every_step(story):
    alive = {step: found for step, found in story.resources.items() if step != "cleaned"}

    assert set(map(frozenset, alive.values())) == {
        frozenset({f"RateLimitPolicy {APPS[0]}/shop", f"SidecarProfile {APPS[0]}/default"})
    }


@pytest.mark.parametrize("step", ["uninstalled", "installed and uninstalled again"])
def test_an_uninstall_leaves_definitions_resources_and_what_the_readme_names(story, step):
    crds = {f"CustomResourceDefinition /{name}" for name in shipped()}

    assert story.objects[step] == crds | story.resources[step] | RUNTIME


def test_the_commands_of_the_readme_remove_the_rest(story):
    assert story.objects["cleaned"] == set()
