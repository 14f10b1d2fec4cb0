"""Who may ask: the Host check against DNS rebinding, the Origin check against cross-site requests, and the bearer token.

Decisions only, over header values; both lanes of the server ask the same object, which is why they cannot differ. A browser on the same machine is
the adversary of the first two: a web page can make it send requests to localhost, but it cannot forge `Host` or leave out `Origin`.
"""

import hmac
from typing import Final

from pillion.runtime.problems import FieldError, Problem

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine that are always allowed in `Host`."""

_SCHEME: Final = "bearer "


class Gate:
    """The checks of one listener.

    Args:
        check_host: whether `Host` must be a known name (TCP); a unix socket cannot be reached by a browser.
        allowed_hosts: known names beside the loopback ones.
    """

    def __init__(self, *, check_host: bool, allowed_hosts: tuple[str, ...] = ()) -> None:
        self._hosts = LOOPBACK_NAMES | {name.lower() for name in allowed_hosts} if check_host else None
        self._token: bytes | None = None

    def set_token(self, token: bytes | None) -> None:
        """Require *token* from now on; None requires none."""
        self._token = token

    @property
    def needs_token(self) -> bool:
        """Whether a token is required."""
        return self._token is not None

    def admit(self, host: str, origin: str | None, authority: str | None = None) -> None:
        """Let a request in, or not.

        Args:
            host: the `Host` field; empty where there is none.
            origin: the `Origin` field; None where there is none.
            authority: the authority of an absolute request target, which overrules `Host` (RFC 9112 section 3.2.2).

        Raises:
            Problem: 421 for a foreign host name, 403 for a foreign origin.
        """
        if self._hosts is not None:
            for name in (host,) if authority is None else (host, authority):
                if name_of(name) not in self._hosts:
                    raise Problem(
                        421,
                        "misdirected-request",
                        "Misdirected request",
                        f'Host "{name[:100]}" is not served here; ask for localhost, or add the name to the allowed hosts.',
                        errors=[FieldError("header:host", "is not an allowed host name")],
                    )
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise Problem(
                403,
                "foreign-origin",
                "Foreign origin",
                "Requests from web pages of another origin are not answered; ask from a server or from a page of this origin.",
                errors=[FieldError("header:origin", "is not this origin")],
            )

    def authorize(self, authorization: str | None) -> None:
        """Check the `Authorization` field against the token, in constant time.

        Raises:
            Problem: 401, with the `WWW-Authenticate` field of RFC 6750.
        """
        if self._token is None:
            return
        given = authorization or ""
        if given[: len(_SCHEME)].lower() == _SCHEME:
            token = given[len(_SCHEME) :].strip(" ").encode("utf-8", "surrogateescape")
            if hmac.compare_digest(token, self._token):
                return
        raise Problem(
            401,
            "unauthorized",
            "Unauthorized",
            "This route needs the token of the sidecar; send `Authorization: Bearer <token>`.",
            headers={"WWW-Authenticate": 'Bearer realm="pillion"'},
        )


def name_of(host: str) -> str:
    """Give the host name of a `Host` field, lower case, without its port; empty where the port is no number.

    An IPv6 address keeps its brackets; the last dot of a fully qualified name is dropped.
    """
    if host.startswith("["):
        name, bracket, port = host.partition("]")
        name += bracket
        if port and port[0] != ":":
            return ""
        port = port[1:]
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return ""
    return name.lower().removesuffix(".")
