"""The pod network of a node: one bridge that is gateway, node address and address of the cluster's DNS at once.

Addresses come from 10.88.0.0/16. There is no masquerading: pods reach each other, the Services and the host, and nothing beyond.
"""

import ipaddress
import json
import subprocess
from pathlib import Path
from typing import Final

from tests.support.cluster.node.ledger import Ledger, NodeBusyError
from tests.support.cluster.node.prerequisites import find

BRIDGE: Final = "pillion0"
ADDRESS: Final = "10.88.0.1"
SUBNET: Final = "10.88.0.0/16"
SERVICES: Final = "10.0.0.0/24"
"""Cluster addresses of Services; nothing on the machine may route there."""


def refuse_if_used() -> None:
    """Looks whether the bridge or one of its networks is somebody else's.

    Raises:
        NodeBusyError: It is.
    """
    links = json.loads(_ip("-json", "address", "show"))
    for link in links:
        if link["ifname"] == BRIDGE:
            raise NodeBusyError(f"a network link {BRIDGE} exists already")
        for address in link["addr_info"]:
            if address["family"] == "inet":
                other = ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
                for ours in (SUBNET, SERVICES):
                    if other.overlaps(ipaddress.ip_network(ours)):
                        raise NodeBusyError(f"{link['ifname']} has {other}, which overlaps the node's {ours}")


def create(ledger: Ledger, configuration: Path) -> None:
    """Makes the bridge and writes the CNI configuration into the folder *configuration*."""
    ledger.bridge = BRIDGE
    ledger.save()
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{ADDRESS}/16", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    configuration.mkdir(parents=True)
    (configuration / "10-pillion.conflist").write_text(json.dumps(cni(Path(ledger.folder)), indent=1))


def cni(folder: Path) -> dict[str, object]:
    """The CNI configuration list; leases are kept under *folder*, not under /var/lib/cni."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,  # a pod may reach itself through its Service
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": SUBNET, "rangeStart": "10.88.1.1", "rangeEnd": "10.88.255.254", "gateway": ADDRESS}]
            ],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(folder / "cni-leases"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pillion", "plugins": [bridge, portmap]}


def _ip(*arguments: str) -> str:
    done = subprocess.run([find("ip"), *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
