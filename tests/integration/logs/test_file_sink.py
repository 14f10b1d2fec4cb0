"""The file sink after kill -9: no half line ever stays, neither in the file nor in the one that was rotated away."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.shipping import Writer, pipeline_to

from pillion.logs.compiled import FileSinkPlan
from pillion.logs.sinks import FileSink, Later, Taken

SHIP = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.shipping import pipeline_to
folder = Path(sys.argv[2])
pipeline = pipeline_to(folder, file=folder / "out.ndjson", batch=1 << 20, max_bytes=3 << 20)
print("ready", flush=True)
asyncio.run(pipeline.run())
"""


async def sent(path, body, max_bytes=64 << 20):
    sink = FileSink(FileSinkPlan(path=str(path), max_bytes=max_bytes))
    outcome = await sink.send(body)
    await sink.close()
    return outcome


async def ship(folder):
    pipeline = pipeline_to(folder, file=folder / "out.ndjson", batch=1 << 20, max_bytes=3 << 20)
    pipeline.drain()
    await asyncio.wait_for(pipeline.run(), 30)


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_in_the_middle_of_writing_leaves_whole_lines_and_loses_none(seed, tmp_path):
    chance = random.Random(seed)
    (tmp_path / "app").mkdir()
    root = str(Path(__file__).resolve().parents[3])
    writer = Writer(tmp_path / "app" / "shop.log")
    filler = "x" * 20_000
    for _ in range(6):
        for _ in range(chance.randrange(50, 200)):
            writer.file.write(json.dumps({"n": writer.n, "text": filler}).encode() + b"\n")
            writer.n += 1
        with subprocess.Popen([sys.executable, "-c", SHIP, root, str(tmp_path)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(chance.random() * 0.04)  # the kill may come at any moment; that is what is tried
            process.send_signal(signal.SIGKILL)
        out = tmp_path / "out.ndjson"
        if out.exists() and chance.random() < 0.5:
            # What a crash of the machine may leave, and a kill hardly ever does.
            with out.open("ab") as file:
                file.write(b'{"n": 99, "te')
    # A torn batch of our own comes again; one that we have made up is cut off with the next batch.
    writer.write(1)
    writer.file.close()
    asyncio.run(ship(tmp_path))

    kept = [path.read_bytes() for path in (tmp_path / "out.ndjson.1", tmp_path / "out.ndjson") if path.exists()]
    numbers = [json.loads(line)["n"] for content in kept for line in content.splitlines()]
    assert all(content.endswith(b"\n") for content in kept if content)
    # Only two generations are kept; what is in them has no gap and ends with the last line.
    assert set(numbers) == set(range(min(numbers), writer.n))


async def test_a_half_line_is_cut_off_before_the_file_is_rotated(tmp_path):
    path = tmp_path / "out.ndjson"
    path.write_bytes(b'{"n":1}\n' * 10 + b'{"n":2,"half')

    assert await sent(path, b'{"n":2}\n' * 10, max_bytes=100) == Taken()

    assert (tmp_path / "out.ndjson.1").read_bytes() == b'{"n":1}\n' * 10
    assert path.read_bytes() == b'{"n":2}\n' * 10


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=5), st.integers(0, 200_000))
def test_whatever_stands_behind_the_last_line_end_is_cut_off(tmp_path_factory, lines, length):
    path = tmp_path_factory.mktemp("sink") / "out.ndjson"
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole + b"y" * length)

    assert asyncio.run(sent(path, b"{}\n")) == Taken()

    assert path.read_bytes() == whole + b"{}\n"


async def test_a_folder_that_is_missing_is_tried_again_and_named(tmp_path):
    outcome = await sent(tmp_path / "nowhere" / "out.ndjson", b"{}\n")

    assert isinstance(outcome, Later)
    assert "nowhere/out.ndjson cannot be opened: No such file or directory" in outcome.reason


async def test_rotation_by_size_keeps_one_generation(tmp_path):
    (tmp_path / "app").mkdir()
    writer = Writer(tmp_path / "app" / "shop.log")
    writer.write(3000)
    writer.file.close()
    pipeline = pipeline_to(tmp_path, file=tmp_path / "out.ndjson", batch=10_000, max_bytes=70_000)
    pipeline.drain()
    await pipeline.run()

    kept = [(tmp_path / name).read_text().splitlines() for name in ("out.ndjson.1", "out.ndjson")]
    numbers = [json.loads(line)["n"] for part in kept for line in part]
    assert Counter(numbers) == Counter(range(numbers[0], 3000))
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.ndjson", "out.ndjson.1"]
