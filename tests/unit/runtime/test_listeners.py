"""Sockets are opened with care for what is there already."""

import os
import socket
import stat
from pathlib import Path

import pytest

from pillion.runtime import listeners
from pillion.runtime.listeners import ListenError, open_tcp, open_unix, remove_unix


def test_a_socket_is_never_more_open_than_it_shall_be(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Path, "chmod", lambda path, _: seen.append(stat.S_IMODE(path.stat().st_mode)))
    before = os.umask(0)
    try:
        open_unix(tmp_path / "s", 1, 0o660).close()
    finally:
        os.umask(before)
    assert seen == [0o660]


def test_the_umask_takes_nothing_away(tmp_path):
    before = os.umask(0o077)
    try:
        open_unix(tmp_path / "s", 1, 0o660).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660


def test_only_the_own_socket_is_removed(tmp_path):
    path = tmp_path / "s"
    open_unix(path, 1, 0o660).close()
    inode = path.lstat().st_ino
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        if path.lstat().st_ino != inode:  # file systems may give the number again
            remove_unix(path, inode)
            assert path.exists()
        remove_unix(path, path.lstat().st_ino)
        assert not path.exists()
        remove_unix(path, 1)


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(ListenError, match=r"main listener: cannot listen on 192\.0\.2\.1:0"):
        open_tcp("main", "192.0.2.1", 0, 1)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_both_families_can_be_listened_on(host, family):
    with socket.socket(family) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
    with open_tcp("main", host, 0, 1) as sock:
        assert sock.family == family


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_every_address_is_every_address_the_kernel_has(monkeypatch, has_ipv6):
    """IPv4-only, IPv6-only and dual-stack pods are asked by kubelet and Prometheus in their own family."""
    if not has_ipv6:
        monkeypatch.setattr(listeners, "_has_ipv6", lambda: False)
    with open_tcp("admin", "::", 0, 1) as sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 5):
        assert sock.family == (socket.AF_INET6 if has_ipv6 and listeners._has_ipv6() else socket.AF_INET)
