"""A webhook's URL, taken apart once and strictly. Pure.

A lenient reader is how a URL that one program judges becomes another one that the next program calls. So this one knows only what it needs:
scheme, host, port, request target; printable ASCII, no user, no fragment.
"""

import ipaddress
import re
from typing import Final

import msgspec

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?(?P<target>[/?][!-~]*)?",
    re.ASCII,
)
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


class Target(msgspec.Struct, frozen=True):
    """Where to connect to and what to ask for.

    Args:
        scheme: `http` or `https`.
        host: a name in lower case or an address literal, without brackets.
        port: 1-65535.
        path: the request target: path and query, beginning with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The `Host` header field: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take *url* apart.

    Raises:
        ValueError: it is none that can be posted to; the message is a clause, a semicolon, and the fix.
    """
    if not url.isascii():
        raise ValueError(
            "holds characters beyond ASCII; write the host in punycode (xn--…) and percent-encode the rest"
        )
    if "#" in url:
        raise ValueError("has a fragment, which no server ever sees; remove it")
    if "@" in url.partition("//")[2].partition("/")[0].partition("?")[0]:
        raise ValueError("holds a user or password, which would be readable here; remove it")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("is no URL that can be posted to; write https://host/path")
    port = int(match["port"]) if match["port"] else (443 if match["scheme"] == "https" else 80)
    if not 1 <= port <= 65_535:
        raise ValueError("has a port beyond 1-65535; correct it")
    path = match["target"] or "/"
    return Target(
        match["scheme"], _host(match["six"], match["name"]), port, path if path.startswith("/") else "/" + path
    )


def _host(six: str | None, name: str | None) -> str:
    if six is not None:
        try:
            return str(ipaddress.IPv6Address(six))
        except ValueError:
            raise ValueError("has no IPv6 address between the brackets; correct it") from None
    host = (name or "").lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            "has no valid host name; write letters, digits and hyphens, in labels of at most 63 characters"
        )
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            # 2130706433, 0x7f.1 and 127.1 all mean 127.0.0.1 to some resolvers.
            raise ValueError("has an address in an unusual form; write four decimal numbers, as in 192.0.2.1") from None
    return host
