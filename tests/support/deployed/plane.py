"""A control plane of its own for tests that install Pillion as a person would: the chart and the manifests go in as they are.

The addresses of its Services are loopback addresses, so a process on this machine that binds one *is* the Service: webhooks and streams work without a node, a
proxy or an edited manifest. It belongs to one test module, because what is installed belongs to a whole cluster.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.charting import Helm
from tests.support.cluster import programs, sources
from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.kubectl import Kubectl

ROOT: Final = Path(__file__).parents[3]

VERSION: Final = "1.36.4"
"""Of the control plane that the toolchain builds; what Argo CD tells helm."""


class NoPlaneError(Exception):
    """This machine cannot; the message says why. Tests turn it into a skip."""


@dataclass(frozen=True)
class Plane:
    """A running control plane."""

    control_plane: ControlPlane
    kubectl: Kubectl
    helm: Helm | None
    """For this cluster, where there is one."""
    pod_addresses: str
    """First three numbers of loopback addresses for pods."""
    folder: Path


@contextmanager
def open_plane(folder: Path) -> Iterator[Plane]:
    """A control plane in *folder* until the end.

    Raises:
        NoPlaneError: the tests run against a cluster of somebody else, or no source fits.
    """
    source = sources.choose()
    if isinstance(source, sources.Assets):
        paths = {name: source.folder / name for name in programs.API_PROGRAMS}
    elif isinstance(source, sources.Toolchain):
        paths = programs.build(programs.API_PROGRAMS, print)
    else:
        raise NoPlaneError(f"needs a control plane of its own ({source.describe()})")
    chance = random.SystemRandom()
    services, pods = (f"127.{chance.randrange(10, 250)}.{chance.randrange(256)}" for _ in range(2))
    control_plane = ControlPlane(paths, folder / "plane", flags=[f"--service-cluster-ip-range={services}.0/24"])
    found = programs.cached(["helm"]).get("helm") or shutil.which("helm")
    helm = Helm(Path(found), folder, control_plane.kubeconfig) if found else None
    try:
        control_plane.start()
        kubectl = Kubectl(paths["kubectl"], control_plane.kubeconfig, folder)
        yield Plane(control_plane, kubectl, helm, pods, folder)
    finally:
        with suppress(ProcessLookupError):
            control_plane.stop()
