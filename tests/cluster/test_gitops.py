"""Argo CD and Flux apply the chart and the examples twice, while an operator writes what it writes: the second time nothing differs and nothing is written.

The objects go to a real API server by the verbs, the field managers and the labels of the two tools; the operator and a sidecar are processes. The tools themselves are
not here: what they decide from an empty diff is theirs.
"""

import json
import os
import time

import pytest
import yaml
from tests.support.charting import helm  # noqa: F401 - pytest finds fixtures by their names here
from tests.support.cluster.kubectl import KubectlError
from tests.support.deployed.node import Node, may_bind_webhooks
from tests.support.deployed.plane import ROOT, VERSION, NoPlaneError, open_plane
from tests.support.gitops import shapes
from tests.support.operator.running import condition

from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import kinds

pytestmark = pytest.mark.slow

FLEET = ROOT / "examples" / "gitops"
CHART = str(ROOT / "charts" / "pillion")
VALUES = f"--values={FLEET / 'platform' / 'values.yaml'}"
FOLDERS = sorted(str(file.parent.relative_to(FLEET)) for file in FLEET.rglob("kustomization.yaml"))
COMPONENT = "argocd/health"
"""Is rendered within what includes it."""

ORDERS = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "orders", "namespace": "shop"},
    "spec": {
        "selector": {"matchLabels": {"app": "orders"}},
        "template": {
            "metadata": {"labels": {"app": "orders"}},
            "spec": {
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "orders",
                        "image": "registry.example.com/orders:1",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        },
    },
}


def rendered(cluster, folder):
    """What `kubectl kustomize` makes of a folder of the fleet."""
    out = cluster.kubectl.run("kustomize", str(FLEET / folder))
    return [document for document in yaml.safe_load_all(out) if document]


def charted(chart_helm):
    """What Argo CD's repository server makes of the chart."""
    out = chart_helm(
        "template",
        CHART,
        "--name-template=pillion",
        "--namespace=pillion-system",
        f"--kube-version={VERSION}",
        "--include-crds",
        "--skip-tests",
        VALUES,
    )
    return [document for document in yaml.safe_load_all(out) if document]


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder != COMPONENT])
def test_every_kustomization_renders_to_objects_that_the_tools_know(cluster, folder):
    documents = rendered(cluster, folder)

    assert documents
    for document in documents:
        shapes.read(document)


def test_health_checks_join_a_configuration_of_argo_cd_by_either_way(cluster, tmp_path):
    """As a component of what installs it, and merged into what is there."""
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    own["data"] = {"url": "https://argocd.example.com"}
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(own))
    relative = os.path.relpath(FLEET / COMPONENT, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["argocd-cm.yaml"], "components": [relative]})
    )
    [composed] = rendered(cluster, tmp_path)

    cluster.kubectl.run("create", "namespace", "argocd")
    cluster.kubectl.run("apply", "--filename=-", stdin=yaml.safe_dump(own))
    for file in ("argocd-health.yaml", "application.yaml"):
        patch = f"--patch-file={FLEET / COMPONENT / file}"
        cluster.kubectl.run("patch", "configmap", "argocd-cm", "--namespace=argocd", "--type=merge", patch)
    applied = json.loads(cluster.kubectl.run("get", "configmap", "argocd-cm", "--namespace=argocd", "--output=json"))

    assert applied["data"] == composed["data"]
    checks = {f"resource.customizations.health.pillion.dev_{kind}" for kind in kinds()}
    assert set(applied["data"]) == {"url", "resource.customizations.health.argoproj.io_Application"} | checks


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_a_team_gets_in_each_environment_lints_clean(cluster, environment):
    documents = rendered(cluster, f"teams/shop/{environment}")
    bundle = read_bundle([("rendered.yaml", yaml.safe_dump_all(documents))], kinds())

    assert [finding.violation.message for finding in bundle.errors] == []
    assert {resource.kind for resource in bundle.resources} == set(kinds())


