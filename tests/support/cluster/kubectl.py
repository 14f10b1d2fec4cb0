"""The real kubectl, as a test wants it: a cluster and a namespace preset, failures as exceptions that show what it said.

Two ways to call it: awaited (`await kubectl("wait", …)`) from tests whose event loop must go on meanwhile, and `kubectl.run(…)` from synchronous code.
Its home is the folder of the run, so it neither reads nor writes the person's own `~/.kube`.
"""

import asyncio
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self


class KubectlError(Exception):
    """kubectl ended with a status other than zero. *output* is what it printed, on both streams."""

    def __init__(self, arguments: tuple[str, ...], status: int, output: str) -> None:
        self.status = status
        self.output = output
        super().__init__(f"kubectl {' '.join(arguments)}: status {status}: {output.strip()}")


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one kubeconfig, and by default for one namespace."""

    program: Path
    kubeconfig: Path
    home: Path
    namespace: str | None = None

    def within(self, namespace: str) -> Self:
        """The same for *namespace*."""
        return replace(self, namespace=namespace)

    def acting_as(self, kubeconfig: Path) -> Self:
        """The same as the person of another kubeconfig."""
        return replace(self, kubeconfig=kubeconfig)

    def command(self, *arguments: str) -> list[str]:
        """The full command line."""
        preset = [f"--kubeconfig={self.kubeconfig}"]
        if self.namespace:
            preset.append(f"--namespace={self.namespace}")
        # kubectl accepts its global flags after the subcommand, where plugins and `exec … --` do not mistake them for their own.
        first, *rest = arguments
        return [str(self.program), first, *preset, *rest]

    def environ(self) -> dict[str, str]:
        """The environment: a home and a discovery cache of its own, and no KUBECONFIG of the person."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        return {**kept, "HOME": str(self.home), "KUBECACHEDIR": str(self.home / "kubectl-cache")}

    async def __call__(self, *arguments: str, stdin: str | None = None, within: float = 60) -> str:
        """Runs it without blocking the event loop; returns its standard output. *within* seconds.

        Raises:
            KubectlError: It failed.
            TimeoutError: It did not end in time; it is killed then.
        """
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environ(),
        )
        try:
            async with asyncio.timeout(within):
                output, errors = await process.communicate(None if stdin is None else stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _checked(arguments, process.returncode, output, errors)

    def run(self, *arguments: str, stdin: str | None = None, within: float = 60) -> str:
        """Runs it and waits; returns its standard output. *within* seconds.

        Raises:
            KubectlError: It failed.
            subprocess.TimeoutExpired: It did not end in time; it is killed then.
        """
        done = subprocess.run(
            self.command(*arguments),
            input=(stdin or "").encode(),
            capture_output=True,
            env=self.environ(),
            timeout=within,
            check=False,
        )
        return _checked(arguments, done.returncode, done.stdout, done.stderr)


def _checked(arguments: tuple[str, ...], status: int | None, output: bytes, errors: bytes) -> str:
    if status != 0:
        raise KubectlError(arguments, -1 if status is None else status, (output + errors).decode(errors="replace"))
    return output.decode(errors="replace")
