"""A rate limit check through the hot lane, beside nginx `limit_req` and plain aiohttp, per second of the server's processor time.

    python tests/bench/bench_ratelimit.py [--seconds 3] [--repeats 5]

All servers run one process on one core and keep a limit per user over 1,000 users (and ours and nginx also over 50,000, where nothing that is
remembered about a request helps); the client runs on another core. Ours and aiohttp decode a
JSON body, decide, and answer with a JSON body and RateLimit fields; nginx looks at a query argument and answers an empty GIF, the cheapest
handler that comes after `limit_req` (`return` would answer before it). That each of them really limits is shown first, with the same
configuration at a low rate. Over the unix socket, which wrk cannot do, a small client of our own drives both; it is the bottleneck there, so
that only the processor time tells anything. Runs are interleaved; medians count.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop
from tests.support import ratelimits
from tests.support.serving import ServerProcess, cpu_seconds
from tests.support.wrk import Figures, wrk

USERS = 1_000
MANY_USERS = 50_000
SERVER_CPU, CLIENT_CPU = 0, 1

CHECKS = """
local requests, turn = {}, 0
init = function()
  wrk.headers["Content-Type"] = "application/json"
  for user = 1, USERS do
    requests[user] = wrk.format("POST", "/v1/ratelimit/check", nil,
      '{"policy":"bench","attributes":{"user":"user-' .. user .. '","route":"/api/orders"}}')
  end
end
request = function()
  turn = turn % USERS + 1
  return requests[turn]
end
"""

ARGUMENTS = """
local requests, turn = {}, 0
init = function()
  for user = 1, USERS do requests[user] = wrk.format("GET", "/check?user=user-" .. user) end
end
request = function()
  turn = turn % USERS + 1
  return requests[turn]
end
"""

NGINX = """
daemon off; worker_processes 1; worker_cpu_affinity 01; error_log /dev/null crit; pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  limit_req_zone $arg_user zone=users:10m rate={rate}r/s;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port}; listen unix:{folder}/nginx.sock;
    location /check {{ limit_req zone=users burst=5 nodelay; empty_gif; }}
  }}
}}
"""

PLAIN = """
import asyncio, os, sys
from aiohttp import web
import uvloop
from tests.support import ratelimits
from pillion.runtime.problems import Problem

