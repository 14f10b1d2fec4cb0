"""What Artifact Hub reads in Chart.yaml: valid, and in step with the chart."""

import re

import pytest
import yaml
from tests.support.charting import CHART, ROOT

from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import kinds
from pillion.version import VERSION

META = yaml.safe_load((CHART / "Chart.yaml").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
CRDS = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml"))]
LISTS = ("links", "images", "changes", "crds", "crdsExamples")


def hub(name):
    return yaml.safe_load(META["annotations"][f"artifacthub.io/{name}"])


def test_the_chart_is_of_the_products_version():
    assert META["appVersion"] == VERSION
    assert all(isinstance(text, str) for text in META["annotations"].values())


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_a_list_of_objects(name):
    assert hub(name)
    assert all(isinstance(one, dict) for one in hub(name))


def test_every_definition_is_listed():
    listed = {(one["name"], one["kind"], one["version"]) for one in hub("crds")}

    assert listed == {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["name"]) for crd in CRDS
    }
    assert all(one["displayName"] and one["description"] for one in hub("crds"))


def test_there_is_an_example_of_each_kind_and_lint_accepts_all_of_them():
    examples = hub("crdsExamples")
    files = [(f"{one['kind']}.yaml", yaml.safe_dump(one)) for one in examples]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "accounting-hook"},
        "stringData": {"secret": "x"},
    }

    bundle = read_bundle([*files, ("secret.yaml", yaml.safe_dump(secret))], kinds())

    assert sorted(one["kind"] for one in examples) == sorted(kinds())
    assert [one.violation.message for one in bundle.errors] == []


def test_the_images_are_those_of_the_values():
    image = VALUES["image"]

    assert {one["image"] for one in hub("images")} == {
        f"{image['repository']}:{META['appVersion']}",
        VALUES["redis"]["trial"]["image"],
    }


def test_words_that_artifact_hub_knows():
    changes = {"added", "changed", "deprecated", "removed", "fixed", "security"}

    assert {one["kind"] for one in hub("changes")} <= changes
    assert hub("operatorCapabilities") in {
        "Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"
    }  # fmt: skip
    assert hub("category") in {
        "ai-machine-learning", "database", "integration-delivery", "monitoring-logging", "networking", "security", "storage",
        "streaming-messaging", "skip-prediction",
    }  # fmt: skip
    assert hub("license") == "Apache-2.0"
    assert all(re.fullmatch(r"https://\S+", one["url"]) for one in hub("links"))
