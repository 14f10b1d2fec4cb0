"""The programs that make a control plane and a machine into a cluster: controllers, scheduler, kubelet, kube-proxy, CoreDNS.

Each is a `Process` with a client certificate and a configuration file of its own in the node's folder. All listen on the bridge or on nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.cluster.controlplane import ControlPlane
from tests.support.cluster.node.network import ADDRESS
from tests.support.cluster.processes import Process, free_ports

NODE_NAME: Final = "pillion-node"
CLUSTER_DOMAIN: Final = "cluster.local"


class Agents:
    """The five programs, ready to be started.

    Args:
        programs: Their paths by name.
        control_plane: Whom they talk to, and who certifies them.
        folder: Where their configuration, data and logs lie.
        runtime: containerd's socket.
    """

    def __init__(self, programs: Mapping[str, Path], control_plane: ControlPlane, folder: Path, runtime: Path) -> None:
        self._programs = programs
        self._control_plane = control_plane
        self._folder = folder
        self.controllers = self._process(
            "kube-controller-manager",
            f"--kubeconfig={self._kubeconfig('system:kube-controller-manager')}",
            f"--service-account-private-key-file={control_plane.signing_key}",
            f"--root-ca-file={control_plane.authority.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        )
        self.scheduler = self._process(
            "kube-scheduler",
            f"--kubeconfig={self._kubeconfig('system:kube-scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
        )
        self.kubelet = self._process(
            "kubelet",
            f"--kubeconfig={self._kubeconfig(f'system:node:{NODE_NAME}', 'system:nodes')}",
            f"--config={self._file('kubelet.yaml', self._kubelet(runtime))}",
            f"--hostname-override={NODE_NAME}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'kubelet-pki'}",
            f"--node-ip={ADDRESS}",
        )
        self.proxy = self._process("kube-proxy", f"--config={self._file('kube-proxy.yaml', self._kube_proxy())}")
        corefile = folder / "Corefile"
        corefile.write_text(self._corefile())
        self.dns = self._process("coredns", f"-conf={corefile}")

    def stop(self) -> None:
        """Ends them; the kubelet first, since it would restart what others end."""
        for process in (self.kubelet, self.proxy, self.dns, self.scheduler, self.controllers):
            process.stop()

    def _process(self, name: str, *flags: str) -> Process:
        return Process(name, [self._programs[name], *flags], self._folder / f"{name}.log")

    def _kubeconfig(self, user: str, *groups: str) -> Path:
        return self._control_plane.client_access(user, groups).write(
            self._folder / f"{user.replace(':', '-')}.kubeconfig"
        )

    def _file(self, name: str, content: object) -> Path:
        path = self._folder / name
        path.write_text(json.dumps(content, indent=1))  # JSON is YAML
        return path

    def _kubelet(self, runtime: Path) -> dict[str, object]:
        (port,) = free_ports(1, ADDRESS)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "port": port,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._control_plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "clusterDNS": [ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{runtime}",
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,  # kube-proxy works by nftables; nothing here reads those chains
            "imageGCHighThresholdPercent": 100,  # the images of tests cannot be pulled again
            "podLogsDir": str(self._folder / "pod-logs"),
            "volumePluginDir": str(self._folder / "volume-plugins"),
            "shutdownGracePeriod": "0s",
            "syncFrequency": "10s",
        }

    def _kube_proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self._kubeconfig("system:kube-proxy"))},
            "hostnameOverride": NODE_NAME,
            "mode": "nftables",
            "bindAddress": ADDRESS,
            "healthzBindAddress": "",
            "metricsBindAddress": "",
            "nodePortAddresses": ["primary"],
            # Zero leaves the machine's connection tracking as it is.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }

    def _corefile(self) -> str:
        kubeconfig = self._kubeconfig("system:coredns")
        return f"""\
.:53 {{
    bind {ADDRESS}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} tests
        ttl 1
    }}
}}
"""


DNS_RIGHTS: Final = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
    ],
}
"""What CoreDNS may read."""
