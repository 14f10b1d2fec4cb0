"""A cluster with one real node on this machine: pods run, Services and names resolve, jobs complete.

    with open_node(print) as node:
        node.load(archive)
        node.cluster.kubectl.run("apply", "--filename=…")

Needs root and some packages (`prerequisites.py`) and changes the machine; everything is undone at the end from a ledger, and what a killed run left is undone
first. What a node is good for that an API server alone is not: admission by a Service, injection into pods that run, projected tokens, probes, drains.
"""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import programs, sources
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.controlplane import ControlPlane, Listen
from tests.support.cluster.kubectl import Kubectl, KubectlError
from tests.support.cluster.node import archives, network
from tests.support.cluster.node.agents import DNS_RIGHTS, NODE_NAME, Agents
from tests.support.cluster.node.containerd import Containerd
from tests.support.cluster.node.ledger import CREATED_PATHS, Ledger, NodeBusyError, current_sysctls, lock
from tests.support.cluster.node.prerequisites import EFFECTS, NODE_PROGRAMS, find, missing
from tests.support.cluster.node.teardown import kubepods, undo
from tests.support.cluster.programs import Say

_TABLES = ["ip kube-proxy", "ip6 kube-proxy"]


class NodeUnavailableError(Exception):
    """This machine cannot carry a node; the message says what it lacks. Tests turn it into a skip."""


@dataclass(frozen=True)
class Node:
    """A running node and its cluster."""

    cluster: Cluster
    containerd: Containerd
    agents: Agents
    address: str = network.ADDRESS
    """Where pods reach the host, the API server and the cluster's DNS."""

    def load(self, archive: Path) -> None:
        """Makes the images of a docker-archive available to pods with `imagePullPolicy: Never`."""
        self.containerd.load(archive)


def clean(say: Say) -> bool:
    """Undoes what a killed run left on this machine; returns whether there was anything."""
    with lock():
        return _clean(say)


def _clean(say: Say) -> bool:
    left = Ledger.load()
    if left is None:
        return False
    say(f"undoing what an earlier run left ({left.folder})")
    undo(left)
    return True


@contextlib.contextmanager
def open_node(say: Say) -> Iterator[Node]:
    """A cluster with one node, ready for pods; nothing of it is left afterwards.

    Raises:
        NodeUnavailableError: The machine lacks something.
        NodeBusyError: Somebody else runs a node, or uses its networks, here. Nothing was changed.
        ProcessFailedError: A program did not start.
    """
    if lacking := missing():
        raise NodeUnavailableError(f"a node needs {', '.join(lacking)}")
    paths = programs.build(NODE_PROGRAMS, say)
    with lock():
        _clean(say)
        _refuse_if_used()
        say(EFFECTS)
        started = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="pillion-node-"))
        there = {path for path in CREATED_PATHS if Path(path).exists()}
        ledger = Ledger(
            str(folder), sysctls=current_sysctls(), absent=[path for path in CREATED_PATHS if path not in there]
        )
        ledger.save()
        try:
            with _running(paths, ledger, started) as node:
                yield node
        finally:
            undo(ledger)


def _refuse_if_used() -> None:
    network.refuse_if_used()
    if kubepods():
        raise NodeBusyError("cgroups named kubepods exist: another kubelet runs here")
    tables = subprocess.run(
        [find("nft"), "list", "tables"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    if "kube-proxy" in tables:
        raise NodeBusyError("nftables of a kube-proxy exist: another node runs here")


@contextlib.contextmanager
def _running(paths: dict[str, Path], ledger: Ledger, started: float) -> Iterator[Node]:
    folder = Path(ledger.folder)
    with contextlib.ExitStack() as stack:
        network.create(ledger, folder / "cni")
        containerd = Containerd(folder)
        stack.callback(containerd.process.stop)
        containerd.start()
        for archive in archives.busybox(folder):
            containerd.load(archive)
        control_plane = ControlPlane(paths, folder / "control-plane", Listen(network.ADDRESS, advertised=True))
        stack.callback(control_plane.stop)
        control_plane.start()
        kubectl = Kubectl(paths["kubectl"], control_plane.kubeconfig, folder)
        kubectl.run("apply", "--filename=-", stdin=json.dumps(DNS_RIGHTS))
        agents = Agents(paths, control_plane, folder, containerd.socket)
        ledger.cgroups, ledger.tables = True, list(_TABLES)
        ledger.save()
        stack.callback(agents.stop)
        for process in (agents.controllers, agents.scheduler, agents.kubelet, agents.proxy, agents.dns):
            process.start()
        agents.kubelet.wait_until(lambda: _ready(kubectl), 90)
        source = sources.Toolchain(cached=True)
        cluster = Cluster(
            source, control_plane.admin, kubectl, folder, control_plane, time.monotonic() - started, controlled=True
        )
        yield Node(cluster, containerd, agents)
        _end_workloads(cluster, containerd)


def _ready(kubectl: Kubectl) -> bool:
    try:
        kubectl.run("wait", "node", NODE_NAME, "--for=condition=Ready", "--timeout=1s")
        # Pods are refused until the token controller has made the account that they run as.
        kubectl.run("get", "serviceaccount", "default")
    except KubectlError:
        return False
    return True


def _end_workloads(cluster: Cluster, containerd: Containerd) -> None:
    """Lets the kubelet end the containers while it lives: then their mounts and namespaces go the ordinary way."""
    workloads = "deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs"
    cluster.kubectl.run("delete", workloads, "--all", "--all-namespaces", "--wait=false", "--ignore-not-found")
    deadline = time.monotonic() + 30
    while True:
        # Again and again: a controller that does not know of its own end yet makes new ones.
        cluster.kubectl.run("delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--wait=false")
        if not (tasks := containerd.tasks()) or time.monotonic() > deadline:
            break
        time.sleep(1)
    for task in tasks:
        containerd.end_task(task)
