"""Where the API server of the tests comes from: the first source that fits, and a sentence that says which.

The order: a cluster that the caller offers, a folder with the programs, kind on a Docker engine, the Go toolchain; otherwise a reason for skipping
that says what to install. The person's current kubectl context is never looked at.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cluster import programs

KUBECONFIG_VARIABLE: Final = "PILLION_TEST_KUBECONFIG"
"""Opt-in by this name alone: `KUBECONFIG` might be production."""
ASSETS_VARIABLE: Final = "KUBEBUILDER_ASSETS"
"""The convention of the field (`setup-envtest use` prints it)."""


@dataclass(frozen=True)
class Offered:
    """A cluster that the caller offers; the tests may write to it but neither stop nor restart it."""

    kubeconfig: Path

    def describe(self) -> str:
        """One sentence for the person who runs the tests."""
        return f"API server: the cluster of {self.kubeconfig} ({KUBECONFIG_VARIABLE})"


@dataclass(frozen=True)
class Assets:
    """A folder that holds `kube-apiserver`, `etcd` and `kubectl`."""

    folder: Path

    def describe(self) -> str:
        """One sentence for the person who runs the tests."""
        return f"API server: the programs in {self.folder} ({ASSETS_VARIABLE})"


@dataclass(frozen=True)
class Kind:
    """A cluster that the program `kind` makes on a Docker engine and that is deleted afterwards."""

    program: Path

    def describe(self) -> str:
        """One sentence for the person who runs the tests."""
        return f"API server: a kind cluster ({self.program}, a Docker engine answers)"


@dataclass(frozen=True)
class Toolchain:
    """Programs that the Go toolchain builds from the pinned modules."""

    cached: bool

    def describe(self) -> str:
        """One sentence for the person who runs the tests."""
        state = "from the cache" if self.cached else "to be built now, about five minutes on two cores, once"
        version = programs.PROGRAMS["kube-apiserver"].module.version()
        return f"API server: kube-apiserver {version} by the Go toolchain ({state})"


@dataclass(frozen=True)
class Unavailable:
    """Nothing fits."""

    reason: str

    def describe(self) -> str:
        """One sentence for the person who runs the tests."""
        return f"API server: none, its tests are skipped: {self.reason}"


Source = Offered | Assets | Kind | Toolchain | Unavailable


class MisnamedSourceError(Exception):
    """A variable points at something that is not there. Asking for a source and getting another one silently would be worse than stopping."""


def choose(environ: Mapping[str, str] = os.environ) -> Source:
    """The first source that fits.

    Raises:
        MisnamedSourceError: A variable names a file or folder that does not hold what it should.
    """
    if offered := environ.get(KUBECONFIG_VARIABLE):
        if not Path(offered).is_file():
            raise MisnamedSourceError(f"{KUBECONFIG_VARIABLE}={offered}: no such file; name a kubeconfig or unset it")
        return Offered(Path(offered))
    if assets := environ.get(ASSETS_VARIABLE):
        missing = [name for name in programs.API_PROGRAMS if not os.access(Path(assets) / name, os.X_OK)]
        if missing:
            raise MisnamedSourceError(
                f"{ASSETS_VARIABLE}={assets}: lacks {', '.join(missing)}; `setup-envtest use` prints a complete folder"
            )
        return Assets(Path(assets))
    path = environ.get("PATH")
    kind = shutil.which("kind", path=path)
    if kind and shutil.which("kubectl", path=path) and _docker_answers(path):
        return Kind(Path(kind))
    try:
        have = programs.cached(programs.API_PROGRAMS)
    except programs.MissingToolchainError as error:
        reason = f"{error}; or set {ASSETS_VARIABLE} to a folder from `setup-envtest use`; or install Docker and kind; or set {KUBECONFIG_VARIABLE}"
        return Unavailable(reason)
    return Toolchain(cached=len(have) == len(programs.API_PROGRAMS))


def _docker_answers(path: str | None) -> bool:
    docker = shutil.which("docker", path=path)
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
