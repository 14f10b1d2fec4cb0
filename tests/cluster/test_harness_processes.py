"""Programs of the harness: nothing outlives the tests, and a failed start says why."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cluster.processes import Process, ProcessFailedError, free_ports

ROOT = Path(__file__).parents[2]
PARENT = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it as ignored
from tests.support.cluster.processes import Process
child = Process("sleeper", ["sleep", "1000"], pathlib.Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


def _parent(log: Path) -> tuple[subprocess.Popen[str], int]:
    """A Python that has started a sleeper, and the sleeper's pid."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    return parent, int(parent.stdout.readline())


def _ends(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 10)[0])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_child_dies_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    parent, pid = _parent(tmp_path / "log")
    child = os.pidfd_open(pid)
    with parent:
        parent.send_signal(how)

        assert _ends(child)
    os.close(child)


def test_start_that_fails_shows_the_log(tmp_path: Path) -> None:
    process = Process("failing", ["sh", "-c", "echo port is taken; exit 3"], tmp_path / "log")
    process.start()

    with pytest.raises(ProcessFailedError, match=r"failing ended with status 3(.|\n)*port is taken"):
        process.wait_until(lambda: False, 10)


def test_start_that_hangs_is_given_up(tmp_path: Path) -> None:
    process = Process("hanging", ["sleep", "1000"], tmp_path / "log")
    process.start()

    with pytest.raises(ProcessFailedError, match="hanging was not ready"):
        process.wait_until(lambda: False, 0)
    process.kill()


def test_process_starts_again_after_a_kill(tmp_path: Path) -> None:
    process = Process("sleeper", ["sleep", "1000"], tmp_path / "log")
    process.start()
    first = process.pid
    process.kill()
    assert not process.running

    process.start()

    assert process.running
    assert process.pid != first
    process.stop()


def test_process_that_ignores_the_request_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process("stubborn", ["sh", "-c", "trap '' TERM; echo set; exec sleep 1000"], log)
    process.start()
    process.wait_until(lambda: "set" in process.tail(), 10)

    process.stop(timeout=0)

    assert not process.running


def test_free_ports_are_different_and_below_the_ephemeral_range() -> None:
    ports = free_ports(20)

    start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 20
    assert max(ports) < start
