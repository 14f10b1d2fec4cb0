"""A small JSON request through the hot lane, beside the same operation on the ordinary lane and in a bare aiohttp application.

    python tests/bench/bench_hotlane.py [--seconds 3] [--repeats 5]

All servers run one process on one core; wrk runs on the other. Runs are interleaved; figures are requests per second of the server's processor
time, medians of the repeats. The ratio to bare aiohttp is what the lane gains, the ratio of the ordinary lane is what its checks cost.
Further lines show what clients of other habits get: head and body in two writes, and a trace context and request id that differ every time.
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable  # noqa: TC003 - the annotation of a local is not worth a block of its own
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import wrk
from tests.support.serving import ServerProcess, cpu_seconds

SERVER_CPU, CLIENT_CPU = 0, 1
PATH = "/v1/hot/check"
BODY = '{"n":5,"text":"hello"}'
HEADERS = {"Content-Type": "application/json"}

VARYING = """
local turn = 0
request = function()
  turn = turn + 1
  wrk.headers["traceparent"] = string.format("00-%032x-%016x-01", turn, turn)
  wrk.headers["X-Request-Id"] = "request-" .. turn
  return wrk.format(nil, nil)
end
"""

CONNECTIONS = 32


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if not wrk.AVAILABLE:
        print("skipped: wrk is not installed (apt-get install wrk)")
        return
    with ExitStack() as stack:
        lane = stack.enter_context(ServerProcess("tests.support.operations:build", cpu=SERVER_CPU))
        ordinary = stack.enter_context(
            ServerProcess("tests.support.operations:build", {"hot_lane": False}, cpu=SERVER_CPU)
        )
        bare = stack.enter_context(ServerProcess("", cpu=SERVER_CPU, program="tests.support.bare_aiohttp"))
        runs: dict[str, Callable[[], float]] = {
            "bare aiohttp": lambda: drive(bare, options.seconds),
            "ordinary lane": lambda: drive(ordinary, options.seconds),
            "hot lane": lambda: drive(lane, options.seconds),
            "hot lane, ids vary": lambda: drive(lane, options.seconds, VARYING),
            "ordinary lane, ids vary": lambda: drive(ordinary, options.seconds, VARYING),
            "hot lane, two writes": lambda: asyncio.run(in_two_writes(lane, options.seconds)),
            "ordinary lane, two writes": lambda: asyncio.run(in_two_writes(ordinary, options.seconds)),
        }
        figures: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                figures[name].append(run())
    base = statistics.median(figures["bare aiohttp"])
    for name, values in figures.items():
        median = statistics.median(values)
        print(
            f"{name:26} {median:9,.0f} requests per CPU-second"
            f"  {median / base:5.2f} x bare aiohttp  (from {min(values):,.0f} to {max(values):,.0f})"
        )


def drive(server: ServerProcess, seconds: int, script: str = "") -> float:
    """Drive one server with wrk."""
    figures = wrk.wrk(
        server.url + PATH,
        [server.pid],
        seconds=seconds,
        connections=CONNECTIONS,
        method="POST",
        body=BODY,
        headers=HEADERS,
        script=script,
        cpu=CLIENT_CPU,
    )
    if figures.errors:
        raise RuntimeError(f"{figures.errors} requests failed")
    return figures.per_cpu_second


async def in_two_writes(server: ServerProcess, seconds: int) -> float:
    """Drive one server as most Python clients do: the head, then the body."""
    os.sched_setaffinity(0, {CLIENT_CPU})
    parts = urlsplit(server.url)
    head = f"POST {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    end = time.monotonic() + seconds
    before = cpu_seconds(server.pid)
    counts = await asyncio.gather(
        *(_client(parts.hostname or "", parts.port or 0, head.encode(), end) for _ in range(CONNECTIONS))
    )
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    return sum(counts) / (cpu_seconds(server.pid) - before)


async def _client(host: str, port: int, head: bytes, end: float) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    count = 0
    while time.monotonic() < end:
        writer.write(head)
        await asyncio.sleep(0)
        writer.write(BODY.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode("latin-1"))
        await reader.readexactly(int(answer.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
        count += 1
    writer.close()
    return count


if __name__ == "__main__":
    main()
