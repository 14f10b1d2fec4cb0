"""Run `pillion run` as a person does: a process of its own, on free ports, over a folder of manifests."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

START_SECONDS = 20


class Sidecar:
    """One `pillion run` process. A context manager; it is gone when the block ends, whatever happened in it."""

    def __init__(self, manifests: Path, data_dir: Path, *arguments: str) -> None:
        self.manifests = manifests
        self.data_dir = data_dir
        self.arguments = arguments
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.process: subprocess.Popen | None = None
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def url(self) -> str:
        return self.addresses["url"]

    def start(self) -> None:
        """Start it and wait until the first manifests are applied."""
        ready = self.data_dir.parent / f"{self.data_dir.name}.ready"
        ready.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "pillion.cli.main",
            "run",
            "-f",
            str(self.manifests),
            "--data-dir",
            str(self.data_dir),
        ]
        command += ["--port", "0", "--admin-port", "0", "--ready-file", str(ready), *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"PYTHONWARNINGS": "default"}
            )
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"pillion run did not get ready:\n{self.log.read_text()}")
            time.sleep(0.01)
        self.addresses = json.loads(ready.read_text())

    def kill(self) -> None:
        """Kill it as the kernel would: no goodbye."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """End it as Ctrl-C does; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=15)

    def get(self, path: str) -> tuple[int, dict]:
        return self.call("GET", path)

    def post(self, path: str, body: object) -> tuple[int, dict]:
        return self.call("POST", path, body)

    def call(self, method: str, path: str, body: object = None, headers: dict | None = None) -> tuple[int, dict]:
        """One request; gives status and decoded JSON."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"} | (headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())


def _json(body: bytes) -> dict:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return {"text": body.decode(errors="replace")}


def eventually(probe, *, seconds: float = 15.0, what: str = ""):
    """Ask *probe* until it gives something true; real processes have no clock that a test could turn."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or probe}")
        time.sleep(0.02)
