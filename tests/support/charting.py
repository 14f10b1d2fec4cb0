"""The chart as tests see it: helm with a home of its own, and what it renders as documents.

from tests.support.charting import helm
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml
from tests.support.cluster import programs

__all__ = ["CHART", "EVERYTHING", "GIVEN", "NAMESPACE", "ROOT", "Helm", "HelmError", "helm", "only"]

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "pillion"
NAMESPACE: Final = "pillion-system"
EVERYTHING: Final = CHART / "ci" / "everything-values.yaml"
"""Values with every switch on."""
GIVEN: Final = CHART / "ci" / "given-values.yaml"
"""Values with certificate and Redis of somebody else."""


LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Where libyaml is there: the definitions alone are thousands of lines."""


class HelmError(Exception):
    """helm ended with a status other than zero; the message is what it printed."""


@dataclass(frozen=True)
class Helm:
    """helm; it neither reads nor writes the person's own configuration."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def on(self, kubeconfig: Path) -> Self:
        """The same for a cluster."""
        return replace(self, kubeconfig=kubeconfig)

    def __call__(self, *arguments: str, within: float = 120) -> str:
        """Runs it; returns its standard output. *within* seconds.

        Raises:
            HelmError: It failed.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE"))}
        environ = kept | {"HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig or self.home / "no-cluster")}
        done = subprocess.run(
            [str(self.program), *arguments], capture_output=True, text=True, check=False, timeout=within, env=environ
        )
        if done.returncode:
            raise HelmError(done.stdout + done.stderr)
        return done.stdout

    def template(self, *arguments: str, namespace: str = NAMESPACE, chart: Path = CHART) -> str:
        """What the chart renders."""
        return self("template", "pillion", str(chart), "--namespace", namespace, *arguments)

    def documents(self, *arguments: str, **where: Any) -> list[Json]:
        """The same as objects."""
        return [document for document in yaml.load_all(self.template(*arguments, **where), LOADER) if document]


def only(documents: Sequence[Json], kind: str, name: str | None = None) -> Json:
    """The one object of a kind, or of a kind and a name."""
    found = [one for one in documents if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    assert len(found) == 1, (kind, name, [one["metadata"]["name"] for one in found])
    return found[0]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real helm."""
    path = programs.cached(["helm"]).get("helm") or shutil.which("helm")
    if path is None:
        pytest.skip("no helm: `make chart` builds it, or install it")
    return Helm(Path(path), tmp_path_factory.mktemp("helm"))
