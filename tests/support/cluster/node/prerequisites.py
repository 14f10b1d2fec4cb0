"""Whether this machine can carry a node, and what a node does to it, said before it is done."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.support.cluster import programs

CNI_PLUGINS: Final = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins lie."""

PACKAGES: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "busybox": "busybox-static",
}
"""Programs that a node needs, and the Debian package of each."""

NODE_PROGRAMS: Final = (
    *programs.API_PROGRAMS,
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)

_SEARCH: Final = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

EFFECTS: Final = """\
A Kubernetes node is going to run on this machine, as root:
  - a network bridge pillion0 with 10.88.0.1/16, IP forwarding, and the nftables tables `ip kube-proxy` and `ip6 kube-proxy`;
  - containerd, kubelet, kube-proxy, CoreDNS and a control plane, in folders of their own, listening on 10.88.0.1 and 127.0.0.1 alone;
  - containers in cgroups named kubepods, and a handful of kernel settings that the kubelet wants.
All of it is undone at the end; if the run is killed, the next one (or `python -m tests.support.cluster clean`) undoes it."""
"""What the person reads first."""


def find(program: str) -> Path:
    """The path of *program*; `/usr/sbin` is searched as well.

    Raises:
        FileNotFoundError: It is not installed.
    """
    found = shutil.which(program, path=_SEARCH)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed (Debian package {PACKAGES.get(program, program)})")
    return Path(found)


def missing() -> list[str]:
    """What stands in the way, each as something to do; empty when a node can run here."""
    if sys.platform != "linux":
        return ["a Linux machine"]
    lacking = [] if os.geteuid() == 0 else ["root"]
    packages = sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=_SEARCH) is None})
    if packages:
        lacking.append(f"the packages {' '.join(packages)}")
    try:
        programs.cached(NODE_PROGRAMS)
    except programs.MissingToolchainError as error:
        lacking.append(str(error))
    return lacking
