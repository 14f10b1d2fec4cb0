"""A check that stops running is never shown with its last good result."""

import random

from prometheus_client import CollectorRegistry

from pillion.health.engine import CheckPlan, DiskTarget
from pillion.health.service import HealthBlock
from pillion.runtime.block import BlockConfiguration, Context, Identity, Secrets
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks


class FixedClock:
    def __init__(self):
        self.now = 1_000_000_000_000

    def wall_ns(self):
        return self.now

    def monotonic_ns(self):
        return self.now


async def test_a_result_that_grows_old_turns_to_warn_without_anything_happening(tmp_path):
    clock, conditions = FixedClock(), Conditions()
    context = Context(
        block="health",
        data_dir=tmp_path,
        clock=clock,
        identity=Identity(),
        metrics=CollectorRegistry(),
        conditions=conditions,
        tasks=Tasks("health", conditions),
    )
    block = HealthBlock(context, random.Random(1))
    plan = CheckPlan(
        name="disk",
        critical=True,
        interval=10_000_000_000,
        timeout=1_000_000_000,
        failures=1,
        successes=1,
        target=DiskTarget("/", 1),
    )
    settings = {
        "checks": [
            {
                **{f: getattr(plan, f) for f in plan.__struct_fields__},
                "target": {"type": "disk", "path": "/", "min_free": 1},
            }
        ]
    }
    configuration = BlockConfiguration(namespace="n", settings=settings, resources={}, secrets=Secrets({}))
    (await block.prepare(configuration)).commit()
    runner = block._runners["disk"]
    await block._watch._fly(runner)

    def status():
        return block.statistics().checks[0].status

    assert status() == "pass"
    clock.now += 20_999_999_999
    assert status() == "pass"
    clock.now += 1
    assert status() == "warn"
    assert block._answer("health", "plain").body == b"warn\ndisk: warn: no result for over 21 s\n"
    assert block._answer("health", "plain") is block._answer("health", "plain")
    await block._watch._fly(runner)
    assert status() == "pass"
