"""A health block behind the real server, and a real Redis."""

import shutil

import aiohttp
import pytest
from tests.support.health import RedisServer, Sidecar


@pytest.fixture
async def sidecar(tmp_path):
    one = Sidecar(tmp_path)
    await one.server.start()
    async with aiohttp.ClientSession() as one.client:
        yield one
    await one.block.drain()
    await one.block.stop()
    await one.server.stop()


@pytest.fixture
def redis_server(tmp_path):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
