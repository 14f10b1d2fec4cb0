"""A health block behind the real server, with real dependencies."""

import asyncio
import socket
import subprocess
from contextlib import asynccontextmanager

import yaml
from prometheus_client import CollectorRegistry

from pillion.health.kind import BLOCK
from pillion.health.service import create
from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import check_document
from pillion.runtime.block import BlockConfiguration, Context, Identity, Secrets
from pillion.runtime.clock import SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.server import Server, ServerSettings
from pillion.runtime.tasks import Tasks

PROFILE = profile_kind([BLOCK])


def configuration(section, secrets=None):
    """Compile the health section of a profile, as the operator would."""
    document = {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "SidecarProfile",
        "metadata": {"name": "shop"},
        "spec": {"health": yaml.safe_load(section)},
    }
    found = check_document(document, {"SidecarProfile": PROFILE})
    assert found.resource is not None, [v.message for v in found.violations]
    settings = PROFILE.compile("shop", found.resource.spec)["settings"]["health"]
    return BlockConfiguration(
        namespace="default", settings=settings, resources={}, secrets=Secrets(secrets or {}), profile="shop"
    )


async def until(holds, what="it"):
    """Wait until *holds* gives something true, and give that."""
    async with asyncio.timeout(30):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


class Sidecar:
    """One health block and its server."""

    def __init__(self, data_dir, clock=None):
        self.conditions = Conditions()
        self.metrics = CollectorRegistry()
        self.clock = clock or SystemClock()
        tasks = Tasks("health", self.conditions)
        self.block = create(
            Context(
                block="health",
                data_dir=data_dir,
                clock=self.clock,
                identity=Identity(pod="shop-1"),
                metrics=self.metrics,
                conditions=self.conditions,
                tasks=tasks,
            )
        )
        settings = ServerSettings(port=0, admin_host="127.0.0.1", admin_port=0)
        self.server = Server(settings, self.block.operations(), [], self.conditions, self.metrics, self.clock)

    async def apply(self, section, secrets=None):
        prepared = await self.block.prepare(configuration(section, secrets))
        prepared.commit()
        return prepared

    async def get(self, path, *, accept="", admin=False):
        base = self.server.admin_url if admin else self.server.url
        headers = {"Accept": accept} if accept else {}
        async with self.client.get(base + path, headers=headers) as response:
            body = await response.text()
            return response.status, response.content_type, body

    async def text(self, path):
        return (await self.get(path, accept="text/plain"))[2]

    def check(self, name):
        return next(check for check in self.block.statistics().checks if check.name == name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A real redis-server that can be stopped and started."""

    def __init__(self, folder):
        self.port = free_port()
        self._folder = folder
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "sesame"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def tcp_server(serve):
    """A TCP server on a free port; gives the port."""
    tasks = set()

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            tasks.discard(asyncio.current_task())
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
