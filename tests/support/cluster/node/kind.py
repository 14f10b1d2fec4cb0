"""The node tests on kind: the same tests, on a node that is a Docker container instead of this machine.

For machines that have a Docker engine and no root, and for proof that nothing depends on our own harness. kind comes from the path or from the pinned Go module.
"""

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import programs, sources
from tests.support.cluster.cluster import Cluster, ClusterUnavailableError, kind_cluster, run_folder
from tests.support.cluster.node import archives
from tests.support.cluster.programs import Say


@dataclass(frozen=True)
class KindNode:
    """A running kind cluster of one node."""

    cluster: Cluster
    program: Path
    name: str

    def load(self, archive: Path) -> None:
        """Makes the images of a docker-archive available to pods."""
        command = [str(self.program), "load", "image-archive", str(archive), "--name", self.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise OSError(f"kind load image-archive {archive}: {done.stderr.strip()}")


def missing() -> list[str]:
    """What stands in the way, each as something to do; empty when kind can run here."""
    docker = shutil.which("docker")
    if docker is None:
        return ["Docker"]
    try:
        answer = subprocess.run([docker, "info"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ["a Docker engine that answers `docker info`"]
    if answer.returncode:
        return [f"a Docker engine that answers `docker info` ({(answer.stderr.strip().splitlines() or ['no'])[-1]})"]
    if shutil.which("kind") is None:
        try:
            programs.cached(["kind"])
        except programs.MissingToolchainError as error:
            return [f"kind, or {error}"]
    return []


@contextlib.contextmanager
def open_kind(say: Say) -> Iterator[KindNode]:
    """A kind cluster, ready for pods and deleted afterwards.

    Raises:
        ClusterUnavailableError: The machine lacks something, or kind could not make it.
    """
    if lacking := missing():
        raise ClusterUnavailableError(f"kind needs {', '.join(lacking)}")
    found = shutil.which("kind")
    program = Path(found) if found else programs.build(["kind"], say)["kind"]
    name = f"pillion-{secrets.token_hex(3)}"
    with run_folder() as folder, kind_cluster(sources.Kind(program), folder, name) as cluster:
        node = KindNode(cluster, program, name)
        for archive in archives.busybox(folder):
            node.load(archive)
        yield node
