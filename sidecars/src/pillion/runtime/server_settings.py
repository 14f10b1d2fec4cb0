"""The settings of the HTTP server: where it listens and how much it takes from one client.

Defaults are those of a sidecar in a pod: the main listener on the loopback address, the admin listener on all addresses, because kubelet and
Prometheus come from outside. Every bound that a client can meet is here; bounds of single routes stand in their `Operation`.
"""

from typing import Final

import msgspec

MAX_SOCKET_PATH: Final = 107
"""Bytes of a unix socket's path: `sun_path` holds 108 with the closing zero (unix(7))."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server listens.

    Args:
        host: address of the main listener. Anything but a loopback address offers the API to the network; set a token then.
        port: TCP port of the main listener, 0-65535; 0 takes a free one (tests).
        socket_path: path of the unix socket with the same routes as the main listener; empty for none. At most 107 bytes.
        socket_mode: permission bits of that socket, 0-0o777; connecting takes the right to write. 0o660 lets in processes that share its group.
            0o666 lets in everybody who reaches its folder: right in a pod, whose socket folder belongs to the pod alone and whose containers often run
            under different user ids without a common group; wrong in a folder that other people's processes reach.
        admin_host: address of the admin listener (probes and metrics). Empty for no admin listener.
        admin_port: TCP port of the admin listener, 0-65535; 0 takes a free one.
        allowed_hosts: names that the `Host` field may hold beside `localhost`, `127.0.0.1` and `[::1]`, without a port, on the main TCP listener.
            A name that is not listed is answered 421: a web page that points its own name at 127.0.0.1 must not reach this API.
        max_header_bytes: bound of the request line and of each header field, 1,024-65,536 bytes. More is answered 400.
        max_headers: bound of the number of header fields, 8-1,000. More is answered 400.
        keepalive_timeout: seconds an idle connection, or one that does not finish its request head, is kept, more than 0. Longer than the idle time of
            common client pools (Node 5 s, Java 30 s, Go 90 s), so that the client closes first and never meets a connection that closes under it.
        body_timeout: seconds within which a request body must have arrived, more than 0; then 408. A trickling client holds no handler longer.
        split_timeout: seconds that the hot lane waits for the body of a request whose head came alone, before the ordinary lane takes over.
        grace_period: seconds that `drain` gives requests in flight; then their connections are closed.
        backlog: connections that the kernel holds while the process is busy, 1-65,535; `net.core.somaxconn` caps it.
        hot_lane: whether hot operations are answered from the receive buffer. Off, the same functions run through the ordinary lane: same answers,
            a fifth of the speed. Meant for comparison and for finding faults.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    host: str = "127.0.0.1"
    port: int = 3700
    socket_path: str = ""
    socket_mode: int = 0o660
    admin_host: str = "::"  # kubelet and Prometheus come from outside the pod, in the cluster's family
    admin_port: int = 3790
    allowed_hosts: tuple[str, ...] = ()
    max_header_bytes: int = 8190
    max_headers: int = 128
    keepalive_timeout: float = 120.0
    body_timeout: float = 20.0
    split_timeout: float = 1.0
    grace_period: float = 10.0
    backlog: int = 1024
    hot_lane: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        _within("port", self.port, 0, 65535)
        _within("admin_port", self.admin_port, 0, 65535)
        _within("max_header_bytes", self.max_header_bytes, 1024, 65536)
        _within("max_headers", self.max_headers, 8, 1000)
        _within("backlog", self.backlog, 1, 65535)
        if not 0 <= self.socket_mode <= 0o777:
            raise ValueError(f"socket_mode: {self.socket_mode:#o} is not allowed (permission bits, from 0o0 to 0o777)")
        for name in ("keepalive_timeout", "body_timeout", "split_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not allowed (more than 0 seconds)")
        if self.grace_period < 0:
            raise ValueError(f"grace_period: {self.grace_period} is not allowed (at least 0 seconds)")
        if len(self.socket_path.encode()) > MAX_SOCKET_PATH:
            raise ValueError(
                f"socket_path: {self.socket_path!r} is longer than {MAX_SOCKET_PATH} bytes, which is all a unix socket allows"
            )
        for name in self.allowed_hosts:
            if not name or not name.isascii() or any(sign in name for sign in " /@,"):
                raise ValueError(f"allowed_hosts: {name!r} is no host name; write it without scheme, port and path")


def _within(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number outside its range."""
    if not least <= value <= most:
        raise ValueError(f"{name}: {value} is not allowed (from {least} to {most})")
