"""Opens the sockets that the server listens on.

A unix socket is taken over only when nobody listens on it: a file that is no socket, or a socket that answers, is an error, never deleted.
"""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

_PROBE_TIMEOUT: Final = 1.0
"""Seconds to wait for somebody to accept on a socket that is there already."""


class ListenError(OSError):
    """A listener cannot be opened; the message says which one and what to do."""


def open_tcp(name: str, host: str, port: int, backlog: int) -> socket.socket:
    """Listen on TCP.

    Args:
        name: of the listener, for the error.
        host: an address or a name that resolves to one; `::` is every address of both families, or of IPv4 where the kernel has no IPv6.
        port: 0 takes a free one.
        backlog: connections that the kernel holds.

    Raises:
        ListenError: the address is taken, not this machine's, or no address.
    """
    if host == "::" and not _has_ipv6():
        host = "0.0.0.0"  # noqa: S104 - what the caller asked for
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            sock.bind(address)
            sock.listen(backlog)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        reason = (
            "the address is in use; another process listens there" if error.errno == errno.EADDRINUSE else str(error)
        )
        raise ListenError(error.errno, f"{name} listener: cannot listen on {host}:{port}: {reason}") from error
    return sock


def _has_ipv6() -> bool:
    """Whether this kernel has IPv6 at all (`ipv6.disable=1` takes it away)."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def open_unix(path: Path, backlog: int, mode: int) -> socket.socket:
    """Listen on a unix socket with permission bits *mode*, in place of a stale one.

    Raises:
        ListenError: the folder is missing, the path is no socket, or another process listens on it.
    """
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux takes the mode of the new file from the socket's own inode, so that it is never more open than this, not even for a moment.
        os.fchmod(sock.fileno(), mode)
        sock.bind(str(path))
        path.chmod(mode)  # the umask may have taken bits away
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(
            error.errno, f"unix socket {path}: {error.strerror}; check that its folder exists and is writable"
        ) from error
    return sock


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(error.errno, f"unix socket {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            errno.EEXIST, f"unix socket {path}: a file that is no socket is there; move it or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ListenError(
                error.errno, f"unix socket {path}: {error.strerror}; cannot tell whether it is in use"
            ) from error
    raise ListenError(
        errno.EADDRINUSE, f"unix socket {path}: another process listens on it; stop it or choose another path"
    )


def remove_unix(path: Path, inode: int) -> None:
    """Remove our own socket file; one that somebody else put there meanwhile stays."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
