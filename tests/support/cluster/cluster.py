"""One cluster for one run, from whichever source fits: the door by which tests and benchmarks come in.

    with open_cluster(print) as cluster:
        cluster.kubectl.run("get", "namespaces")
        async with Api(cluster.access) as api: ...

What is ours is stopped and removed at the end, and the folder of a run that was killed is removed by the next one. What the caller offered stays as it was,
apart from the CRDs of the product.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cluster import kubeconfig, programs, sources
from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.kubeconfig import Access
from tests.support.cluster.kubectl import Kubectl
from tests.support.cluster.programs import Say

CRDS: Final = Path(__file__).parents[3] / "crds"
"""The product's resource definitions."""

_PREFIX: Final = "pillion-cluster-"
_LOCKED_WITHIN: Final = 60.0
"""Seconds after which a living run has certainly taken its lock; younger folders are left alone."""


class ClusterUnavailableError(Exception):
    """No source fits; the message says what to install. Tests turn it into a skip."""


@dataclass(frozen=True)
class Cluster:
    """An API server that answers."""

    source: sources.Source
    access: Access
    """As an administrator."""
    kubectl: Kubectl
    folder: Path
    """Of this run: logs, keys and data; removed at the end."""
    control_plane: ControlPlane | None
    """Ours to kill and to restart; None when the cluster belongs to somebody else or runs in kind."""
    started_in: float
    """Seconds until it was ready."""
    controlled: bool
    """Whether controllers run: they make default service accounts and empty deleted namespaces."""

    def apply_crds(self, folder: Path = CRDS) -> None:
        """Applies the product's CRDs and waits until they are served. Does nothing while the folder holds none."""
        if not any(folder.glob("*.yaml")):
            return
        self.kubectl.run("apply", "--server-side", "--force-conflicts", f"--filename={folder}")
        self.kubectl.run("wait", "--for=condition=Established", f"--filename={folder}", "--timeout=30s")


def provision(source: sources.Source, say: Say) -> None:
    """Builds what *source* still needs: minutes, once per machine. Call it before a clock runs against the tests."""
    if isinstance(source, sources.Toolchain):
        programs.build(programs.API_PROGRAMS, say)
    elif isinstance(source, sources.Offered) and shutil.which("kubectl") is None:
        programs.build(["kubectl"], say)


@contextlib.contextmanager
def open_cluster(say: Say, source: sources.Source | None = None) -> Iterator[Cluster]:
    """A cluster of *source*, or of the first source that fits; everything of ours is gone afterwards.

    Raises:
        ClusterUnavailableError: No source fits.
        ProcessFailedError: The control plane did not start.
    """
    source = source or sources.choose()
    if isinstance(source, sources.Unavailable):
        raise ClusterUnavailableError(source.reason)
    provision(source, say)
    with run_folder() as folder:
        match source:
            case sources.Offered():
                yield _foreign(source, source.kubeconfig, folder, time.monotonic())
            case sources.Kind():
                with kind_cluster(source, folder, f"pillion-{secrets.token_hex(3)}") as cluster:
                    yield cluster
            case _:
                with _own(source, folder, say) as cluster:
                    yield cluster


@contextlib.contextmanager
def _own(source: sources.Assets | sources.Toolchain, folder: Path, say: Say) -> Iterator[Cluster]:
    started = time.monotonic()
    if isinstance(source, sources.Assets):
        paths = {name: source.folder / name for name in programs.API_PROGRAMS}
    else:
        paths = programs.build(programs.API_PROGRAMS, say)
    control_plane = ControlPlane(paths, folder)
    try:
        control_plane.start()
        kubectl = Kubectl(paths["kubectl"], control_plane.kubeconfig, folder)
        yield Cluster(
            source, control_plane.admin, kubectl, folder, control_plane, time.monotonic() - started, controlled=False
        )
    finally:
        control_plane.stop()


@contextlib.contextmanager
def kind_cluster(source: sources.Kind, folder: Path, name: str) -> Iterator[Cluster]:
    """A cluster called *name* that kind makes and deletes.

    Raises:
        ClusterUnavailableError: kind could not make it.
    """
    started = time.monotonic()
    config = folder / "kind.kubeconfig"
    try:
        command = [
            str(source.program),
            "create",
            "cluster",
            "--name",
            name,
            "--kubeconfig",
            str(config),
            "--wait",
            "180s",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise ClusterUnavailableError(f"`kind create cluster` failed: {done.stderr.strip()}")
        yield _foreign(source, config, folder, started)
    finally:
        subprocess.run(
            [source.program, "delete", "cluster", "--name", name, "--kubeconfig", config],
            capture_output=True,
            timeout=120,
            check=False,
        )


def _foreign(source: sources.Source, config: Path, folder: Path, started: float) -> Cluster:
    found = shutil.which("kubectl")
    program = Path(found) if found else programs.build(["kubectl"], lambda _: None)["kubectl"]
    access = kubeconfig.read(config, folder)
    return Cluster(
        source, access, Kubectl(program, config, folder), folder, None, time.monotonic() - started, controlled=True
    )


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A folder that dies with this run: at its end, or when a later run finds that nobody holds its lock any more."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with (folder / ".alive").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with (
            contextlib.suppress(OSError),
            (folder / ".alive").open("r+") as lock,
        ):  # OSError: another person's folder, or a run that lives
            if time.time() - os.fstat(lock.fileno()).st_mtime < _LOCKED_WITHIN:
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
