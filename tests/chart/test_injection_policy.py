"""The chart injects by policy as the operator would by webhook: one set of values, one sidecar."""

import argparse

import pytest
import yaml
from tests.support.charting import EVERYTHING, NAMESPACE, HelmError, only

from pillion_operator import arguments, command, injector

POLICY = ("--set", "injection.mode=policy")
KINDS = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")


def policies(documents):
    found = [one for one in documents if one["kind"] in KINDS]
    for one in found:
        assert one["metadata"].pop("labels")["app.kubernetes.io/name"] == "pillion-operator"
    return found


def printed(documents, namespace=NAMESPACE):
    """The policy of an operator that has the arguments of the rendered Deployment."""
    containers = only(documents, "Deployment", "pillion-operator")["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    chosen = arguments.from_arguments(parser.parse_args([*containers[0]["args"][1:], f"--namespace={namespace}"]))
    return list(yaml.safe_load_all(injector.injection_policy(chosen)))


@pytest.mark.parametrize(
    "arguments",
    [
        POLICY,
        (*POLICY, "--values", str(EVERYTHING)),
        (*POLICY, "--set", "image.digest=sha256:" + "0" * 64, "--set", "image.pullPolicy=Always"),
        (*POLICY, "--set", "sidecar.operatorUrl=https://pillion.example:443", "--set-string", "sidecar.cpuLimit=2"),
    ],
)
def test_the_policy_is_that_of_an_operator_with_the_same_values(helm, arguments):
    documents = helm.documents(*arguments)

    assert policies(documents) == printed(documents)


def test_in_another_namespace_it_names_that_one(helm):
    documents = helm.documents(*POLICY, namespace="elsewhere")

    assert policies(documents) == printed(documents, "elsewhere")


def test_the_webhook_injects_unless_a_person_chooses_otherwise(helm):
    assert policies(helm.documents()) == []
    assert policies(helm.documents(*POLICY, "--set", "injection.enabled=false")) == []


def test_with_the_policy_the_webhooks_stay_as_the_net_below_it(helm):
    assert only(helm.documents(*POLICY), "MutatingWebhookConfiguration") == only(
        helm.documents(), "MutatingWebhookConfiguration"
    )


def test_an_api_server_without_the_kind_is_named_with_what_to_do(helm):
    with pytest.raises(
        HelmError, match=r"needs Kubernetes 1\.36 or later; this is v1\.35\.2\. Set injection\.mode to webhook"
    ):
        helm.documents(*POLICY, "--kube-version", "1.35.2")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--kube-version", "1.36.0-gke.100"),
        ("--kube-version", "1.35.2", "--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"),
    ],
)
def test_a_rendering_without_the_cluster_says_what_will_be_there(helm, arguments):
    assert len(policies(helm.documents(*POLICY, *arguments))) == 3


@pytest.mark.parametrize("argument", ["--sidecar-image=other", "--operator-url=https://other", "--service-name=other"])
def test_an_argument_that_the_policy_cannot_see_is_refused(helm, argument):
    with pytest.raises(HelmError, match=f"operator.extraArgs has {argument}"):
        helm.documents(*POLICY, "--set", f"operator.extraArgs={{{argument}}}")
