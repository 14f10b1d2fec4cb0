"""A node's footprint on the machine: everything that must be the same before a node and after it.

Taken twice and compared by the tests. It looks at the machine itself and not at the ledger, so it also notices what the ledger forgot.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.cluster.node.ledger import CREATED_PATHS, PLACE, current_sysctls
from tests.support.cluster.node.prerequisites import find
from tests.support.cluster.node.teardown import kubepods, living_processes

_DAEMONS = {
    "containerd",
    "containerd-shim",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-controller",
    "kube-scheduler",
    "runc",
    "pause",
}
"""Process names as the kernel keeps them: the first 15 bytes."""


@dataclass(frozen=True)
class Footprint:
    """One look at the machine."""

    links: frozenset[str]
    namespaces: frozenset[str]
    routes: frozenset[str]
    tables: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    sysctls: frozenset[tuple[str, str]]
    paths: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def take(cls) -> Self:
        """Looks."""
        return cls(
            links=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            namespaces=_output("ip", "netns", "list"),
            routes=_output("ip", "route", "show"),
            tables=_output("nft", "list", "tables"),
            mounts=frozenset(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=frozenset(map(str, kubepods())),
            sysctls=frozenset(current_sysctls().items()),
            paths=frozenset(path for path in (*CREATED_PATHS, str(PLACE / "node.json")) if Path(path).exists()),
            processes=frozenset(_daemons()),
        )

    def differences(self, later: Self) -> list[str]:
        """What *later* has more or less than this, one line each; empty when nothing was left behind."""
        found = []
        for name in self.__dataclass_fields__:
            before, after = getattr(self, name), getattr(later, name)
            found += [f"{name}: new {item}" for item in sorted(after - before)]
            found += [f"{name}: gone {item}" for item in sorted(before - after)]
        return found


def _output(*command: str) -> frozenset[str]:
    done = subprocess.run([find(command[0]), *command[1:]], capture_output=True, text=True, timeout=30, check=True)
    return frozenset(line.strip() for line in done.stdout.splitlines())


def _daemons() -> list[str]:
    living = living_processes()
    return [f"{pid} {name}" for pid, name in living if name in _DAEMONS or name.startswith("containerd-shim")]
