"""What the chart renders: the same every time, understood by those that read it, and no more rights than it says."""

import argparse
import base64
import json
import re
import tarfile

import pytest
import yaml
from tests.support.charting import CHART, EVERYTHING, GIVEN, NAMESPACE, HelmError, only

from pillion_operator import arguments as operator_arguments
from pillion_operator import command, verification

HOST = f"pillion-operator.{NAMESPACE}.svc"
SWITCHES = pytest.mark.parametrize("values", [EVERYTHING, GIVEN], ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def everything(helm):
    return helm.documents("--values", str(EVERYTHING))


@pytest.fixture(scope="module")
def given(helm):
    return helm.documents("--values", str(GIVEN))


@SWITCHES
def test_it_renders_the_same_twice(helm, values):
    assert helm.template("--values", str(values)) == helm.template("--values", str(values))


def test_a_cluster_that_is_too_old_is_refused(helm):
    assert helm.documents("--kube-version", "1.30.0")
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.30\.0-0"):
        helm.template("--kube-version", "1.29.9")


def test_nothing_is_random_looked_up_or_of_today():
    templates = "".join(file.read_text() for file in CHART.rglob("templates/**/*") if file.is_file())

    assert (
        re.findall(
            r"\b(rand\w+|lookup|genCA|genSigned\w+|genSelf\w+|genPrivateKey|now|uuidv4|derivePassword)\b", templates
        )
        == []
    )


def container(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def parsed(module, arguments):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_operator_understands_its_arguments(everything, given):
    first, second = (container(only(one, "Deployment", "pillion-operator"))["args"] for one in (everything, given))

    assert (first[0], second[0]) == ("operator", "operator")
    one, two = (operator_arguments.from_arguments(parsed(command, arguments[1:])) for arguments in (first, second))
    assert (one.sidecar_cpu_limit, one.sidecar_memory_limit, one.repair) == ("1", "", "evict")
    assert one.repair_interval == 30
    assert two.sidecar_image.startswith("pillion@sha256:")
    assert one.peer_server_name == two.peer_server_name == HOST


def test_without_a_given_certificate_the_operator_makes_its_own(helm):
    arguments = container(only(helm.documents(), "Deployment"))["args"]

    assert [argument for argument in arguments if argument.startswith(("--tls", "--peer-server"))] == []


def test_labels_and_annotations_of_a_person_are_merged(everything):
    deployment = only(everything, "Deployment", "pillion-operator")
    metadata = deployment["spec"]["template"]["metadata"]

    assert deployment["spec"]["selector"]["matchLabels"].items() <= metadata["labels"].items()
    assert metadata["labels"]["team"] == "platform"
    assert metadata["annotations"] == {
        "prometheus.io/scrape": "false", "prometheus.io/port": "3790", "team": "platform"
    }  # fmt: skip


def test_placement_is_a_preference_unless_a_person_demands(helm, given):
    ours = only(helm.documents(), "Deployment")["spec"]["template"]["spec"]
    theirs = only(given, "Deployment")["spec"]["template"]["spec"]

    assert list(ours["affinity"]["podAntiAffinity"]) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [one["whenUnsatisfiable"] for one in ours["topologySpreadConstraints"]] == ["ScheduleAnyway"]
    assert list(theirs["affinity"]) == ["nodeAffinity"]
    assert [one["topologyKey"] for one in theirs["topologySpreadConstraints"]] == ["rack"]


def test_whatever_the_chart_runs_runs_where_it_may(everything):
    specs = [one["spec"]["template"]["spec"] for one in everything if one["kind"] == "Deployment"]
    specs.append(only(everything, "Pod")["spec"])

    assert len(specs) == 3
    for spec in specs:
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "system"}
        assert [one["key"] for one in spec["tolerations"]] == ["control-plane"]


def test_one_replica_at_a_time_may_be_away(everything, given):
    budget = only(everything, "PodDisruptionBudget")["spec"]

    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert not [one for one in given if one["kind"] == "PodDisruptionBudget"]


def test_cert_manager_makes_what_the_operator_mounts_and_keeps_the_bundle(everything):
    certificate = only(everything, "Certificate", "pillion-operator")["spec"]
    volumes = only(everything, "Deployment", "pillion-operator")["spec"]["template"]["spec"]["volumes"]
    authority = only(everything, "Certificate", "pillion-operator-authority")["spec"]

    assert certificate["secretName"] == next(one for one in volumes if one["name"] == "tls")["secret"]["secretName"]
    assert HOST in certificate["dnsNames"]
    assert only(everything, "Issuer", "pillion-operator")["spec"]["ca"]["secretName"] == authority["secretName"]
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        annotations = only(everything, kind)["metadata"]["annotations"]
        assert annotations == {"cert-manager.io/inject-ca-from": f"{NAMESPACE}/pillion-operator"}


def test_an_issuer_that_is_there_is_used_instead_of_an_own_authority(helm):
    found = helm.documents(
        "--set", "tls.certManager.enabled=true,tls.certManager.issuerRef.name=internal,tls.certManager.issuerRef.kind=ClusterIssuer"
    )  # fmt: skip

    assert only(found, "Certificate")["spec"]["issuerRef"] == {"name": "internal", "kind": "ClusterIssuer"}
    assert not [one for one in found if one["kind"] == "Issuer"]


def test_caBundle_is_never_rendered(helm, everything):  # noqa: N802 - the field's name
    assert "caBundle:" not in yaml.safe_dump_all([*helm.documents(), *everything])


def test_without_injection_there_are_no_webhooks(given):
    assert not [one for one in given if "WebhookConfiguration" in one["kind"]]


def test_definitions_are_kept_and_say_whose_they_are(everything, given):
    crds = [one["metadata"] for one in everything if one["kind"] == "CustomResourceDefinition"]

    assert {one["name"] for one in crds} == {
        f"{file.stem}.pillion.dev" for file in (CHART / "files" / "crds").iterdir()
    }
    assert {one["annotations"]["helm.sh/resource-policy"] for one in crds} == {"keep"}
    assert {one["labels"]["app.kubernetes.io/part-of"] for one in crds} == {"pillion"}
    assert not [one for one in given if one["kind"] == "CustomResourceDefinition"]


def test_the_pod_of_helm_test_has_no_rights_and_asks_this_operator(everything):
    pod = only(everything, "Pod")
    spec = pod["spec"]
    asked = parsed(verification, spec["containers"][0]["args"][1:])

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert (asked.admission_url, asked.stream_url) == (f"https://{HOST}", f"https://{HOST}:3780")
    assert [volume["secret"]["items"] for volume in spec["volumes"]] == [[{"key": "ca.crt", "path": "ca.crt"}]]


@pytest.mark.parametrize(
    ("values", "secret"),
    [("", "pillion-ca"), ("tls.existingSecret=own", "own"), ("tls.certManager.enabled=true", "pillion-operator-tls")],
)
def test_the_pod_of_helm_test_believes_whoever_signs(helm, values, secret):
    pod = only(helm.documents("--set", values), "Pod")

    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == secret


def test_the_trial_redis_is_reached_from_the_named_namespaces_alone_and_keeps_nothing(everything):
    redis = only(everything, "Deployment", "pillion-redis")
    policy = only(everything, "NetworkPolicy", "pillion-redis")["spec"]

    assert redis["metadata"]["annotations"]["pillion.dev/purpose"] == "trial, not for production"
    assert container(redis)["args"][:4] == ["--save", "", "--appendonly", "no"]
    assert "persistentVolumeClaim" not in json.dumps(redis)
    (source,) = policy["ingress"][0]["from"]
    assert source["namespaceSelector"]["matchExpressions"][0]["values"] == ["chart-one", "chart-two"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy


def test_the_url_of_redis_is_a_secret_that_the_operator_alone_may_read(everything):
    for namespace in ("chart-one", "chart-two"):
        here = [one for one in everything if one["metadata"].get("namespace") == namespace]
        url = base64.b64decode(only(here, "Secret")["data"]["url"]).decode()
        assert url == f"redis://pillion-redis.{NAMESPACE}.svc:6379/0"
        assert only(here, "Role", "pillion-operator-redis")["rules"] == [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pillion-redis"], "verbs": ["get"]}
        ]


def test_a_given_secret_is_read_and_never_made(given):
    role = only(given, "Role", "pillion-operator-redis")

    assert role["rules"][0]["resourceNames"] == ["redis-url"]
    assert not [one for one in given if one["kind"] == "Secret"]


def test_policies_name_ports_that_the_pods_have(everything):
    ports = {port["name"] for port in container(only(everything, "Deployment", "pillion-operator"))["ports"]}
    policy = only(everything, "NetworkPolicy", "pillion-operator")["spec"]
    named = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}

    assert named <= ports
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert only(everything, "PodMonitor", "pillion-operator")["spec"]["podMetricsEndpoints"][0]["port"] in ports


def test_a_monitor_selects_exactly_the_service_of_the_metrics(everything):
    wanted = only(everything, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()

    services = [
        one["metadata"]["name"]
        for one in everything
        if one["kind"] == "Service" and wanted <= one["metadata"]["labels"].items()
    ]
    assert services == ["pillion-operator-metrics"]


def test_the_notes_tell_the_next_three_commands(helm):
    printed = helm("install", "pillion", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "--set", "redis.trial.enabled=true,redis.namespaces={shop}")  # fmt: skip
    notes = printed[printed.index("NOTES:") :]

    assert [line.strip().split(" ")[0] for line in notes.splitlines() if line.startswith("  ")] == [
        "kubectl",
        "helm",
        "kubectl",
    ]
    assert "helm test pillion -n pillion-system" in notes
    assert "trials only" in notes


def test_the_package_carries_what_an_installation_reads(helm, tmp_path):
    helm("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.iterdir()

    with tarfile.open(archive) as opened:
        names = {name.removeprefix("pillion/") for name in opened.getnames()}
    assert {"README.md", "values.schema.json", "files/alerts.yaml", "templates/tests/verify.yaml"} <= names
    assert not [name for name in names if name.startswith("ci/")]
