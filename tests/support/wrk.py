"""Drives a server with `wrk` and tells requests per second and per second of the server's processor time."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support.serving import cpu_seconds

AVAILABLE = shutil.which("wrk") is not None


class Figures(NamedTuple):
    """What one run gave."""

    per_second: float
    per_cpu_second: float
    errors: int
    """Answers that were no success, and sockets that failed."""
    p50: float = 0.0
    """Milliseconds within which half of the answers came."""
    p99: float = 0.0
    """Milliseconds within which 99 of 100 came."""


def wrk(
    url: str,
    pids: list[int],
    *,
    seconds: int = 4,
    connections: int = 32,
    method: str = "GET",
    body: str = "",
    headers: dict[str, str] | None = None,
    script: str = "",
    cpu: int | None = None,
) -> Figures:
    """Drive *url* for a while.

    Args:
        url: the address.
        pids: the processes of the server, whose processor time counts.
        seconds: how long.
        connections: how many keep-alive connections.
        method: of every request.
        body: of every request.
        headers: of every request.
        script: further Lua, as for varying bodies (`request = function() ... end`).
        cpu: the core that wrk is pinned to.
    """
    lines = [f'wrk.method = "{method}"', f"wrk.body = [[{body}]]" if body else ""]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wrk.lua"
        path.write_text("\n".join([*lines, script]) + "\n")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(path), url]
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        before = sum(map(cpu_seconds, pids))
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used = sum(map(cpu_seconds, pids)) - before
    count = int(_figure(r"(\d+) requests in", output))
    wrong = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    for numbers in re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output):
        wrong += sum(map(int, numbers))
    return Figures(
        float(_figure(r"Requests/sec:\s+([\d.]+)", output)),
        count / used,
        wrong,
        _latency("50", output),
        _latency("99", output),
    )


def _latency(percentile: str, output: str) -> float:
    value = _figure(rf"\b{percentile}%\s+([\d.]+[a-z]+)", output)
    number = value.rstrip("umsinh")
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[value.removeprefix(number)]


def _figure(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(f"wrk said:\n{output}")
    return match[1]
