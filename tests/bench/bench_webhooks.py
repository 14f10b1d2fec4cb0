"""Durable accepts and signed, recorded deliveries per second and per second of processor time.

    python tests/bench/bench_webhooks.py [--events 10000] [--repeats 3] [--part accept]

Accept: `POST /v1/events` with 1 KiB of data over 32 and 128 keep-alive connections; an answer comes after the sync. Beside it the same with the hot lane
switched off, and on the ordinary lane a route that decodes the same body and stores nothing: the difference is the price of durability on this disk.
Deliver: a backlog is brought from disk, signed, posted to a receiver on the other core that answers 204, and every attempt recorded and synced.
Beside it aiohttp's client posts the same signed requests to the same receiver and records nothing. Runs are interleaved; medians count.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import aiohttp
import uvloop
from tests.support import wrk
from tests.support.receivers import SECRET
from tests.support.serving import ServerProcess
from tests.support.webhooks import Surroundings, manifest

from pillion.delivery.model import Submission
from pillion.runtime.operation import Answer, Call, Operation
from pillion.webhooks.events import Event
from pillion.webhooks.signing import read_keys, signature

CONNECTIONS = (32, 128)
IN_FLIGHT = 64
BODY = json.dumps({"type": "order.created", "data": {"filler": "x" * 1000}}).encode()
OURS_CPU, OTHER_CPU = 0, 1


# The receiver, in a process of its own


class Taker(asyncio.Protocol):
    """Answers every request that arrived whole with 204; counts bytes, parses as little as possible."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""

    def data_received(self, data):
        self.buffer += data
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def receive():
    server = await asyncio.get_running_loop().create_server(Taker, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# Deliveries


async def deliver(url: str, events: int) -> dict:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        made = Surroundings(Path(folder))
        one = manifest("one", url, concurrency={"max": IN_FLIGHT})
        await made.apply(one, secrets={})
        await made.block.start()
        machine = made.block._machine
        for _ in range(events // 100):
            batch = [
                Submission(id=machine.new_id(), type="order.created", body=BODY, destinations=("one",))
                for _ in range(100)
            ]
            await machine.accept(batch)
        wall, cpu = time.perf_counter(), time.process_time()
        await made.apply(one)
        while made.status("one").succeeded < events:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
        result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        await made.close()
        return result


async def post(url: str, events: int) -> dict:
    keys = read_keys(SECRET.encode())
    left = iter(range(events))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def worker():
            for number in left:
                stamp = int(time.time())
                message = f"msg_{number:032x}"
                headers = {
                    "Content-Type": "application/json",
                    "webhook-id": message,
                    "webhook-timestamp": str(stamp),
                    "webhook-signature": signature(keys, message, stamp, BODY),
                }
                async with session.post(url, data=BODY, headers=headers, allow_redirects=False) as response:
                    assert response.status == 204
                    await response.read()

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


# Accepts


async def build():
    """A block whose endpoint has no secret yet, so that events are stored and nothing is sent; and a route that stores nothing."""
    made = Surroundings(Path(tempfile.mkdtemp(dir=os.environ["BENCH_FOLDER"])))
    await made.apply(manifest("one", "https://hooks.example.com/"), secrets={})
    await made.block.start()

    async def plain(_call: Call[Event]) -> Answer:
        return Answer(status=202, body={"id": "msg", "durability": "none", "deliveries": 1})

    echo = Operation(
        method="POST", path="/v1/plain", name="plain", summary="Store nothing.", tag="bench", handler=plain, body=Event
    )
    return [*made.block.operations(), echo], []


def accepts(path: str, connections: int, seconds: int, *, hot_lane: bool) -> dict:
    with ServerProcess("tests.bench.bench_webhooks:build", {"hot_lane": hot_lane}, cpu=OURS_CPU) as server:
        figures = wrk.wrk(
            server.url + path,
            [server.pid],
            seconds=seconds,
            connections=connections,
            method="POST",
            body=BODY.decode(),
            headers={"Content-Type": "application/json"},
            cpu=OTHER_CPU,
        )
    if figures.errors:
        raise RuntimeError(f"{figures.errors} events were not accepted")
    return {"rate": figures.per_second, "core": figures.per_cpu_second, "p50": figures.p50, "p99": figures.p99}


def sync_milliseconds(folder: str) -> float:
    """Give what one sync of 4 KiB costs on this disk."""
    path = Path(folder) / "sync"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    begin = time.perf_counter()
    for _ in range(50):
        os.write(descriptor, b"x" * 4096)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return (time.perf_counter() - begin) / 50 * 1e3


def role(name: str, url: str, events: int) -> dict:
    """Run a part in a process of its own, so that its processor time is its own."""
    command = ["taskset", "-c", str(OURS_CPU), sys.executable, __file__, "--role", name, "--url", url]
    done = subprocess.run([*command, "--events", str(events)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=10_000)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--part", choices=["accept", "deliver"], default="")
    arguments.add_argument("--role", default="")
    arguments.add_argument("--url", default="")
    given = arguments.parse_args()
    if given.role == "receive":
        uvloop.run(receive())
    elif given.role:
        work = {"deliver": deliver, "aiohttp": post}[given.role]
        print(json.dumps(uvloop.run(work(given.url, given.events))))
    else:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            os.environ["BENCH_FOLDER"] = str(Path(folder).resolve())
            print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
                  f"one sync of 4 KiB {sync_milliseconds(folder):.2f} ms")  # fmt: skip
            if given.part != "accept":
                compare_deliveries(given)
            if given.part != "deliver" and wrk.AVAILABLE:
                compare_accepts(given)


def compare_deliveries(given: argparse.Namespace) -> None:
    receiver = subprocess.Popen(
        ["taskset", "-c", str(OTHER_CPU), sys.executable, __file__, "--role", "receive"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{int(receiver.stdout.readline())}/hooks"
        ours, theirs = [], []
        for _ in range(given.repeats):
            ours.append(role("deliver", url, given.events))
            theirs.append(role("aiohttp", url, given.events))
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()
    per_core = [given.events / median(runs, "cpu") for runs in (ours, theirs)]
    print(f"deliver, signed and recorded: {per_core[0]:,.0f} per CPU-second, {given.events / median(ours, 'wall'):,.0f}/s; "
          f"aiohttp client, not recorded: {per_core[1]:,.0f} per CPU-second; ratio {per_core[0] / per_core[1]:.2f}")  # fmt: skip


ACCEPTS = {
    "durable, hot lane": ("/v1/events", True),
    "durable, ordinary lane": ("/v1/events", False),
    "not stored, ordinary lane": ("/v1/plain", False),
}


def compare_accepts(given: argparse.Namespace) -> None:
    runs = {(name, connections): [] for connections in CONNECTIONS for name in ACCEPTS}
    for _ in range(given.repeats):
        for (name, connections), results in runs.items():
            path, hot_lane = ACCEPTS[name]
            results.append(accepts(path, connections, given.seconds, hot_lane=hot_lane))
    for (name, connections), results in runs.items():
        core = median(results, "core")
        ratio = core / median(runs["durable, ordinary lane", connections], "core")
        print(f"accept, {name:25} {connections:4} connections: {median(results, 'rate'):7,.0f}/s, {core:7,.0f} per CPU-second "
              f"({ratio:.2f} x durable, ordinary), p50 {median(results, 'p50'):5.1f} ms, p99 {median(results, 'p99'):5.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
