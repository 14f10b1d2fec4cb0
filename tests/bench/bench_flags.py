"""Flag evaluation: compiled rules beside flagd's own Python evaluator, and OFREP through the hot lane beside plain aiohttp.

    python tests/bench/bench_flags.py [--seconds 3] [--repeats 5]

The first part evaluates the same flags (static; two conditions; a split by targetingKey; nested conditions with sem_ver) for the same contexts in
this process: ours with the outcome, the other with its resolution details. Both bucket by v3 for the comparison; ours by v2, the default, stands
beside it. The second part asks a server of its own, pinned to one core, for single flags over 1,000 subjects, and for all hundred flags at once;
plain aiohttp answers with flagd's evaluator and the standard library's JSON, which is what one would write by hand. Runs are interleaved, medians
count.
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
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from tests.support import flags
from tests.support.serving import ServerProcess
from tests.support.wrk import Figures, wrk

from pillion.flags.engine import Definition, Flag

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = 1_000
SERVER_CPU, CLIENT_CPU = 0, 1
NOW = 1_800_000_000

VARIANTS = {"on": True, "off": False}
CASES = {
    "static": None,
    "targeting": {
        "if": [
            {"in": [{"var": "email"}, ["user-1@example.com", "user-2@example.com"]]}, "on",
            {"==": [{"var": "plan"}, "pro"]}, "on",
            None,
        ]
    },
    "fractional": {"fractional": [["on", 10], ["off", 90]]},
    "nested": {
        "if": [
            {"and": [{"ends_with": [{"var": "email"}, "@example.com"]}, {"sem_ver": [{"var": "version"}, ">=", "2.1.0"]}]},
            {"fractional": [["on", 50], ["off", 50]]},
            None,
        ]
    },
}  # fmt: skip

EVALUATE = """
local requests, turn = {}, 0
init = function()
  wrk.headers["Content-Type"] = "application/json"
  for user = 1, %d do
    requests[user] = wrk.format("POST", "/ofrep/v1/evaluate/flags%s", nil,
      '{"context":{"targetingKey":"user-' .. user .. '","email":"user-' .. user .. '@example.com","plan":"free","version":"2.3.1"}}')
  end
end
request = function()
  turn = turn %% %d + 1
  return requests[turn]
end
"""

PLAIN = """
import asyncio, json, os, sys
from aiohttp import web
import uvloop
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from tests.support import flags

