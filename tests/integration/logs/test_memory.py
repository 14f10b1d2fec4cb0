"""Memory of a real process: the files are the buffer, whatever waits in them, however long their lines and however many they are."""

import json
import re
from pathlib import Path

import pytest
from tests.support.running import Sidecar, eventually
from tests.support.shipping import Receiver

PROFILE = """\
apiVersion: pillion.dev/v1alpha1
kind: SidecarProfile
metadata: {{name: p}}
spec:
  blocks: [logs, health]
  logs:
    sources: [{{name: app, files: ["{folder}/app/*.log"], format: json}}]
    mask: [email, creditCard]
    sinks:
    - {{name: live, http: {{url: "{url}"}}}}
    - {{name: archive, file: {{path: {folder}/archive.ndjson}}}}
"""
BACKLOG = 48 << 20
ROOM = 20 << 20
"""Bytes by which the process may grow: two pipelines, each with one batch of 1 MiB as it was read, masked, and compressed, and what the
interpreter keeps of it. Far less than the backlog."""


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.close()


def peak(sidecar):
    """Most memory that the process has had resident, in bytes."""
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_a_backlog_of_any_shape_costs_no_memory(tmp_path, receiver):
    (tmp_path / "app").mkdir()
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "profile.yaml").write_text(PROFILE.format(folder=tmp_path, url=receiver.url))
    receiver.status = 503
    line = json.dumps({"user": "ada@example.com", "text": "x" * 200, "path": "C:\\temp"}) + "\n"
    (tmp_path / "app" / "first.log").write_text(line * 5000)
    with Sidecar(tmp_path / "manifests", tmp_path / "data") as sidecar:

        def lag(sink):
            return sidecar.get("/v1/statistics")[1]["logs"]["sinks"][sink]["lagBytes"]

        eventually(lambda: len(receiver.requests) >= 2 and lag("archive") == 0)
        before = peak(sidecar)

        with (tmp_path / "app" / "many.log").open("w") as file:
            while file.tell() < BACKLOG // 2:
                file.write(line * 1000)
        with (tmp_path / "app" / "long.log").open("w") as file:
            file.write('{"text":"' + "y\\" * (BACKLOG // 4))
        for number in range(300):
            (tmp_path / "app" / f"{number}.log").write_text(line * 3)

        eventually(lambda: lag("live") > BACKLOG - (1 << 20), seconds=30)
        asked = len(receiver.requests)
        eventually(lambda: len(receiver.requests) > asked, seconds=30)
        assert peak(sidecar) - before < ROOM, "while one sink takes nothing"

        eventually(lambda: lag("archive") < 1 << 20, seconds=60)
        assert peak(sidecar) - before < ROOM, "while the other sink takes all of it"
