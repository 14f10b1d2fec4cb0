"""Child processes that never outlive the tests, and the ports they listen on.

A child gets SIGKILL from the kernel when its parent dies in any way (`setpriv --pdeathsig`, util-linux; the signal comes when the *thread* that started it ends, so
start processes from a thread that lives as long as they should). Where `setpriv` is missing an exit handler does what it can. A child sits in a session
of its own, so that Ctrl-C reaches pytest alone, which then ends the children in order.
"""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final


class ProcessFailedError(Exception):
    """A process ended, or did not become ready in time; the message carries the end of its log."""


class Process:
    """One program with its log file. It can be killed and started again with the same arguments.

    Args:
        name: What messages call it.
        command: Program and arguments.
        log: Receives both output streams; appended to across restarts.
        environ: Added to the environment of this process.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = tuple(str(part) for part in command)
        self.log = log
        self._environ = {**os.environ, **(environ or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; the wrappers replace themselves by the program, so this is the program's own."""
        if self._child is None:
            raise RuntimeError(f"{self.name} is not running; call start() first")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts it; returns before it is ready."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already (pid {self.pid})")
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*_death_signal(), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environ,
                start_new_session=True,
            )
        _LIVING.add(self)

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Polls *ready* until it is true; *timeout* in seconds.

        Raises:
            ProcessFailedError: The process ended meanwhile, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                status = self._child.returncode if self._child else None
                raise ProcessFailedError(
                    f"{self.name} ended with status {status} before it was ready; its log ends with:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailedError(
                    f"{self.name} was not ready within {timeout:.0f} s; its log ends with:\n{self.tail()}"
                )
            time.sleep(0.03)

    def stop(self, timeout: float = 10) -> None:
        """Asks it to end (SIGTERM), and after *timeout* seconds ends it. Does nothing when it has ended."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL) and waits until its ports are free. Does nothing when it has ended."""
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        child, self._child = self._child, None
        _LIVING.discard(self)
        if child is None:
            return
        child.send_signal(how)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)  # nobody refuses SIGKILL; only a hanging disk delays it

    def resident_bytes(self) -> int:
        """Its resident memory now, in bytes (`VmRSS` of proc(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(f"{self.name} (pid {self.pid}) has ended")

    def tail(self, lines: int = 30) -> str:
        """The last *lines* lines of its log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


_LIVING: Final[weakref.WeakSet[Process]] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for process in list(_LIVING):
        process.kill()


def _death_signal() -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    # A parent that died before the signal was arranged would not be noticed: so the child looks once more who its parent is.
    return [setpriv, "--pdeathsig", "KILL", "--", "sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """*count* different TCP ports on *address* that nobody uses.

    They lie below the ephemeral range of the kernel, so that no outgoing connection of anybody takes one before its owner binds it, or between a kill and the
    restart on the same port.
    """
    ports: list[int] = []
    chance = random.SystemRandom()  # two runs side by side must not draw the same numbers, whatever seeded the tests
    for _ in range(1000):
        port = chance.randrange(_LOWEST_PORT, _ephemeral_start())
        if port not in ports and _bindable(address, port):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"found only {len(ports)} of {count} free ports on {address} below {_ephemeral_start()}")


_LOWEST_PORT: Final = 10240


def _ephemeral_start() -> int:
    try:
        start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768  # no Linux: its default is as good as any
    return start if start > _LOWEST_PORT + 1000 else 32768


def _bindable(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
