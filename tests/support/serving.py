"""Starts a `Server`, in this process for tests or in one of its own for benchmarks and fuzzing.

    with ServerProcess("tests.support.operations:build", {"socket_path": "/tmp/x.sock"}) as server:
        wrk(server.url + "/v1/hot/ping", server.pid)

The named function gives `(operations, hot_operations)`; it may be a coroutine function that also starts what they need.
"""

import asyncio
import gc
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from prometheus_client import CollectorRegistry

from pillion.runtime.clock import Clock, SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.server import Server, ServerSettings

ROOT = Path(__file__).resolve().parents[2]

LOCAL: Mapping[str, Any] = {"port": 0, "admin_port": 0, "admin_host": "127.0.0.1"}
"""Settings of a test server: free ports of this machine."""

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, wall_ns: int = 1_800_000_000_000_000_000) -> None:
        self.wall = wall_ns
        self.monotonic = 0

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic


@asynccontextmanager
async def running(
    operations: Sequence[Operation] = (),
    hot_operations: Sequence[HotOperation] = (),
    *,
    clock: Clock | None = None,
    metrics: CollectorRegistry | None = None,
    conditions: Conditions | None = None,
    **settings: Any,
) -> AsyncIterator[Server]:
    """Serve in this event loop, on free ports."""
    server = Server(
        ServerSettings(**{**LOCAL, **settings}),
        operations,
        hot_operations,
        conditions or Conditions(),
        metrics or CollectorRegistry(),
        clock or SystemClock(),
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class ServerProcess:
    """A server in a process of its own.

    Args:
        build: `module:function` that gives the operations.
        settings: of the server, over free local ports.
        loop: `uvloop` or `asyncio`.
        token: the bearer token; empty for none.
        cpu: the core that it is pinned to; None for any.
        program: the module that is run with all this as JSON, and prints its addresses as JSON once it serves.
    """

    def __init__(
        self,
        build: str,
        settings: Mapping[str, Any] | None = None,
        *,
        loop: str = "uvloop",
        token: str = "",
        cpu: int | None = None,
        program: str = "tests.support.serving",
    ) -> None:
        self._program = program
        self._order = {
            "build": build,
            "settings": {**LOCAL, **(settings or {})},
            "loop": loop,
            "token": token,
            "cpu": cpu,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.admin_url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._program, json.dumps(self._order)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {self._order['build']} did not start; its error is above")
        ready = json.loads(line)
        self.url, self.admin_url, self.pid = ready["url"], ready["admin_url"], self._process.pid
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def cpu_seconds(self) -> float:
        """Give the processor time that the server has used so far."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """Give the processor time (user and system) that a process has used so far, by proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _serve(order: Mapping[str, Any]) -> None:
    """Serve until SIGTERM."""
    if order["cpu"] is not None:
        os.sched_setaffinity(0, {order["cpu"]})
    module, _, function = order["build"].partition(":")
    built = getattr(importlib.import_module(module), function)()
    operations, hot_operations = await built if inspect.isawaitable(built) else built
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running(operations, hot_operations, **order["settings"]) as server:
        server.set_token(order["token"].encode() or None)
        gc.freeze()  # as the sidecar does
        print(json.dumps({"url": server.url, "admin_url": server.admin_url}), flush=True)
        await stop.wait()


def main() -> None:
    """Serve what the argument says."""
    order = json.loads(sys.argv[1])
    if order["loop"] == "uvloop":
        import uvloop

        uvloop.run(_serve(order))
    else:
        asyncio.run(_serve(order))


if __name__ == "__main__":
    main()