def test_environments_differ_where_their_patches_say_so(cluster):
    specs = {
        (environment, one["kind"]): one["spec"]
        for environment in ("staging", "production")
        for one in rendered(cluster, f"teams/shop/{environment}")
        if "spec" in one
    }

    assert specs["staging", "FeatureFlag"]["defaultVariant"] == "on"
    assert specs["production", "FeatureFlag"]["defaultVariant"] == "off"
    limits = [
        specs[environment, "RateLimitPolicy"]["rules"][0]["limits"][0] for environment in ("staging", "production")
    ]
    assert limits == [{"requests": 60, "per": "1m", "burst": 20}, {"requests": 600, "per": "1m", "burst": 100}]


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_project_of_the_teams_admits_what_a_team_brings(cluster, environment):
    project = next(
        shapes.read(one)
        for one in rendered(cluster, f"argocd/{environment}")
        if one["kind"] == "AppProject" and one["metadata"]["name"] == "teams"
    )
    admitted = {(one.group, one.kind) for one in project.spec.clusterResourceWhitelist}
    wide = {
        (one["apiVersion"].rpartition("/")[0], one["kind"])
        for one in rendered(cluster, f"teams/shop/{environment}")
        if "namespace" not in one["metadata"]
    }

    assert wide <= admitted


def test_the_project_of_the_platform_admits_what_the_chart_brings(cluster, helm):  # noqa: F811 - pytest gives fixtures by name
    project = next(
        shapes.read(one)
        for one in rendered(cluster, "argocd/production")
        if one["kind"] == "AppProject" and one["metadata"]["name"] == "platform"
    )
    admitted = {(one.group, one.kind) for one in project.spec.clusterResourceWhitelist}
    wide = [one for one in charted(helm) if "namespace" not in one["metadata"]]

    for one in wide:
        group = one["apiVersion"].rpartition("/")[0]
        assert {(group, one["kind"]), (group, "*")} & admitted, one["kind"]
    namespaces = {one["metadata"]["namespace"] for one in charted(helm) if "namespace" in one["metadata"]}
    assert namespaces == {one.namespace for one in project.spec.destinations}


class Tool:
    """How a tool marks and applies objects."""

    def __init__(self, plane, folder, manager):
        self.plane = plane
        self.folder = folder
        self.manager = manager

    def marked(self, name, document):
        raise NotImplementedError

    def file(self, name, documents):
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([self.marked(name, document) for document in documents]))
        return str(path)

    def apply(self, file, *flags):
        self.plane.kubectl.run(
            "apply",
            "--server-side",
            f"--field-manager={self.manager}",
            "--force-conflicts",
            f"--filename={file}",
            *flags,
        )

    def differences(self, file):
        """What `kubectl diff` prints; empty where the tool would call the objects in sync."""
        try:
            return self.plane.kubectl.run(
                "diff", "--server-side", f"--field-manager={self.manager}", "--force-conflicts", f"--filename={file}"
            )
        except KubectlError as error:
            return error.output

    def apply_in_stages(self, name, documents):
        raise NotImplementedError

    def settled(self, name, documents, *, sidecars):
        """Apply an application, wait until the operator has written what became of it, and find no difference; gives its file."""
        self.apply_in_stages(name, documents)
        file = self.file(name, documents)
        wait(lambda: all_run(self.plane, sidecars), f"{sidecars} sidecars run every resource")
        assert self.differences(self.chart) == ""
        assert self.differences(file) == ""
        assert written_by(self.plane, lambda: self.apply(file), file) == []
        assert self.differences(file) == ""
        return file

    def install(self):
        raise NotImplementedError

    def again(self):
        raise NotImplementedError


class ArgoCD(Tool):
    """Server-side apply of what `helm template` and kustomize give, with its annotation for tracking."""

    def marked(self, name, document):
        about = document["metadata"]
        group = document["apiVersion"].rpartition("/")[0]
        mark = f"{name}:{group}/{document['kind']}:{about.get('namespace', '')}/{about['name']}"
        return {
            **document,
            "metadata": {
                **about,
                "annotations": {**about.get("annotations", {}), "argocd.argoproj.io/tracking-id": mark},
            },
        }

    def apply_in_stages(self, name, documents):
        self.apply(self.file(name, documents))

    def install(self):
        self.plane.kubectl.run("create", "namespace", "pillion-system")
        self.chart = self.file("pillion", charted(self.plane.helm))
        self.apply(self.chart)

    def again(self):
        self.apply(self.chart)


