"""The chart: lint-clean, the same at every rendering, and taken by the API server twice without a difference."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.support.cluster import programs

from pillion_operator import command

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "pillion"


@pytest.fixture(scope="session")
def helm():
    path = programs.cached(["helm"]).get("helm") or shutil.which("helm")
    if path is None:
        pytest.skip("no helm: `make chart` builds it, or install it")

    def run(*arguments: str) -> str:
        done = subprocess.run([str(path), *arguments], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return done.stdout

    return run


def test_the_copies_of_the_definitions_are_those_of_the_models():
    shipped = {file.name: file.read_text() for file in (CHART / "files" / "crds").iterdir()}

    assert shipped == {file.name: file.read_text() for file in (ROOT / "crds").iterdir()}, "run `make crds`"


def test_lint_finds_nothing(helm):
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_it_renders_the_same_twice(helm):
    one, other = (helm("template", "pillion", str(CHART), "-n", "pillion-system") for _ in range(2))

    assert one == other


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("replicas=0", "/replicas"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("replica=2", "replica"),
        ("image.digest=abc", "/image/digest"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm, value, path):
    with pytest.raises(AssertionError, match=path):
        helm("template", "pillion", str(CHART), "--set", value)


def test_its_rights_and_webhooks_are_those_of_the_plain_manifests(helm):
    """Two installations, one truth: what a test has run the operator with is what the chart grants."""
    rendered = list(yaml.safe_load_all(helm("template", "pillion", str(CHART), "-n", "pillion-system")))
    plain = [
        d
        for file in sorted((ROOT / "operator" / "deploy").glob("*.yaml"))
        for d in yaml.safe_load_all(file.read_text())
    ]

    for kind, parts in {
        "ClusterRole": ("rules",),
        "Role": ("rules",),
        "MutatingWebhookConfiguration": ("webhooks",),
        "ValidatingWebhookConfiguration": ("webhooks",),
    }.items():
        ours, theirs = (
            {d["metadata"]["name"]: [d[part] for part in parts] for d in documents if d and d["kind"] == kind}
            for documents in (rendered, plain)
        )
        assert ours == theirs, kind


def test_the_operator_understands_its_arguments(helm):
    """An argument that the operator does not know would be found by the first rollout only."""
    documents = yaml.safe_load_all(
        helm("template", "pillion", str(CHART), "--set", "tls.existingSecret=own,injection.repair=evict")
    )
    deployment = next(d for d in documents if d and d["kind"] == "Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    assert arguments[0] == "operator"
    assert parser.parse_args(arguments[1:])


async def test_applying_it_twice_changes_nothing_the_second_time(helm, kubectl, namespace, tmp_path):
    """As Argo CD and Flux do: server-side apply, then a diff."""
    rendered = tmp_path / "chart.yaml"
    rendered.write_text(
        helm(
            "template",
            "pillion",
            str(CHART),
            "-n",
            namespace,
            "--set",
            "crds.enabled=false",
            "--set",
            "networkPolicy.enabled=true",
        )
    )

    await kubectl("apply", "--server-side", "--force-conflicts", "-f", str(rendered))

    assert await kubectl("diff", "--server-side", "--force-conflicts", "-f", str(rendered)) == ""
    await kubectl("delete", "--wait=false", "-f", str(rendered))
