"""A full disk: new messages are refused, nothing is half-written, old ones are still settled, and it recovers."""

import json
import subprocess
import sys

import pytest
from tests.support.deliveries import bench, in_small_file_system

from pillion.delivery.failures import StoreFull
from pillion.delivery.model import SECOND, Policy, Query

POLICY = Policy(hold="SecretMissing", retain_succeeded_ns=SECOND)


async def fill(b):
    accepted = []
    try:
        while True:
            accepted.append((await b.accept("a", body=b"x" * 20_000)).id)
    except StoreFull:
        return accepted


async def test_a_store_at_its_bound_refuses_and_settles_and_recovers(tmp_path):
    async with bench(tmp_path, {"a": POLICY}, max_bytes=2 << 20) as b:
        accepted = await fill(b)
        assert len(accepted) > 50
        assert any(c.name == "test: store full" and c.level == "fail" for c in b.conditions)
        assert b.machine.statistics().refused == 1
        page = await b.machine.deliveries(Query(limit=1000))
        assert [d.message for d in page.deliveries] == accepted[::-1]
        b.machine.configure({"a": Policy(retain_succeeded_ns=SECOND)})
        await b.until(lambda: b.status("a").succeeded == len(accepted))
        assert sorted(b.sender.ids()) == sorted(accepted)
        with pytest.raises(StoreFull):
            await b.accept("a")
        await b.pass_time(SECOND)
        await b.machine.tidy()
        await b.accept("a")
        assert not any(c.name == "test: store full" for c in b.conditions)
        assert (tmp_path / "deliveries.db").stat().st_size <= 2 << 20


FULL_FILE_SYSTEM = """
import asyncio, json, os, sys
from pathlib import Path
from pillion.delivery.failures import StoreFull
from pillion.delivery.model import Policy, Query
from tests.support.deliveries import bench, in_small_file_system

async def main(folder):
    async with bench(folder, {"a": Policy(hold="SecretMissing")}) as b:
        filler = folder / "filler"
        accepted = [(await b.accept("a", body=b"x" * 20_000)).id for _ in range(10)]
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError as error:
                assert error.errno == 28, error
        refused = 0
        for _ in range(20):
            try:
                accepted.append((await b.accept("a", body=b"x" * 200_000)).id)
            except StoreFull:
                refused += 1
        conditions = [c.name for c in b.conditions]
        b.machine.configure({"a": Policy()})
        await asyncio.sleep(0.05)
        filler.unlink()
        late = (await b.accept("a")).id
        accepted.append(late)
        await b.until(lambda: b.status("a").succeeded == len(accepted))
        page = await b.machine.deliveries(Query(limit=1000))
        print(json.dumps({
            "refused": refused,
            "conditions": conditions,
            "stored": sorted(d.message for d in page.deliveries) == sorted(accepted),
            "sent": sorted(b.sender.ids()) == sorted(accepted),
            "over": [c.name for c in b.conditions],
        }))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_really_full_file_system_refuses_and_recovers(tmp_path):
    result = in_small_file_system(tmp_path, FULL_FILE_SYSTEM)
    assert result["refused"] == 20
    assert "test: store full" in result["conditions"]
    assert result["stored"]
    assert result["sent"]
    assert result["over"] == []


FILE_SIZE_LIMIT = """
import asyncio, json, resource, sys
from pathlib import Path
from pillion.delivery.failures import StoreFull
from pillion.delivery.model import Policy, Query
from tests.support.deliveries import bench, in_small_file_system

async def main(folder):
    async with bench(folder, {"a": Policy(hold="SecretMissing")}) as b:
        accepted = [(await b.accept("a")).id]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        try:
            while True:
                accepted.append((await b.accept("a", body=b"x" * 20_000)).id)
        except StoreFull:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        accepted.append((await b.accept("a")).id)
        page = await b.machine.deliveries(Query(limit=1000))
        print(json.dumps({"stored": [d.message for d in page.deliveries] == accepted[::-1], "count": len(accepted)}))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_limit_of_the_file_size_is_a_full_disk_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILE_SIZE_LIMIT, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[0])  # the product may log behind it
    assert result["stored"]
    assert result["count"] > 10
