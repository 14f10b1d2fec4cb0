"""The example shop's manifests for a cluster, as `kubectl apply -k` would send them."""

from pathlib import Path

import pytest
import yaml
from tests.support.cluster.cluster import Cluster

from pillion.cli.main import main

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture
def rendered(cluster: Cluster, tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text(cluster.kubectl.run("kustomize", str(SHOP)))
    return file


def test_they_are_clean(rendered: Path) -> None:
    assert main(["lint", "--strict", str(rendered)]) == 0


def test_they_are_the_resources_of_localhost_with_other_addresses(rendered: Path) -> None:
    def resources(text: str) -> dict[tuple[str, str], object]:
        documents = [document for document in yaml.safe_load_all(text) if "pillion.dev" in document["apiVersion"]]
        return {(document["kind"], document["metadata"]["name"]): document["spec"] for document in documents}

    local = resources("\n---\n".join(file.read_text() for file in sorted((SHOP / "manifests").iterdir())))
    there = resources(rendered.read_text())

    assert there.keys() == local.keys()
    assert {name for kind, name in local if there[kind, name] != local[kind, name]} == {"accounting", "default"}
    assert "127.0.0.1:1025" not in str(there)
    assert "127.0.0.1:8081" not in str(there)
