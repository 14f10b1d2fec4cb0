"""How fast many new resources become Ready, what that costs each process, and that a restart over all of them writes nothing.

Real API server and etcd, the operator as a process of its own with its real rights, creators in another process. The baseline of the same run is a bare loop: one watch
and sixteen tasks that apply a fixed status to whatever appears, and check, compile, judge or remember nothing; it is what the API server gives to any Python program.

python tests/bench/bench_reconcile.py [--resources 10000] [--writers 16] [--rounds 1]
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
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiohttp
from tests.support.cluster import namespaces
from tests.support.cluster.api import APPLY, Api, ApiError
from tests.support.cluster.cluster import open_cluster
from tests.support.cluster.identities import request_token
from tests.support.cluster.kubeconfig import Access, read
from tests.support.operator.running import OperatorProcess, account_access, eventually, install, is_now, policy

FLAGS = ("--lease-duration=3", "--lease-renew-deadline=2", "--lease-retry-period=0.5", "--settle-time=1")
ALL = "/apis/pillion.dev/v1alpha1/ratelimitpolicies"


def _collection(namespace):
    return f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"


# Processes of their own, so that each part has its own CPU account.


async def _create(access, namespace, count, writers):
    """Create *count* resources over *writers* kept-alive connections; bodies are ready beforehand."""
    collection = _collection(namespace)
    bodies = [json.dumps(policy(f"storm-{number:05}", 5)).encode() for number in range(count)]
    host, _, port = access.server.removeprefix("https://").partition(":")
    extra = "".join(f"{name}: {value}\r\n" for name, value in access.headers().items())

    async def writer(first):
        reader, stream = await asyncio.open_connection(host, int(port), ssl=access.ssl_context())
        for body in bodies[first::writers]:
            head = f"POST {collection} HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            stream.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 201 " not in answer.partition(b"\r\n")[0]:
                raise SystemExit(f"not created: {answer!r}")
            length = next(
                int(line.split(b":")[1]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
        stream.close()

    await asyncio.gather(*(writer(first) for first in range(writers)))


async def _bare_loop(access, namespace, count):
    """A watch and sixteen appliers."""
    collection, todo = _collection(namespace), asyncio.Queue()
    status = {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "Fine",
                "message": "said by a loop that looked at nothing",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Accepted", "Propagated", "Ready")
        ],
    }
    connector = aiohttp.TCPConnector(ssl=access.ssl_context())
    endless = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        access.server, connector=connector, headers=access.headers(), timeout=endless
    ) as session:

        async def apply():
            while True:
                name = await todo.get()
                body = {
                    "apiVersion": "pillion.dev/v1alpha1",
                    "kind": "RateLimitPolicy",
                    "metadata": {"name": name, "namespace": namespace},
                    "status": status,
                }
                async with session.patch(
                    f"{collection}/{name}/status?fieldManager=bare&force=true",
                    data=json.dumps(body),
                    headers={"Content-Type": APPLY},
                ) as answer:
                    await answer.read()
                    if answer.status >= 400:
                        raise SystemExit(await answer.text())

        appliers = [asyncio.create_task(apply()) for _ in range(16)]
        ready = 0
        async with session.get(collection, params={"watch": "true"}, read_bufsize=2**22) as events:
            print("watching", flush=True)
            async for line in events.content:
                event = json.loads(line)
                if event["type"] == "ADDED":
                    todo.put_nowait(event["object"]["metadata"]["name"])
                elif (event["object"].get("status") or {}).get("conditions"):
                    ready += 1
                    if ready == count:
                        break
        for applier in appliers:
            applier.cancel()


def _cpu(pid):
    """CPU-seconds of a process so far; unlike waiting times it does not depend on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spawn(role, kubeconfig, namespace, options):
    command = [sys.executable, __file__, "--role", role, "--kubeconfig", kubeconfig, "--namespace", namespace]
    command += ["--resources", str(options.resources), "--writers", str(options.writers)]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)


async def _by_token(cluster):
    """An administrator with a token, as programs in a cluster have; client certificates are verified anew with every request, which takes a tenth of the API server's time."""
    about = {"name": "pillion-bench"}
    rights = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "namespace": "default", **about}
    group = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    async with Api(cluster.access) as api:
        await api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": about})
        await api.create(group, {"metadata": about, "roleRef": rights, "subjects": [subject]})
        token = await request_token(api, "default", about["name"], audience="https://kubernetes.default.svc")
    return Access(cluster.access.server, cluster.access.authority, token=token)


