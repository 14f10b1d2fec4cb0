"""The manifests agree with the code: every kind may be watched, the image is this version, the flags exist."""

import argparse
from pathlib import Path

import yaml

from pillion.kinds import registry
from pillion.version import VERSION
from pillion_operator import arguments

DEPLOY = Path(__file__).parents[3] / "operator" / "deploy"


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def container():
    deployment = next(d for d in documents("4-deployment.yaml") if d["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]


def test_the_rights_name_every_kind_and_no_wildcard():
    rules = [rule for d in documents("2-rbac.yaml") if d["kind"] in ("ClusterRole", "Role") for rule in d["rules"]]
    ours = [rule["resources"] for rule in rules if rule["apiGroups"] == ["pillion.dev"]]
    plurals = sorted(kind.plural for kind in registry.kinds().values())

    assert ours == [plurals, [f"{plural}/status" for plural in plurals]]
    assert all("*" not in rule[part] for rule in rules for part in ("apiGroups", "resources", "verbs"))


def test_nobody_may_list_secrets_or_read_them_everywhere():
    bound = [d["roleRef"]["name"] for d in documents("2-rbac.yaml") if d["kind"] == "ClusterRoleBinding"]
    roles = {d["metadata"]["name"]: d["rules"] for d in documents("2-rbac.yaml") if d["kind"] == "ClusterRole"}

    assert bound == ["pillion-operator"]
    assert not [rule for rule in roles["pillion-operator"] if "secrets" in rule["resources"]]
    assert roles["pillion-operator-secrets"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]


def test_the_deployment_runs_this_version_with_flags_that_exist():
    command, *flags = container()["args"]
    parser = argparse.ArgumentParser()
    arguments.add_arguments(parser)

    assert container()["image"] == f"pillion:{VERSION}"
    assert command == "operator"
    assert arguments.from_arguments(parser.parse_args(flags)).advertise_url == "https://$(POD_IP):3780"