async def main():
    os.sched_setaffinity(0, {int(sys.argv[2])})
    block = ratelimits.make()
    await ratelimits.configure(block, ratelimits.MANY)

    async def check(request):
        answer = block.check("", request.query_string, await request.read())
        fields = dict(line.split(": ", 1) for line in answer.headers.split("\\r\\n") if line)
        return web.Response(body=answer.body, headers=fields, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/ratelimit/check", check)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()

uvloop.run(main())
"""


def over(users: int, script: str) -> str:
    """Give a wrk script for so many users."""
    return script.replace("USERS", str(users))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_open(port: int) -> None:
    for _ in range(2_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise RuntimeError(f"nothing listens on port {port}")


class Running:
    """A baseline that runs: where it listens and whose processor time counts."""

    def __init__(self, url: str, pids: list[int], socket_path: str = "") -> None:
        self.url, self.pids, self.socket_path = url, pids, socket_path


@contextmanager
def nginx(folder: Path, rate: int) -> Iterator[Running]:
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port, rate=rate))
    with subprocess.Popen(["nginx", "-c", str(file), "-p", str(folder)], stderr=subprocess.DEVNULL) as process:
        try:
            until_open(port)
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Running(f"http://127.0.0.1:{port}/check", [int(pid) for pid in workers], f"{folder}/nginx.sock")
        finally:
            process.terminate()


@contextmanager
def plain_aiohttp() -> Iterator[Running]:
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PLAIN, str(port), str(SERVER_CPU)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            until_open(port)
            yield Running(f"http://127.0.0.1:{port}/v1/ratelimit/check", [process.pid])
        finally:
            process.terminate()


def prove_that_nginx_limits(folder: Path) -> str:
    """Ask ten times at five a second and a burst of five: some must be refused, by the configuration that is measured."""
    with nginx(folder, rate=5) as server:
        statuses = [status_of(f"{server.url}?user=proof") for _ in range(10)]
    if 200 not in statuses or 429 not in statuses:
        raise RuntimeError(f"nginx does not limit: {statuses}")
    return f"{statuses.count(200)} passed, {statuses.count(429)} refused"


def prove_that_ours_limits() -> str:
    """Ask ours for more than the limit has, in one request and then in the next."""

    async def ask() -> list[bool]:
        block = ratelimits.make()
        await ratelimits.configure(block, ratelimits.MANY)
        body = json.dumps({"policy": "bench", "attributes": {"user": "proof"}, "cost": 999_999}).encode()
        return [json.loads(block.check("", "", body).body)["allowed"] for _ in range(2)]

    allowed = asyncio.run(ask())
    if allowed != [True, False]:
        raise RuntimeError(f"ours does not limit: {allowed}")
    return "1 passed, 1 refused"


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class Client(asyncio.Protocol):
    """Sends the next request as soon as an answer is there; an answer comes in one piece here."""

    def __init__(self, requests: list[bytes], first: int) -> None:
        self.requests, self.turn, self.answers, self.refused = requests, first, 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.requests[self.turn])

    def data_received(self, data: bytes) -> None:
        self.answers += 1
        self.refused += not data.startswith(b"HTTP/1.1 200")
        self.turn = (self.turn + 1) % len(self.requests)
        self.transport.write(self.requests[self.turn])


def over_unix(path: str, requests: list[bytes], pids: list[int], seconds: float) -> Figures:
    """Drive a unix socket over 32 connections for a while."""

    async def drive() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        clients = []
        for number in range(32):
            _, client = await loop.create_unix_connection(lambda n=number: Client(requests, n * 31), path)
            clients.append(client)
        await asyncio.sleep(seconds)
        for client in clients:
            client.transport.abort()
        return sum(client.answers for client in clients), sum(client.refused for client in clients)

    before = sum(map(cpu_seconds, pids))
    answers, refused = uvloop.run(drive())
    used = sum(map(cpu_seconds, pids)) - before
    return Figures(answers / seconds, answers / used, refused)


def check_bytes(user: int) -> bytes:
    body = f'{{"policy":"bench","attributes":{{"user":"user-{user}","route":"/api/orders"}}}}'
    return f"POST /v1/ratelimit/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def argument_bytes(user: int) -> bytes:
    return f"GET /check?user=user-{user} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def in_process(seconds: float) -> tuple[float, float]:
    """Give decisions and whole answers per second, without a server."""
    block = ratelimits.make()
    asyncio.run(ratelimits.configure(block, ratelimits.MANY))
    attributes = [{"user": f"user-{user}", "route": "/api/orders"} for user in range(USERS)]
    bodies = [json.dumps({"policy": "bench", "attributes": one}).encode() for one in attributes]
    now = time.monotonic_ns

    def decide() -> None:
        check = block._checks.engine.check
        for one in attributes:
            check("bench", one, 1, now())

    def answer() -> None:
        for body in bodies:
            block.check("", "", body)

    rates = []
    for work in (decide, answer):
        began, count = time.process_time(), 0
        while time.process_time() - began < seconds:
            work()
            count += USERS
        rates.append(count / (time.process_time() - began))
    return rates[0], rates[1]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    print(
        f"machine: {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    os.sched_setaffinity(0, {CLIENT_CPU})
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        print(f"nginx limits: {prove_that_nginx_limits(folder)}; ours limits: {prove_that_ours_limits()}")
        socket_path = str(folder / "pillion.sock")
        build = "tests.support.ratelimits:build"
        lane = stack.enter_context(ServerProcess(build, {"socket_path": socket_path}, cpu=SERVER_CPU))
        off = stack.enter_context(ServerProcess(build, {"hot_lane": False}, cpu=SERVER_CPU))
        aiohttp = stack.enter_context(plain_aiohttp())
        proxy = stack.enter_context(nginx(folder, rate=1_000_000))
        check = "/v1/ratelimit/check"
        over_tcp = {
            "hot lane": (lane.url + check, [lane.pid], over(USERS, CHECKS)),
            "nginx limit_req": (proxy.url, proxy.pids, over(USERS, ARGUMENTS)),
            "plain aiohttp": (aiohttp.url, aiohttp.pids, over(USERS, CHECKS)),
            "ordinary lane": (off.url + check, [off.pid], over(USERS, CHECKS)),
            "hot lane, 50k": (lane.url + check, [lane.pid], over(MANY_USERS, CHECKS)),
            "nginx, 50k": (proxy.url, proxy.pids, over(MANY_USERS, ARGUMENTS)),
        }
        unix = {
            "hot lane, unix": (socket_path, [check_bytes(n) for n in range(USERS)], [lane.pid]),
            "nginx, unix": (proxy.socket_path, [argument_bytes(n) for n in range(USERS)], proxy.pids),
        }
        runs: dict[str, list[Figures]] = {label: [] for label in (*over_tcp, *unix)}
        for repeat in range(chosen.repeats + 1):
            for label, (url, pids, script) in over_tcp.items():
                figures = wrk(url, pids, seconds=chosen.seconds, script=script, cpu=CLIENT_CPU)
                runs[label] += [figures] if repeat else []
            for label, (path, requests, pids) in unix.items():
                figures = over_unix(path, requests, pids, chosen.seconds)
                runs[label] += [figures] if repeat else []
    medians = {}
    for name, all_figures in runs.items():
        if wrong := sum(figures.errors for figures in all_figures):
            raise RuntimeError(f"{name}: {wrong} answers were no success")
        medians[name] = statistics.median(figures.per_cpu_second for figures in all_figures)
        wall = statistics.median(figures.per_second for figures in all_figures)
        print(f"{name:<16} {medians[name]:>10,.0f} checks per CPU-second   {wall:>9,.0f} per second")
    for name, base, target in (
        ("hot lane", "nginx limit_req", 0.8),
        ("hot lane", "plain aiohttp", 5.0),
        ("hot lane", "ordinary lane", 5.0),
        ("hot lane, unix", "nginx, unix", 0.8),
        ("hot lane, 50k", "nginx, 50k", 0.8),
    ):
        print(f"{name} / {base}: {medians[name] / medians[base]:.2f} (target {target})")
    decisions, answers = in_process(1.0)
    print(f"in process: {decisions:,.0f} decisions, {answers:,.0f} whole answers per CPU-second")


if __name__ == "__main__":
    main()
