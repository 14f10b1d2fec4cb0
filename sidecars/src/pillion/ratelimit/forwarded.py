"""From the header fields of a forward-auth request to the attributes that policies look at.

A proxy asks before it lets a request through, and tells about that request in `X-Forwarded-*` (Traefik, Caddy, APISIX) or in fields that its
configuration sets (NGINX). All attributes are derived here, in one place, because each is a decision about whom to trust:

- `ip`: an entry of X-Forwarded-For counted from the right, because everything left of what trusted proxies appended is the client's own
  invention; without that field, the address of the connection.
- `route`: the path alone, percent-decoded, with dot segments and repeated slashes resolved, so that `/%61pi//x` cannot dodge a rule for
  `/api/`.
- `header.<name>`: any field of the request as the proxy passed it on, for keys such as an API key. A proxy that passes on whatever clients
  send makes these as trustworthy as the clients.
"""

import posixpath
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from pillion.ratelimit.addresses import parse_address

MAX_FIELDS: Final = 256
"""Header fields that become attributes; a server bounds them lower."""


def attributes_of(
    method: str, fields: Iterable[tuple[str, str]], peer: str | None, *, trusted_hops: int
) -> dict[str, str]:
    """Give the attributes of a forwarded request.

    Args:
        method: method of the question itself, for proxies that do not tell the original one.
        fields: header fields, in order; of a field that comes twice, the values are joined by a comma.
        peer: address of the connection; None or empty over a unix socket.
        trusted_hops: how many of the last entries of X-Forwarded-For were appended by trusted proxies; 0 ignores the field.

    Returns:
        `method`, and as far as they are known `route`, `host`, `scheme`, `ip`, and one `header.<name>` per field.
    """
    headers: dict[str, str] = {}
    for name, value in list(fields)[:MAX_FIELDS]:
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    found = {f"header.{name}": value for name, value in headers.items()}
    found["method"] = headers.get("x-forwarded-method") or headers.get("x-original-method") or method
    if uri := headers.get("x-forwarded-uri") or headers.get("x-original-uri") or headers.get("x-original-url"):
        found["route"] = route_of(uri)
    for attribute, field in (("host", "x-forwarded-host"), ("scheme", "x-forwarded-proto")):
        if headers.get(field):
            found[attribute] = headers[field].lower()
    if address := _client(headers.get("x-forwarded-for", ""), peer, trusted_hops):
        found["ip"] = address
    return found


def route_of(uri: str) -> str:
    """Give the path of *uri* (a path with query, or a whole URL) in its plainest form; `/` where it has none."""
    if not uri.startswith("/") and "://" in uri:
        uri = "/" + uri.partition("://")[2].partition("/")[2]
    path = unquote(uri.partition("?")[0].partition("#")[0], errors="replace")
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return plain + "/" if path.endswith("/") and plain != "/" else plain


def _client(forwarded_for: str, peer: str | None, trusted_hops: int) -> str:
    entries = [entry.strip() for entry in forwarded_for.split(",") if entry.strip()]
    if entries and trusted_hops:
        address = without_port(entries[-min(trusted_hops, len(entries))])
        try:
            parse_address(address)
        except ValueError:
            pass  # `unknown`, or no address at all: nothing that could be believed
        else:
            return address
    return peer or ""


def without_port(entry: str) -> str:
    """Give the address of an entry that may carry a port: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
