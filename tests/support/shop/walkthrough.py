"""The commands of `examples/shop/README.md`, run as a reader runs them: in a shell, from the root of the repository.

Tests run what stands there and nothing that is like it. Only two things differ: programs come from the tests' cache, and the port that the reader
forwards is a free one.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.cluster.kubectl import Kubectl
from tests.support.cluster.processes import Process, free_ports

ROOT: Final = Path(__file__).parents[3]
README: Final = ROOT / "examples" / "shop" / "README.md"
_PORT: Final = "8080"
"""The port that the page forwards."""


def commands(section: str, page: Path = README) -> list[str]:
    """The lines that begin with a prompt in the `console` blocks under the heading *section*.

    Raises:
        KeyError: There is no such heading, or nothing to run under it.
    """
    text = page.read_text()
    under = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```console\n(.*?)^```", under[1], re.MULTILINE | re.DOTALL) if under else []
    found = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    if not found:
        raise KeyError(f"{page.name} has no commands under {section!r}")
    return found


class Reader:
    """Whoever follows the page.

    Args:
        kubectl: kubectl and its cluster.
        programs: further programs by name.
        folder: for their home, their links and the logs of what runs in the background.
    """

    def __init__(self, kubectl: Kubectl, programs: Mapping[str, Path], folder: Path) -> None:
        self._folder = folder
        (self.port,) = free_ports(1)
        links = folder / "bin"
        links.mkdir(parents=True)
        for name, path in {**programs, "kubectl": kubectl.program}.items():
            (links / name).symlink_to(path)
        environ = kubectl.environ()
        self._environ = {**environ, "KUBECONFIG": str(kubectl.kubeconfig), "PATH": f"{links}:{environ.get('PATH', '')}"}
        self._background: list[Process] = []

    def run(self, command: str, *, within: float = 180) -> str:
        """Runs one line and returns what it printed; a line that ends in `&` goes on in the background.

        Raises:
            AssertionError: It failed.
        """
        command = command.replace(f" {_PORT} &", f" {self.port}:{_PORT} &").replace(
            f"localhost:{_PORT}", f"127.0.0.1:{self.port}"
        )
        if command.endswith("&"):
            self._start(command.removesuffix("&").strip())
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, section: str) -> list[str]:
        """Runs everything under a heading, in its order, and returns what each line printed."""
        return [self.run(command) for command in commands(section)]

    def close(self) -> None:
        """Ends what runs in the background."""
        for process in self._background:
            process.stop()
        self._background.clear()

    def _start(self, command: str) -> None:
        log = self._folder / f"background-{len(self._background)}.log"
        process = Process(
            command.partition(" ")[0], ["bash", "-c", f"cd {ROOT} && exec {command}"], log, environ=self._only_ours()
        )
        process.start()
        self._background.append(process)
        process.wait_until(lambda: "Forwarding from" in log.read_text(), 30)

    def _only_ours(self) -> Mapping[str, str]:
        return {name: value for name, value in self._environ.items() if os.environ.get(name) != value}
