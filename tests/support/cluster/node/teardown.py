"""Undoing a node from its ledger: after an orderly stop, and after a run that was killed.

The order matters: containers before the shims that would reap them, processes before mounts, mounts before folders. Only what the ledger names, lies under its
folder, or sits in cgroups that it claims is touched. Every step may find its work done already.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.cluster.node.ledger import Ledger
from tests.support.cluster.node.prerequisites import find

CGROUPS: Final = Path("/sys/fs/cgroup")


class LeftoverError(Exception):
    """Something could not be undone; the ledger stays, so that a later attempt can go on."""


def undo(ledger: Ledger) -> None:
    """Undoes everything in *ledger* and closes it.

    Raises:
        LeftoverError: Mounts or cgroups of the node would not go.
    """
    folder = Path(ledger.folder)
    _end([*(_cgroup_processes() if ledger.cgroups else ()), *_processes_naming(folder)])
    _unmount_below(folder)
    if ledger.bridge and (Path("/sys/class/net") / ledger.bridge).exists():
        subprocess.run([find("ip"), "link", "delete", ledger.bridge], check=True, timeout=30)
    for table in ledger.tables:
        # Deleting a table that kube-proxy never made is no failure.
        subprocess.run(
            [find("nft"), "delete", "table", *table.split()], check=False, timeout=30, stderr=subprocess.DEVNULL
        )
    if ledger.cgroups:
        _remove_cgroups()
    for name, value in ledger.sysctls.items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
    if not _other_runtime():
        for absent in map(Path, ledger.absent):
            _remove(absent)
    _remove(folder)
    ledger.close()


def kubepods() -> list[Path]:
    """The `kubepods` cgroups of all hierarchies: the root of a v2 tree, and each controller of v1."""
    return [path for path in (CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")) if path.is_dir()]


def _other_runtime() -> bool:
    """Whether somebody else's container runtime came up meanwhile: then the shared folders are his."""
    return any(name in {"containerd", "dockerd", "kubelet", "crio"} for _, name in living_processes())


def living_processes() -> Iterator[tuple[int, str]]:
    """Pid and name of every process that still has a command line: those that are about to end, or wait to be reaped, have none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ends meanwhile
                if (entry / "cmdline").read_bytes():
                    yield int(entry.name), (entry / "comm").read_text().strip()


def _cgroup_processes() -> Iterator[int]:
    for root in kubepods():
        for members in root.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # a cgroup that goes meanwhile
                yield from (int(pid) for pid in members.read_text().split())


def _processes_naming(folder: Path) -> Iterator[int]:
    mine = {os.getpid(), os.getppid()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine:
            with contextlib.suppress(OSError):  # a process that ends meanwhile
                if f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def _end(pids: list[int]) -> None:
    """Ends processes by their pids, in this order, and waits for each: a pidfd cannot mean another process that got the number later."""
    for pid in dict.fromkeys(pids):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], 10)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def mounts_below(folder: Path) -> list[Path]:
    """Mount points under *folder*, deepest first (proc_pid_mountinfo(5); spaces are escaped as \\040)."""
    points = [
        Path(line.split()[4].replace("\\040", " ")) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    return sorted(
        (point for point in points if point.is_relative_to(folder)), key=lambda point: len(point.parts), reverse=True
    )


def _unmount_below(folder: Path) -> None:
    for point in mounts_below(folder):
        done = subprocess.run(["umount", str(point)], check=False, timeout=30, capture_output=True)
        if done.returncode:
            subprocess.run(["umount", "--lazy", str(point)], check=False, timeout=30, capture_output=True)
    if left := mounts_below(folder):
        raise LeftoverError(f"still mounted: {', '.join(map(str, left))}")


def _remove_cgroups() -> None:
    for root in kubepods():
        for path in sorted(
            (it for it in [root, *root.rglob("*")] if it.is_dir()), key=lambda it: len(it.parts), reverse=True
        ):
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LeftoverError(
                    f"cgroup {path} cannot be removed: {error.strerror}; its processes: {_members(path)}"
                ) from error


def _members(cgroup: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join((cgroup / "cgroup.procs").read_text().split()) or "none"
    return "unknown"


def _remove(path: Path) -> None:
    if left := mounts_below(path):  # a mount under it may be somebody's own folder: never delete through one
        raise LeftoverError(f"not removed, since there are mounts below it: {', '.join(map(str, left))}")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
