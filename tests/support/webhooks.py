"""The webhooks block in tests: configured from manifests as an operator would, served by the real server."""

import asyncio
import base64
import contextlib
from pathlib import Path

from prometheus_client import CollectorRegistry
from tests.support.receivers import SECRET
from tests.support.serving import running

from pillion.kinds.resource import check_document
from pillion.runtime.block import BlockConfiguration, Context, Identity, Secrets
from pillion.runtime.clock import SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks
from pillion.webhooks.kind import BLOCK
from pillion.webhooks.service import WebhooksBlock

KINDS = {kind.kind: kind for kind in BLOCK.kinds}
LOOPBACK = {"allow": [{"cidr": "127.0.0.0/8"}]}
SECRETS = {"hook": {"key": SECRET.encode()}}


def other_secret(seed: int) -> str:
    return "whsec_" + base64.b64encode(bytes([seed] * 32)).decode()


def manifest(name: str, url: str, **spec) -> dict:
    """Give a WebhookEndpoint that may reach this machine."""
    return {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "WebhookEndpoint",
        "metadata": {"name": name},
        "spec": {"url": url, "signing": {"secretRef": {"name": "hook", "key": "key"}}, "egress": LOOPBACK} | spec,
    }


def compiled(*manifests: dict) -> dict:
    """Check and compile, as the operator does."""
    found = {}
    for document in manifests:
        checked = check_document(document, KINDS)
        assert checked.resource is not None, [v.message for v in checked.violations]
        kind = KINDS[checked.resource.kind]
        found[checked.resource.name] = kind.compile(checked.resource.name, checked.resource.spec)
    return {"WebhookEndpoint": found}


class Surroundings:
    """A block with what the runtime lends it."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.options = options
        self.unready: dict[str, str] = {}
        self._make()

    def _make(self) -> None:
        self.conditions = Conditions()
        self.tasks = Tasks("webhooks", self.conditions)
        self.metrics = CollectorRegistry()
        context = Context(
            block="webhooks",
            data_dir=self.folder,
            clock=SystemClock(),
            identity=Identity(),
            metrics=self.metrics,
            conditions=self.conditions,
            tasks=self.tasks,
        )
        self.block = WebhooksBlock(context, **self.options)

    async def apply(self, *manifests: dict, secrets: dict | None = None) -> None:
        configuration = BlockConfiguration(
            namespace="default",
            settings=None,
            resources=compiled(*manifests),
            secrets=Secrets(SECRETS if secrets is None else secrets),
            profile="",
        )
        prepared = await self.block.prepare(configuration)
        prepared.commit()
        self.unready = {one.name: one.reason for one in prepared.unready}

    async def close(self, *, grace: bool = True) -> None:
        if grace:
            await self.block.drain()
        await self.block.stop()
        await self.tasks.stop()

    async def restart(self, *manifests: dict) -> None:
        await self.close(grace=False)
        self._make()
        await self.apply(*manifests)
        await self.block.start()

    def status(self, name: str):
        destinations = self.block.statistics()["delivery"].destinations
        return next(d for d in destinations if d.name == name)

    async def until(self, done) -> None:
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 - what it looks at has no event
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def webhooks(folder: Path, *manifests: dict, secrets: dict | None = None, hot_lane: bool = True, **options):
    """A started block behind a server: gives (surroundings, url)."""
    made = Surroundings(folder, **options)
    await made.apply(*manifests, secrets=secrets)
    await made.block.start()
    try:
        async with running(
            made.block.operations(), clock=SystemClock(), conditions=made.conditions, hot_lane=hot_lane
        ) as server:
            made.server = server
            yield made, server.url
    finally:
        await made.close(grace=False)
