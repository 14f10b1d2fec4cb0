"""How long nobody writes statuses when the leading replica ends: in order (SIGTERM), and by a crash (kill -9).

Real API server and etcd, two replicas with the default times of the Lease. The clock starts at the signal and stops when a resource that was created at that moment is Ready,
which only the other replica can say. The duration of the Lease bounds a crash from below: nobody may write before it has expired.

python tests/bench/bench_handover.py [--rounds 3]
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
from tests.support.operator.running import OperatorProcess, account_access, eventually, install, is_now, policy

from pillion_operator.settings import Settings


async def _one(api, limits, leader, how, name):
    began = time.perf_counter()
    ending = asyncio.create_task(asyncio.to_thread(how))
    await api.create(limits, policy(name, 5))
    await api.until(limits, name, is_now("Ready", "True"), within=60)
    seconds = time.perf_counter() - began
    await ending
    await asyncio.to_thread(leader.start)
    return seconds


async def measure(cluster, folder, rounds):
    """Run everything against *cluster*."""
    await asyncio.to_thread(install, cluster, folder)
    access = await account_access(cluster)
    replicas = [OperatorProcess(access, folder / name, name=name) for name in ("one", "two")]
    taken = {"SIGTERM": [], "kill -9": []}
    try:
        async with Api(cluster.access) as api:
            namespace = namespaces.name_for("handover")
            await namespaces.create(api, namespace)
            limits = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"
            for replica in replicas:
                await asyncio.to_thread(replica.start)
            for number in range(rounds):
                for what, waits in taken.items():
                    await eventually(lambda: any(replica.leads() for replica in replicas), within=60)
                    await asyncio.sleep(3)  # both have seen the Lease
                    leader = next(replica for replica in replicas if replica.leads())
                    how = leader.stop if what == "SIGTERM" else leader.kill
                    name = f"{what.lower().replace(' ', '')}-{number}"
                    waits.append(await _one(api, limits, leader, how, name))
    finally:
        for replica in replicas:
            replica.stop()
    settings = Settings(namespace="any")
    for what, waits in taken.items():
        floor = f" (the Lease lasts {settings.lease_duration:g} s)" if what == "kill -9" else ""
        print(
            f"{what:<8} created at that moment -> Ready by the other replica: median {statistics.median(waits):5.2f} s, longest {max(waits):5.2f} s of {rounds}{floor}"
        )


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder, open_cluster(print) as cluster:
        asyncio.run(measure(cluster, Path(folder), options.rounds))


if __name__ == "__main__":
    main()
