"""Runs the commands of a page as a reader would, against a control plane of its own.

`kubectl`, `helm` and `pillion` are the real programs; `localhost:3700` and `localhost:3790`, which a reader reaches by port-forward, are those of the sidecar process
that was started last. The folder is a copy of a checkout's top level, by links, so that commands write nothing into the tree.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.support.deployed.node import Node
from tests.support.deployed.plane import ROOT, Plane
from tests.support.docs.commands import Command, differs

WITHIN: Final = 90.0
"""Seconds for one command."""
SETTLES_WITHIN: Final = 25.0
"""Seconds in which a reading command must come to show what the page shows."""

_LINKED: Final = ("charts", "crds", "operator", "examples", "docs", "Makefile", "Dockerfile")


class WrongPageError(AssertionError):
    """A command does not do what its page says."""


class Runner:
    """A reader's shell.

    Args:
        plane: the control plane.
        node: runs what is installed.
        folder: an empty folder.
    """

    def __init__(self, plane: Plane, node: Node, folder: Path) -> None:
        self._node = node
        self._folder = folder / "checkout"
        programs = folder / "bin"
        self._folder.mkdir()
        programs.mkdir()
        for name in _LINKED:
            (self._folder / name).symlink_to(ROOT / name)
        (programs / "kubectl").symlink_to(plane.kubectl.program)
        if plane.helm:
            (programs / "helm").symlink_to(plane.helm.program)
        self._script(programs / "pillion", f'exec {sys.executable} -m pillion.cli.main "$@"')
        to = " ".join(f"--connect-to localhost:{port}:$POD:{port}" for port in (3700, 3790))
        self._script(programs / "curl", f'exec /usr/bin/env PATH="${{PATH#*:}}" curl --max-time 10 {to} "$@"')
        self._environ = {
            **plane.kubectl.environ(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KUBECONFIG": str(plane.control_plane.kubeconfig),
        }

    @staticmethod
    def _script(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, command: Command) -> None:
        """Run one command.

        Raises:
            WrongPageError: it ends otherwise, or shows something else, than the page says.
        """
        deadline = time.monotonic() + SETTLES_WITHIN
        while True:
            status, output = self._once(command)
            wrong = self._judged(command, status, output)
            if not wrong:
                return
            if not command.reads or time.monotonic() > deadline:
                where = f"{command.page}:{command.line}"
                raise WrongPageError(f"{where}: $ {command.text}\n{wrong}\n--- it said:\n{output}\n{self._node.logs()}")
            time.sleep(0.2)

    def _once(self, command: Command) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.text],
            cwd=self._folder,
            env={**self._environ, "POD": self._node.latest_pod or "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        return done.returncode, done.stdout

    def _judged(self, command: Command, status: int, output: str) -> str:
        if status == 127:
            return "a program is missing: mark the fence with what it needs"
        if command.fails and status == 0:
            return "the page says that it fails, and it did not"
        if not command.fails and status != 0:
            return f"it ended with status {status}"
        missing = differs(command.shown, output)
        return f"the page shows a line that did not come: {missing}" if missing else ""
