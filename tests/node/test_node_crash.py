"""A run that is killed leaves a node behind; the next one undoes it, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cluster.node.footprint import Footprint
from tests.support.cluster.node.ledger import Ledger, NodeBusyError
from tests.support.cluster.node.node import clean, open_node
from tests.support.cluster.node.prerequisites import missing

ROOT = Path(__file__).parents[2]

RUN = """
import json, sys
from tests.support.cluster.node.archives import BUSYBOX_IMAGE
from tests.support.cluster.node.node import open_node
container = {"name": "app", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "1000"]}
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {"containers": [container]}}
with open_node(lambda line: None) as node:
    node.cluster.kubectl.run("apply", "--filename=-", stdin=json.dumps(pod))
    node.cluster.kubectl.run("wait", "pod/app", "--for=condition=Ready", "--timeout=60s", within=70)
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.environ.get("PILLION_TEST_NODE") == "kind", reason="about the node on this machine")
@pytest.mark.skipif(bool(missing()), reason=f"a node needs {', '.join(missing())}")
def test_killed_run_is_undone_by_the_next() -> None:
    before = Footprint.take()
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stdout
            assert run.stdout.readline() == "running\n"
            with pytest.raises(NodeBusyError, match="another run"), open_node(lambda _: None):
                pass
        finally:
            run.kill()

    assert Ledger.load() is not None
    assert any("containerd-shim" in difference for difference in before.differences(Footprint.take()))
    assert clean(lambda _: None)

    assert before.differences(Footprint.take()) == []
    assert not clean(lambda _: None)


def test_node_makes_way_for_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.support.cluster.node import ledger

    monkeypatch.setattr(ledger, "PLACE", tmp_path)

    with ledger.lock(), pytest.raises(NodeBusyError):
        ledger.lock()


def test_ledger_survives_the_run_that_wrote_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.support.cluster.node import ledger

    monkeypatch.setattr(ledger, "PLACE", tmp_path)
    written = Ledger("/tmp/somewhere", bridge="pillion0", sysctls={"vm/panic_on_oom": "0"})
    written.save()

    assert Ledger.load() == written
    written.close()
    assert Ledger.load() is None
