"""containerd of its own: root, state, socket and plugins under the node's folder, and its images, loaded from archives.

No registry is involved. Pods name images that were loaded and say `imagePullPolicy: Never`.
"""

import subprocess
from pathlib import Path
from typing import Final

from tests.support.cluster.node.prerequisites import CNI_PLUGINS, find
from tests.support.cluster.processes import Process

PAUSE_IMAGE: Final = "docker.io/pillion/pause:test"
_KUBERNETES: Final = "k8s.io"
"""containerd's own namespace for what the kubelet runs."""


class Containerd:
    """containerd in *folder*, configured for the kubelet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "containerd.sock"
        config = folder / "containerd.toml"
        config.write_text(configuration(folder))
        self.process = Process("containerd", [find("containerd"), "--config", config], folder / "containerd.log")

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.process.start()
        self.process.wait_until(lambda: self.socket.exists() and self._ctr("version").returncode == 0, 30)

    def load(self, archive: Path) -> None:
        """Loads the images of a docker-archive.

        Raises:
            OSError: containerd refused it.
        """
        done = self._ctr("images", "import", str(archive), timeout=300)
        if done.returncode:
            raise OSError(f"ctr images import {archive}: {done.stderr.strip()}")

    def tasks(self) -> list[str]:
        """The ids of the containers that exist now."""
        return self._ctr("tasks", "list", "--quiet").stdout.split()

    def end_task(self, name: str) -> None:
        """Ends a container that the kubelet left behind."""
        self._ctr("tasks", "delete", "--force", name)

    def _ctr(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        command = [str(find("ctr")), "--address", str(self.socket), "--namespace", _KUBERNETES, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def configuration(folder: Path) -> str:
    """containerd's configuration (version 2)."""
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"

[grpc]
  address = "{folder}/containerd.sock"

[ttrpc]
  address = "{folder}/containerd-ttrpc.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd-opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Where the machine lacks CAP_SYS_RESOURCE runc dies otherwise: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Network namespaces then lie under `state`, where the teardown finds their mounts.
  netns_mounts_under_state_dir = true
  # Exec, logs and port-forward streams go through the kubelet to here.
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{folder}/cni"
"""
