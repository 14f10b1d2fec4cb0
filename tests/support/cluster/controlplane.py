"""An own control plane for tests: etcd and kube-apiserver on 127.0.0.1, with data that survives a kill.

Ready about three seconds after `start`. Each of the two can be killed and started again on its ports and its data, which is how the tests show what the data
plane does without a control plane. Nothing here knows about pytest; benchmarks use it as well.

What it does not do: it runs no controllers. No default service account appears, nothing finalizes a deleted namespace, and no pod ever starts (`identities.py` and
`namespaces.py` do by hand what a test needs of that).
"""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cluster.certificates import Authority, signing_key
from tests.support.cluster.kubeconfig import Access
from tests.support.cluster.processes import Process, free_ports

SERVICE_ISSUER: Final = "https://kubernetes.default.svc"
"""Issuer, and so the default audience, of service-account tokens."""
SERVICE_RANGE: Final = "10.0.0.0/24"
"""Cluster addresses of Services; the first one is the API server's own."""


@dataclass(frozen=True)
class Listen:
    """Where the API server listens, and what nodes need it to be."""

    address: str = "127.0.0.1"
    advertised: bool = False
    """Whether pods reach it: then it publishes *address* as the endpoint of the Service `kubernetes`. A loopback address cannot be one."""


class ControlPlane:
    """etcd and one API server in *folder*.

    Args:
        programs: Paths of `etcd` and `kube-apiserver`.
        folder: Certificates, data and logs; must be empty or not exist.
        listen: Where the API server listens.
        flags: Further flags of the API server, e.g. `--feature-gates=…`.
    """

    def __init__(
        self, programs: Mapping[str, Path], folder: Path, listen: Listen = Listen(), flags: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = Authority(folder / "pki")
        self.signing_key = signing_key(folder / "pki")
        etcd_client, etcd_peer = free_ports(2)
        (port,) = free_ports(1, listen.address)
        self._etcd_port = etcd_client
        self.etcd = Process(
            "etcd", _etcd_command(programs["etcd"], folder, etcd_client, etcd_peer), folder / "etcd.log"
        )
        self.admin = Access(
            f"https://{listen.address}:{port}",
            self.authority.certificate,
            self.authority.client("pillion-tests-admin", ["system:masters"]),
        )
        command = [*self._apiserver_command(programs["kube-apiserver"], listen, port), *flags]
        self.apiserver = Process("kube-apiserver", command, folder / "kube-apiserver.log")
        self.kubeconfig = self.admin.write(folder / "admin.kubeconfig")
        self._ssl = self.admin.ssl_context()

    def start(self) -> None:
        """Starts both and waits until the API server is ready."""
        self.start_etcd()
        self.start_apiserver()

    def start_etcd(self) -> None:
        """Starts etcd and waits until it answers."""
        self.etcd.start()
        self.etcd.wait_until(self._etcd_healthy, 30)

    def start_apiserver(self) -> None:
        """Starts the API server, for the first time or after a kill, and waits until it is ready."""
        self.apiserver.start()
        self.apiserver.wait_until(self._ready, 60)

    def kill_apiserver(self) -> None:
        """Kills the API server at once (SIGKILL). Its data stay in etcd."""
        self.apiserver.kill()

    def stop(self) -> None:
        """Ends both. The API server first: without etcd it would hang on for its own time limits."""
        self.apiserver.stop(timeout=3)  # it drains watches for longer than any test wants to wait
        self.etcd.stop(timeout=3)

    def client_access(self, user: str, groups: Sequence[str] = ()) -> Access:
        """Access as *user*, by a fresh client certificate."""
        return Access(self.admin.server, self.authority.certificate, self.authority.client(user, groups))

    def _etcd_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=5)
        return _answers_200(connection, "/health")

    def _ready(self) -> bool:
        host, _, port = self.admin.server.removeprefix("https://").rpartition(":")
        return _answers_200(http.client.HTTPSConnection(host, int(port), timeout=5, context=self._ssl), "/readyz")

    def _apiserver_command(self, program: Path, listen: Listen, port: int) -> list[str]:
        names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        serving = self.authority.server("kube-apiserver", list(dict.fromkeys([*names, listen.address])))
        kubelet_client = self.authority.client("kube-apiserver-kubelet-client", ["system:masters"])
        return [
            str(program),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={listen.address}",
            f"--advertise-address={listen.address}",  # otherwise it looks for a default route and dies where there is none
            f"--endpoint-reconciler-type={'lease' if listen.advertised else 'none'}",
            f"--secure-port={port}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={self.authority.certificate}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--service-account-issuer={SERVICE_ISSUER}",
            f"--service-account-key-file={self.signing_key}",
            f"--service-account-signing-key-file={self.signing_key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--profiling=false",
        ]


def _etcd_command(program: Path, folder: Path, client: int, peer: int) -> list[str]:
    return [
        str(program),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",  # the data die with the tests; a killed process loses nothing, only a killed machine would
        "--log-level=warn",
    ]


def _answers_200(connection: http.client.HTTPConnection, path: str) -> bool:
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, ssl.SSLError, http.client.HTTPException):
        return False
    finally:
        connection.close()
