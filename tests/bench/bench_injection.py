"""What a pod's creation costs at the API server: without a sidecar, with one by our webhook, with one by our policy, in the same run.

A real API server, a real operator, and dry-run creates of one pod that differ in the label of their namespace alone; nothing is stored, so etcd is not in the figures. Creates of the
three alternate. Waiting times tell what a person or a controller feels; the CPU of API server and operator tells who pays, whatever else the machine does.

python tests/bench/bench_injection.py [--pods 200] [--rounds 5]
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.cluster import namespaces
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import open_cluster
from tests.support.operator.admission import configurations, confined, has_sidecar, injection_policy, installed, trusted
from tests.support.operator.running import OperatorProcess, account_access, eventually, install

ASKS = {"pillion.dev/inject": "true"}
BY = "bench.pillion.dev/by"


def _pod(variables):
    """A pod as a Deployment makes them; the size of its environment is what most pods differ in."""
    environment = [{"name": f"SETTING_{number}", "value": "some value of a setting"} for number in range(variables)]
    container = {
        "name": "app",
        "image": "registry.example/shop:1",
        "env": environment,
        "ports": [{"containerPort": 80}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "shop-5d9f7c4b8-", "labels": {"app": "shop"}},
        "spec": {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]},
    }


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _created(api, namespace, pod):
    return await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")


async def _round(api, namespace, pod, pods, processes):
    """Milliseconds of each create, and milliseconds of CPU that one create costs each process."""
    before = [_cpu_seconds(process.pid) for process in processes]
    waits = []
    for _ in range(pods):
        began = time.perf_counter()
        await _created(api, namespace, pod)
        waits.append((time.perf_counter() - began) * 1000)
    spent = [(_cpu_seconds(process.pid) - at) / pods * 1000 for process, at in zip(processes, before, strict=True)]
    return statistics.median(waits), sorted(waits)[int(len(waits) * 0.99)], *spent


async def _measure(cluster, operator, args):
    async with Api(cluster.access) as api:
        where = {}
        for who in ("nobody", "webhook", "policy"):
            where[who] = namespaces.name_for(f"bench-{who}")
            await namespaces.create(api, where[who], {BY: who, **ASKS})
        await eventually(lambda: trusted(cluster))
        for who, namespace in where.items():
            async with asyncio.timeout(20):
                while has_sidecar(await _created(api, namespace, _pod(0))) is (who == "nobody"):  # noqa: ASYNC110 - another process has no event
                    await asyncio.sleep(0.05)
        processes = (cluster.control_plane.apiserver, operator.process)
        for variables in (5, 50):
            pod, found = _pod(variables), {who: [] for who in where}
            for _ in range(args.rounds):
                for who, namespace in where.items():
                    found[who].append(await _round(api, namespace, pod, args.pods, processes))
            print(f"a pod with {variables} variables:")
            for who, rounds in found.items():
                p50, p99, server, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(
                    f"  {'sidecar by ' + who:<20} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   CPU: API server {server:5.2f} ms, operator {ours:5.2f} ms"
                )


def _main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=200, help="creates of each kind and round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name, open_cluster(print) as cluster:
        if cluster.control_plane is None:
            raise SystemExit("the CPU of a foreign API server cannot be read; unset PILLION_TEST_KUBECONFIG")
        folder = Path(name)
        install(cluster, folder)
        operator = OperatorProcess(asyncio.run(account_access(cluster)), folder, own_authority=True)
        webhooks = [confined(document, BY, "webhook") for document in configurations(operator.webhooks)]
        with installed(cluster, webhooks + [confined(document, BY, "policy") for document in injection_policy()]):
            operator.start()
            try:
                asyncio.run(_measure(cluster, operator, args))
            finally:
                operator.stop()


if __name__ == "__main__":
    _main()
