"""The ledger: what a node changed on this machine, written down before each change, so that even a killed run can be undone.

One file for the whole machine, `/run/pillion-tests/node.json`, because there is one bridge and one kube-proxy table; a lock beside it admits one node at
a time. `/run` is emptied by a reboot, which undoes everything else as well. `teardown.py` reads the ledger and undoes.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self, TextIO

PLACE: Final = Path("/run/pillion-tests")

SYSCTLS: Final = (
    "net/ipv4/ip_forward",  # the bridge plugin
    "net/ipv4/conf/all/route_localnet",  # kube-proxy, for node ports on loopback
    "vm/overcommit_memory",  # the kubelet, from here on
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Kernel settings that a node changes, as paths under /proc/sys."""

CREATED_PATHS: Final = (
    "/opt/containerd",
    "/opt/cni",
    "/etc/cni",
    "/run/containerd",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
    "/usr/libexec/kubernetes",
    "/run/xtables.lock",
)
"""Paths that programs of a node make although their configuration names other ones."""


class NodeBusyError(Exception):
    """Something else that looks like a node uses this machine; the message says what. Nothing was changed."""


@dataclass
class Ledger:
    """What is to be undone. Each field is saved before the change that it describes."""

    folder: str
    """All state and all sockets of the node. A process that names it in its command line is ours."""
    bridge: str | None = None
    tables: list[str] = field(default_factory=list)
    """nftables tables, each `family name`."""
    cgroups: bool = False
    """Whether the `kubepods` cgroups are ours."""
    sysctls: dict[str, str] = field(default_factory=dict)
    """Values as they were before."""
    absent: list[str] = field(default_factory=list)
    """Paths that were not there before."""

    def save(self) -> None:
        """Writes the ledger in one step."""
        PLACE.mkdir(mode=0o700, exist_ok=True)
        draft = PLACE / "node.json.new"
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(PLACE / "node.json")

    @classmethod
    def load(cls) -> Self | None:
        """The ledger of an earlier run that undid nothing; None when there is nothing to undo."""
        try:
            return cls(**json.loads((PLACE / "node.json").read_text()))
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Forgets everything: it is undone."""
        (PLACE / "node.json").unlink(missing_ok=True)


def lock() -> TextIO:
    """The right to run a node on this machine; held while the returned file is open.

    Raises:
        NodeBusyError: Another run holds it.
    """
    PLACE.mkdir(mode=0o700, exist_ok=True)
    held = (PLACE / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise NodeBusyError("another run of the node tests holds this machine") from None
    return held


def current_sysctls() -> dict[str, str]:
    """The kernel settings of `SYSCTLS` as they are now; those that this kernel does not have are left out."""
    values = {}
    for name in SYSCTLS:
        path = Path("/proc/sys") / name
        if path.is_file() and os.access(path, os.R_OK):
            values[name] = path.read_text().strip()
    return values