async def main():
    os.sched_setaffinity(0, {int(sys.argv[2])})
    core = FlagdCore()
    core.set_flags({"flags": {name: {"state": "ENABLED", **spec} for name, spec in
                              (("static", flags.STATIC), ("rule", flags.RULE), ("split", flags.SPLIT))}})

    async def evaluate(request):
        key = request.match_info["key"]
        context = (await request.json()).get("context", {})
        subject = context.pop("targetingKey", None)
        details = core.resolve_boolean_value(key, False, EvaluationContext(subject, context))
        return web.json_response({"key": key, "reason": details.reason, "variant": details.variant, "value": details.value,
                                  "metadata": dict(details.flag_metadata)})

    app = web.Application()
    app.router.add_post("/ofrep/v1/evaluate/flags/{key}", evaluate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()

uvloop.run(main())
"""


def contexts() -> list[dict[str, str]]:
    """Give the attributes of every subject."""
    return [
        {"targetingKey": f"user-{n}", "email": f"user-{n}@example.com", "plan": "free", "version": "2.3.1"}
        for n in range(SUBJECTS)
    ]


def nanoseconds(work: Callable[[], None]) -> float:
    """Give the processor time of one evaluation; *work* does one per subject."""
    rounds, began = 0, time.process_time_ns()
    while (used := time.process_time_ns() - began) < 200_000_000:
        work()
        rounds += 1
    return used / (rounds * SUBJECTS)


def in_process(repeats: int) -> None:
    """Compare evaluations without a server."""
    plain = contexts()
    wrapped = [EvaluationContext(c["targetingKey"], {k: v for k, v in c.items() if k != "targetingKey"}) for c in plain]
    core = FlagdCore()
    core.set_flags(
        {
            "flags": {
                name: {"state": "ENABLED", "variants": VARIANTS, "defaultVariant": "off"}
                | ({"targeting": rule} if rule else {})
                for name, rule in CASES.items()
            }
        }
    )
    print(f"{'evaluation':<12} {'ours v2':>10} {'ours v3':>10} {'flagd core':>12} {'ratio (v3)':>11}")
    for name, rule in CASES.items():
        definition = Definition(key=name, variants=VARIANTS, default_variant="off", targeting=rule)
        ours = {generation: Flag(definition, generation) for generation in ("v2", "v3")}
        for mine, theirs in zip(plain[:100], wrapped[:100], strict=True):
            agreed = core.resolve_boolean_value(name, False, theirs).variant == ours["v3"].evaluate(mine, NOW).variant
            assert agreed, (name, mine)

        def run_ours(flag: Flag) -> Callable[[], None]:
            def work() -> None:
                evaluate = flag.evaluate
                for context in plain:
                    evaluate(context, NOW)

            return work

        def run_core(key: str = name) -> None:
            resolve = core.resolve_boolean_value
            for context in wrapped:
                resolve(key, False, context)

        runs: dict[str, list[float]] = {"v2": [], "v3": [], "core": []}
        for _ in range(repeats):
            runs["v2"].append(nanoseconds(run_ours(ours["v2"])))
            runs["v3"].append(nanoseconds(run_ours(ours["v3"])))
            runs["core"].append(nanoseconds(run_core))
        v2, v3, other = (statistics.median(runs[column]) / 1000 for column in ("v2", "v3", "core"))
        print(f"{name:<12} {v2:>7.2f} µs {v3:>7.2f} µs {other:>9.2f} µs {other / v3:>10.1f}x")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def plain_aiohttp() -> Iterator[tuple[str, int]]:
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PLAIN, str(port), str(SERVER_CPU)], env=environment) as process:
        try:
            for _ in range(2_000):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.005)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def over_http(seconds: int, repeats: int) -> None:
    """Compare servers."""
    with ExitStack() as stack:
        build = "tests.support.flags:build"
        lane = stack.enter_context(ServerProcess(build, cpu=SERVER_CPU))
        off = stack.enter_context(ServerProcess(build, {"hot_lane": False}, cpu=SERVER_CPU))
        plain_url, plain_pid = stack.enter_context(plain_aiohttp())
        asked = {}
        for key in ("static", "rule", "split"):
            script = EVALUATE % (SUBJECTS, f"/{key}", SUBJECTS)
            asked[f"{key}, hot lane"] = (lane.url, lane.pid, script)
            asked[f"{key}, ordinary lane"] = (off.url, off.pid, script)
            asked[f"{key}, plain aiohttp"] = (plain_url, plain_pid, script)
        asked["bulk of 100 flags"] = (lane.url, lane.pid, EVALUATE % (SUBJECTS, "", SUBJECTS))
        runs: dict[str, list[Figures]] = {name: [] for name in asked}
        for repeat in range(repeats + 1):
            for name, (url, pid, script) in asked.items():
                figures = wrk(url, [pid], seconds=seconds, script=script, cpu=CLIENT_CPU)
                runs[name] += [figures] if repeat else []
    medians = {}
    for name, all_figures in runs.items():
        if wrong := sum(figures.errors for figures in all_figures):
            raise RuntimeError(f"{name}: {wrong} answers were no success")
        medians[name] = statistics.median(figures.per_cpu_second for figures in all_figures)
        wall = statistics.median(figures.per_second for figures in all_figures)
        print(f"{name:<24} {medians[name]:>10,.0f} requests per CPU-second   {wall:>9,.0f} per second")
    for key in ("static", "rule", "split"):
        for other in ("ordinary lane", "plain aiohttp"):
            ratio = medians[f"{key}, hot lane"] / medians[f"{key}, {other}"]
            print(f"{key}: hot lane / {other}: {ratio:.2f}")
    print(
        f"targets: hot lane {medians['rule, hot lane'] / 30_000:.1f} of 30,000, bulk {medians['bulk of 100 flags'] / 5_000:.1f} of 5,000"
    )


def answers_in_process(seconds: float) -> None:
    """Tell what an answer costs before it meets the wire."""
    block = flags.make()
    asyncio.run(flags.configure(block, {"rule": flags.RULE, "split": flags.SPLIT}))
    bodies = [json.dumps({"context": context}).encode() for context in contexts()]
    for key in ("rule", "split"):
        count, began = 0, time.process_time()
        while time.process_time() - began < seconds:
            for body in bodies:
                block.evaluate(key, "", body)
            count += SUBJECTS
        print(f"in process: {count / (time.process_time() - began):,.0f} whole answers of {key} per CPU-second")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    load = os.getloadavg()[0]
    print(f"machine: {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}")
    os.sched_setaffinity(0, {CLIENT_CPU})
    in_process(chosen.repeats)
    answers_in_process(1.0)
    over_http(chosen.seconds, chosen.repeats)


if __name__ == "__main__":
    main()
