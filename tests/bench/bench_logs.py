"""Log shipping: megabytes per second, and processor time per megabyte, from a file to an HTTP endpoint.

    python tests/bench/bench_logs.py [--megabytes 128] [--repeats 3]

The file holds JSON lines of about 230 bytes, one in fifty with an e-mail address. The receiver is a process of its own and throws bodies away.
Pillion: the real pipeline (tail, mask two built-in rules, put fields into every record, prove that it is JSON, gzip -1, POST, save progress with
fsync after each confirmed batch). Beside it, in the same process and interleaved: read, gzip -1 and POST of the same chunks, which does nothing
else and loses its place in a crash; and Fluent Bit (tail, gzip, POST) where it is installed. Medians count.
"""

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import aiohttp
from aiohttp import web

from pillion.logs.compiled import HttpSinkPlan, LogPlan, SinkPlan, SourcePlan
from pillion.logs.patterns import BUILT_IN
from pillion.logs.pipeline import Pipeline
from pillion.logs.sinks import HttpSink
from pillion.logs.spool import Spool
from pillion.runtime.clock import SystemClock
from pillion.runtime.conditions import Conditions

CHUNK = 1 << 20
FIELDS = {"k8s.namespace.name": "shop", "k8s.pod.name": "shop-7d4b9c-x2v5n", "source": "app"}


def serve(pipe):
    """Take POSTs and throw them away; tell the port, and bytes so far when asked."""

    async def main():
        taken = 0

        async def take(request):
            nonlocal taken
            async for part in request.content.iter_any():
                taken += len(part)
            return web.Response()

        app = web.Application()
        app.router.add_post("/", take)
        runner = web.AppRunner(app, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def write_lines(path, megabytes):
    """Write the file; gives its size."""
    with path.open("wb") as file:
        size = number = 0
        while size < megabytes << 20:
            lines = []
            for _ in range(4000):
                number += 1
                line = {
                    "time": f"2026-05-01T12:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z",
                    "level": "INFO",
                    "msg": "request handled",
                    "path": f"/api/orders/{number * 7919 % 100003}",
                    "status": 200,
                    "ms": number * 31 % 977,
                    "trace_id": f"{number * 0x9E3779B97F4A7C15 % (1 << 64):032x}",
                    "user": f"user{number}@example.com" if number % 50 == 0 else f"u-{number % 9973:06d}",
                }
                lines.append(json.dumps(line).encode())
            size += file.write(b"\n".join(lines) + b"\n")
    return path.stat().st_size


class Cost:
    """Wall time and processor time of a block of code."""

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


async def pillion(path, url, folder):
    """Ship the whole file through the real pipeline."""
    sink = HttpSinkPlan(url=url, headers={}, gzip=True, timeout_ns=30_000_000_000, token=None)
    plan = LogPlan(
        sources=(SourcePlan(name="app", files=(str(path),), format="json"),),
        mask=(BUILT_IN["email"], BUILT_IN["creditCard"]),
        sinks=(SinkPlan(name="live", http=sink, file=None, batch_bytes=CHUNK, linger_ns=1_000_000_000),),
        intake_bytes=1 << 20,
    )
    (folder / "spool").mkdir(parents=True)
    pipeline = Pipeline(
        plan.sinks[0],
        plan,
        HttpSink(sink, ""),
        spool=Spool(folder / "spool", 1 << 20),
        folder=folder,
        fields=lambda _source: FIELDS,
        clock=SystemClock(),
        conditions=Conditions(),
    )
    with Cost() as cost:
        running = asyncio.create_task(pipeline.run())
        while not pipeline.figures.batches or pipeline.figures.lag_bytes > CHUNK:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        # A drain ends when nothing is left.
        pipeline.drain()
        await running
    assert pipeline.figures.lag_bytes == 0
    assert pipeline.masked["email"] > 0
    return cost


async def bare(path, url):
    """Read, compress and POST, and nothing else."""
    with Cost() as cost:
        async with aiohttp.ClientSession() as session:
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    body = await asyncio.to_thread(gzip.compress, chunk, 1)
                    async with session.post(url, data=body, headers={"Content-Encoding": "gzip"}) as response:
                        assert response.status == 200
    return cost


def fluent_bit(path, port, size, folder):
    """Tail the file with Fluent Bit until all of it was read."""
    command = [
        "fluent-bit",
        *("-i", "tail", "-p", f"path={path}", "-p", "read_from_head=true", "-p", "exit_on_eof=true"),
        *("-p", "buffer_chunk_size=1M", "-p", "buffer_max_size=2M"),
        *("-o", "http", "-p", "host=127.0.0.1", "-p", f"port={port}", "-p", "format=json_lines", "-p", "compress=gzip"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, timeout=300)
    cost = Cost()
    cost.wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    receiver.start()
    port = ours.recv()
    url = f"http://127.0.0.1:{port}/"
    runs = {"pillion": [], "read, gzip, POST": []}
    if shutil.which("fluent-bit"):
        runs["fluent-bit"] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "app.log"
        size = write_lines(path, arguments.megabytes)
        for repeat in range(arguments.repeats):
            runs["pillion"].append(asyncio.run(pillion(path, url, folder / f"data-{repeat}")))
            runs["read, gzip, POST"].append(asyncio.run(bare(path, url)))
            if "fluent-bit" in runs:
                runs["fluent-bit"].append(fluent_bit(path, port, size, folder))
    ours.send(None)
    receiver.join(10)
    print(f"machine: {os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    print(f"{size / 1e6:.0f} MB of JSON lines, gzip -1, {arguments.repeats} runs each, medians")
    figures = {}
    for name, costs in runs.items():
        rate = statistics.median(size / 1e6 / cost.wall for cost in costs)
        cpu = statistics.median(cost.cpu * 1e3 / (size / 1e6) for cost in costs)
        figures[name] = (rate, cpu)
        print(f"{name:18s} {rate:7.1f} MB/s   {cpu:6.2f} ms of processor time per MB")
    for name in list(figures)[1:]:
        print(
            f"pillion / {name}: {figures['pillion'][0] / figures[name][0]:.2f} x the rate, "
            f"{figures['pillion'][1] / figures[name][1]:.2f} x the processor time"
        )
    if "fluent-bit" not in figures:
        print("fluent-bit is not installed: no line for it")
    print(f"largest resident set of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