async def _serving(api):
    """Wait for the API server's cache of a kind that is new to it."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with aclosing(api.watch(ALL, timeoutSeconds="1")) as events:
                    async for _ in events:
                        break
            except ApiError as error:
                if error.status != 429:
                    raise
                await asyncio.sleep(0.5)
            else:
                return


async def _finish(process):
    await asyncio.to_thread(process.wait)
    if process.returncode:
        raise SystemExit(f"a part of the benchmark failed with {process.returncode}")


async def _round_bare(api, kubeconfig, options):
    namespace = namespaces.name_for("bare")
    await namespaces.create(api, namespace)
    loop = _spawn("bare", kubeconfig, namespace, options)
    await asyncio.to_thread(loop.stdout.readline)
    began = time.perf_counter()
    creator = _spawn("create", kubeconfig, namespace, options)
    await _finish(creator)
    created = time.perf_counter() - began
    await _finish(loop)
    seconds = time.perf_counter() - began
    await api.delete(_collection(namespace))
    return options.resources / created, options.resources / seconds


async def _round_operator(api, operator, kubeconfig, parts, options):
    namespace = namespaces.name_for("storm")
    await namespaces.create(api, namespace)
    written = operator.metric("pillion_operator_status_writes_total")
    parts = {**parts, "operator": operator.process.pid}
    used = {name: _cpu(pid) for name, pid in parts.items()}
    began = time.perf_counter()
    creator = _spawn("create", kubeconfig, namespace, options)
    await _finish(creator)
    created = time.perf_counter() - began
    await eventually(
        lambda: operator.metric("pillion_operator_status_writes_total") - written >= options.resources,
        within=1200,
        pause=0.1,
    )
    seconds = time.perf_counter() - began
    cpu = {name: (_cpu(pid) - used[name]) / options.resources * 1e3 for name, pid in parts.items()}
    found = await api.get(_collection(namespace), limit="500")
    unready = [one["metadata"]["name"] for one in found["items"] if not is_now("Ready", "True")(one)]
    if unready:
        raise SystemExit(f"not Ready: {unready[:5]}")
    writes = operator.metric("pillion_operator_status_writes_total") - written
    return namespace, options.resources / created, options.resources / seconds, cpu, writes


async def _restart(operator, options):
    operator.kill()
    began = time.perf_counter()
    await asyncio.to_thread(operator.start)
    ready = time.perf_counter() - began
    await eventually(operator.leads, within=60)
    await asyncio.sleep(2)
    await eventually(lambda: operator.metric("pillion_operator_queue_depth") == 0, within=600)
    print(
        f"restart over {options.resources} unchanged resources: ready after {ready:.1f} s, "
        f"{operator.metric('pillion_operator_status_writes_total'):.0f} writes, "
        f"{operator.process.resident_bytes() / 1e6:.0f} MB resident"
    )


async def measure(cluster, folder, options):
    """Run everything against *cluster*."""
    await asyncio.to_thread(install, cluster, folder)
    kubeconfig = (await _by_token(cluster)).write(folder / "creator.kubeconfig")
    operator = OperatorProcess(await account_access(cluster), folder, *FLAGS)
    operator.process.command = (str(options.python), *operator.process.command[1:])
    parts = {}
    if cluster.control_plane:
        parts = {"API server": cluster.control_plane.apiserver.pid, "etcd": cluster.control_plane.etcd.pid}
    async with Api(cluster.access, timeout=120) as api:
        rates = []
        await _serving(api)
        for _ in range(options.rounds):
            create, bare = await _round_bare(api, kubeconfig, options)
            print(f"bare loop (baseline): created at {create:.0f}/s, all statuses at {bare:.0f}/s", flush=True)
            await asyncio.to_thread(operator.start)
            await eventually(operator.leads, within=60)
            idle = operator.process.resident_bytes() / 1e6
            namespace, create, rate, cpu, writes = await _round_operator(api, operator, kubeconfig, parts, options)
            rates.append((rate, rate / bare))
            told = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in cpu.items())
            print(
                f"Pillion: created at {create:.0f}/s, create -> Ready of all at {rate:.0f}/s ({rate / bare:.2f} of the bare loop), {writes:.0f} writes, "
                f"{idle:.0f} MB resident before, {operator.process.resident_bytes() / 1e6:.0f} MB after; CPU a resource in ms: {told}",
                flush=True,
            )
            await _restart(operator, options)
            operator.stop()
            await api.delete(_collection(namespace))
        if options.rounds > 1:
            rate, ratio = (statistics.median(column) for column in zip(*rates, strict=True))
            print(f"median of {options.rounds} rounds: {rate:.0f}/s, {ratio:.2f} of the bare loop")


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resources", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="the operator's interpreter, as of an environment that holds only what the product needs; the tests' own makes it 4 MB larger",
    )
    parser.add_argument("--role", choices=["create", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--namespace", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        with tempfile.TemporaryDirectory() as scratch:
            access = read(options.kubeconfig, Path(scratch))
            if options.role == "create":
                asyncio.run(_create(access, options.namespace, options.resources, options.writers))
            else:
                asyncio.run(_bare_loop(access, options.namespace, options.resources))
        return
    # A cluster of ten thousand resources has an API server with a large heap that is collected seldom; this one is new and would collect all the time.
    os.environ.setdefault("GOGC", "400")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder, open_cluster(print) as cluster:
        asyncio.run(measure(cluster, Path(folder), options))


if __name__ == "__main__":
    main()
