"""The health block under the runtime's host: probes answer whatever the profile switches on."""

from contextlib import asynccontextmanager

import msgspec
import pytest

from pillion.kinds.snapshot import FORMAT
from pillion.runtime.block import Identity
from pillion.runtime.host import Host


@asynccontextmanager
async def hosted(data_dir, blocks):
    host = Host(data_dir, Identity(), source="test", blocks=("health",))
    document = {
        "format": FORMAT,
        "namespace": "default",
        "profile": {"name": "p", "auth": None},
        "blocks": blocks,
        "secrets": {},
    }
    applied = await host.apply(msgspec.json.encode(document), {})
    assert applied.applied, applied.message
    try:
        yield {operation.path: operation for operation in host.operations()}
    finally:
        await host.drain()
        await host.stop()


class Request:
    headers = {"Accept": "text/plain"}


class Call:
    request = Request


@pytest.mark.parametrize("blocks", [{}, {"health": {"settings": None, "resources": {}}}])
async def test_startup_is_reached_even_where_the_profile_has_no_health_block(tmp_path, blocks):
    """Otherwise the kubelet would kill the sidecar for ever."""
    async with hosted(tmp_path, blocks) as operations:
        answers = {path: await operations[path].handler(Call) for path in ("/startupz", "/readyz", "/livez", "/health")}

    assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(answers, 200)
