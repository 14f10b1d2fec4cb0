"""The whole sidecar's HTTP surface: what it describes is what it serves, and nothing malformed meets a server error."""

import shutil
from pathlib import Path

import pytest
from tests.support.fuzz import assert_survives
from tests.support.running import Sidecar
from tests.support.walk import documented_routes, served_routes, walk

from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import BLOCKS, block_of, kinds
from pillion.kinds.selection import Pod
from pillion.kinds.snapshot import compile_snapshot
from pillion.runtime.block import Identity
from pillion.runtime.host import Host
from pillion.runtime.server import Server
from pillion.runtime.server_settings import ServerSettings

MANIFESTS = Path(__file__).parents[3] / "examples" / "shop" / "manifests"
ENDLESS = frozenset({"queryLogs"})
"""Follows for ever when it is asked to; its own tests send it malformed queries."""


@pytest.fixture
async def served(tmp_path):
    """The example's sidecar inside this process, so that its router can be asked."""
    files = [(file.name, file.read_text().replace("/tmp/pillion-shop", str(tmp_path))) for file in MANIFESTS.iterdir()]
    bundle = read_bundle(files, kinds())
    snapshot = compile_snapshot(
        bundle.resources,
        Pod(namespace="default", labels=None),
        kinds=kinds(),
        blocks=BLOCKS,
        block_of={kind: block_of(kind) for kind in kinds()},
        secret_versions={},
    )
    host = Host(tmp_path / "data", Identity(), source="test")
    settings = ServerSettings(port=0, admin_host="127.0.0.1", admin_port=0)
    server = Server(
        settings,
        host.operations(),
        host.hot_operations(),
        conditions=host.conditions,
        metrics=host.metrics,
        clock=host.clock,
    )
    await server.start()
    result = await host.apply(snapshot.document, {s.name: s.values for s in bundle.secrets})
    assert result.applied, result.message
    yield server
    await host.drain()
    await host.stop()
    await server.stop()


async def test_every_route_is_described_and_every_description_is_served(served):
    assert served_routes(served) == documented_routes(served.openapi)


async def test_every_operation_answers_as_described(served):
    statuses = await walk(served, served.openapi)

    # The example's shop is not running here, so its probes rightly say 503.
    assert {name: status for name, status in statuses.items() if status >= 500 and status != 503} == {}


def test_malformed_requests_never_meet_a_server_error(tmp_path):
    manifests = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    profile = manifests / "profile.yaml"
    profile.write_text(profile.read_text().replace("/tmp/pillion-shop", str(tmp_path)))
    with Sidecar(manifests, tmp_path / "data") as sidecar:
        sent = assert_survives(sidecar.url, sidecar.get("/openapi.json")[1], seconds=20, examples=15, skip=ENDLESS)

        assert min(sent.values()) >= 1
        assert sidecar.process.poll() is None
        assert "Traceback" not in sidecar.log.read_text()
