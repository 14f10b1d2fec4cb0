"""From `kubectl apply` to *enforced in the sidecar*, and to the status that says so, with 1, 100 and 1,000 sidecars; then how they return to an operator that crashed.

Real API server and etcd, the operator as a process of its own with TLS and its real rights, sidecars with their real stream client whose blocks are a recorder. The baseline
of the same run is a bare watch: what the API server itself needs to tell one client of a change. Sidecars share this process, so a thousand of them wait for one core, and what is printed for
many is an upper bound.

python tests/bench/bench_propagation.py [--edits 40] [--sidecars 1 100 1000]
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import structlog
from tests.support.cluster import namespaces
from tests.support.cluster.api import Api
from tests.support.cluster.cluster import open_cluster
from tests.support.cluster.identities import pod_identity
from tests.support.operator.running import (
    OperatorProcess,
    StandIn,
    account_access,
    eventually,
    install,
    is_now,
    policy,
    requests_of,
)


def _percentiles(milliseconds):
    ordered = sorted(milliseconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _print(what, milliseconds, baseline=None):
    p50, p99 = _percentiles(milliseconds)
    ratio = f"  {p50 / baseline:5.1f} x the bare watch" if baseline else ""
    print(f"{what:<48} p50 {p50:7.1f} ms   p99 {p99:7.1f} ms{ratio}", flush=True)
    return p50


async def _bare_watch(api, limits, edits):
    """The least that any design needs: the write, and the API server's own notice of it."""
    taken = []
    await api.apply(f"{limits}/bare", policy("bare", 1))
    async with aclosing(api.watch(limits, fieldSelector="metadata.name=bare")) as events:
        await anext(events)
        for number in range(2, edits + 2):
            began = time.perf_counter()
            writing = asyncio.create_task(api.apply(f"{limits}/bare", policy("bare", number)))
            async for event in events:
                if event["object"]["spec"]["rules"][0]["limits"][0]["requests"] == number:
                    break
            taken.append((time.perf_counter() - began) * 1000)
            await writing
    await api.delete(f"{limits}/bare")
    return taken


async def _edits(api, limits, sidecars, count):
    each, enforced, told = [], [], []
    for number in range(1, count + 1):
        began = time.perf_counter()
        ends = [asyncio.create_task(_when(s, number)) for s in sidecars]
        status = asyncio.create_task(_status(api, limits, number, len(sidecars)))
        await api.apply(f"{limits}/shop", policy("shop", number))
        arrivals = [(end - began) * 1000 for end in await asyncio.gather(*ends)]
        told.append((await status - began) * 1000)
        if number > 1:  # the first one warms up
            each += arrivals
            enforced.append(max(arrivals))
    return each, enforced, told[1:]


async def _when(sidecar, number):
    await sidecar.until(lambda document: requests_of(document, "shop") == number, within=60)
    return time.perf_counter()


async def _status(api, limits, number, total):
    def says(resource):
        limit = resource["spec"]["rules"][0]["limits"][0]["requests"]
        sidecars = resource["status"].get("sidecars", {})
        return limit == number and is_now("Propagated", "True")(resource) and sidecars.get("applied") == total

    await api.until(limits, "shop", says, within=60)
    return time.perf_counter()


async def _return(operator, sidecars):
    """A crash of the only operator: how long until every sidecar is back, and how evenly they come."""
    count = len(sidecars)
    operator.kill()
    await asyncio.to_thread(operator.start)
    began, arrived = time.perf_counter(), []
    while not arrived or arrived[-1][1] < count:
        streams = await asyncio.to_thread(operator.metric, "pillion_operator_streams")
        arrived.append((time.perf_counter() - began, streams))
        if time.perf_counter() - began > 120:
            raise SystemExit(f"only {streams:.0f} of {count} sidecars came back")
        await asyncio.sleep(0.25)
    seconds = arrived[-1][0]
    busiest = max(
        next((later for at, later in arrived if at >= start + 1), count) - before for start, before in arrived
    )
    reviews = operator.metric("pillion_operator_api_requests_total", resource="tokenreviews")
    print(
        f"kill -9 and restart: all {count} sidecars back {seconds:.1f} s after it was ready, at most {busiest:.0f} of them in one second, "
        f"{reviews:.0f} token reviews",
        flush=True,
    )


async def measure(cluster, folder, options):
    """Run everything against *cluster*."""
    await asyncio.to_thread(install, cluster, folder)
    flags = ("--lease-duration=3", "--lease-renew-deadline=2", "--lease-retry-period=0.5")
    operator = OperatorProcess(await account_access(cluster), folder, *flags)
    await asyncio.to_thread(operator.start)
    try:
        async with Api(cluster.access) as api, AsyncExitStack() as stack:
            namespace = namespaces.name_for("bench")
            await namespaces.create(api, namespace)
            limits = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/ratelimitpolicies"
            baseline = _print("bare watch (baseline)", await _bare_watch(api, limits, options.edits))
            sidecars = []
            for count in options.sidecars:
                while len(sidecars) < count:
                    pod = await pod_identity(api, namespace, f"pod-{len(sidecars)}")
                    sidecars.append(await stack.enter_async_context(StandIn(operator, pod, folder, quick=False)))
                await eventually(lambda n=count: operator.metric("pillion_operator_streams") == n, within=300)
                each, enforced, told = await _edits(api, limits, sidecars, options.edits)
                _print(f"apply -> enforced in each of {count} sidecars", each, baseline)
                if count > 1:
                    _print(f"apply -> enforced in the last of {count}", enforced, baseline)
                _print(f"apply -> acknowledged, status {count}/{count}", told, baseline)
            if sidecars:
                await _return(operator, sidecars)
    finally:
        operator.stop()


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=40)
    parser.add_argument("--sidecars", type=int, nargs="*", default=[1, 100, 1000])
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder, open_cluster(print) as cluster:
        asyncio.run(measure(cluster, Path(folder), options))


if __name__ == "__main__":
    main()