class Flux(Tool):
    """Helm's own library for the chart, as the Helm controller uses it; a dry run and then server-side apply for the rest."""

    def marked(self, name, document):
        about = document["metadata"]
        labels = {"kustomize.toolkit.fluxcd.io/name": name, "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
        return {**document, "metadata": {**about, "labels": {**about.get("labels", {}), **labels}}}

    def apply(self, file, *flags):
        super().apply(file, "--dry-run=server")
        super().apply(file, *flags)

    def install(self):
        # Namespaces and definitions first, then what needs them; the objects of its own kinds are not here to be applied.
        base = [one for one in rendered(self.plane, "flux/pillion/production") if one["apiVersion"] == "v1"]
        self.apply_in_stages("platform", base)
        self.plane.helm("upgrade", "--install", "pillion", CHART, "--namespace=pillion-system", VALUES)
        # What it compares the cluster with to find drift.
        self.chart = str(self.folder / "manifest.yaml")
        (self.folder / "manifest.yaml").write_text(
            self.plane.helm("get", "manifest", "pillion", "--namespace=pillion-system")
        )

    def apply_in_stages(self, name, documents):
        first = [one for one in documents if one["kind"] == "Namespace"]
        self.apply(self.file(f"{name}-namespaces", first))
        self.apply(self.file(name, documents))

    def again(self):
        assert self.differences_as("helm-controller", self.chart) == ""
        self.plane.helm("upgrade", "--install", "pillion", CHART, "--namespace=pillion-system", VALUES)

    def differences_as(self, manager, file):
        own, self.manager = self.manager, manager
        try:
            return self.differences(file)
        finally:
            self.manager = own


@pytest.mark.parametrize(("tool", "manager"), [(ArgoCD, "argocd-controller"), (Flux, "kustomize-controller")])
def test_a_second_application_differs_in_nothing_and_writes_nothing(tmp_path_factory, tmp_path, tool, manager):
    if not may_bind_webhooks():
        pytest.skip("needs to listen on port 443 of a loopback address, as the operator's Service")
    try:
        with (
            open_plane(tmp_path_factory.mktemp("plane")) as plane,
            Node(plane, can_serve_webhooks=True) as node,
        ):
            if plane.helm is None:
                pytest.skip("no helm: `make chart` builds it, or install it")
            used = tool(plane, tmp_path, manager)
            used.install()
            rolled_out(plane, node)
            wait(lambda: all_told(plane), "the API server is told whom to trust")
            documents = rendered(plane, "teams/shop/production")
            used.apply_in_stages("team-shop", documents)
            # Its pod is never ready, because nobody runs the application that its critical check asks.
            plane.kubectl.run("apply", "--filename=-", stdin=json.dumps(ORDERS))
            team = used.settled("team-shop", documents, sidecars=1)
            shop = used.settled("shop", rendered(plane, ROOT / "examples" / "shop"), sidecars=3)
            for action, *files in ((used.again, used.chart), (lambda: used.apply(shop), shop)):
                assert written_by(plane, action, *files) == [], node.logs()
                assert [used.differences(file) for file in files] == [""]
            assert used.differences(team) != "", "the example shop has a profile of the same name"
            plane.kubectl.run("scale", "deployment/pillion-operator", "--namespace=pillion-system", "--replicas=3")
            assert "replicas: 3" in used.differences(used.chart), "an edit by hand would be found"
    except NoPlaneError as reason:
        pytest.skip(str(reason))


def rolled_out(plane, node):
    try:
        plane.kubectl.run(
            "rollout", "status", "deployment/pillion-operator", "--namespace=pillion-system", "--timeout=40s"
        )
    except KubectlError as error:
        raise AssertionError(f"{error}\n{node.failure!r}\n{node.logs()}") from node.failure


def all_told(plane):
    found = []
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        listed = json.loads(plane.kubectl.run("get", kind, "pillion", "--output=json"))
        found += [bool(webhook["clientConfig"].get("caBundle")) for webhook in listed["webhooks"]]
    return all(found)


def all_run(plane, sidecars):
    """Whether every resource of the namespace counts so many sidecars, and its conditions are about its current generation."""
    found = json.loads(plane.kubectl.run("get", "pillion", "--namespace=shop", "--output=json"))["items"]
    return len(found) >= len(kinds()) and all(
        one.get("status", {}).get("sidecars", {}).get("summary") == f"{sidecars}/{sidecars}"
        and condition(one, "Propagated").get("status") == "True"
        for one in found
    )


def wait(holds, what, within=40):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.1)  # other processes do it, and announce it nowhere


def versions(plane, *files):
    """Version of every object of these files."""
    arguments = [f"--filename={file}" for file in files]
    listed = json.loads(plane.kubectl.run("get", *arguments, "--output=json"))["items"]
    return {(one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"] for one in listed}


def written_by(plane, action, *files):
    """Objects whose version an action changes. The operator may report a figure at the same moment, so one quiet attempt of three is enough."""
    for _ in range(3):
        before = versions(plane, *files)
        action()
        after = versions(plane, *files)
        changed = [key for key in before if before[key] != after[key]]
        if not changed:
            break
    return changed
