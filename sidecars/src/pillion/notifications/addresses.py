"""E-mail addresses by the grammar of RFC 5321, and nothing that could reach a header or an SMTP command as more than an address.

`mailbox` accepts `Local-part@Domain` of RFC 5321 section 4.1.2 in ASCII: dot strings and quoted strings, domain names and address literals, within
the length limits of section 4.5.3.1. It does not accept internationalised addresses (SMTPUTF8, RFC 6531): write the domain in its ASCII form.
Whether a mailbox exists only its server knows.
"""

import ipaddress
import re
from email.headerregistry import Address
from typing import Final

MAX_ADDRESS: Final = 254
"""Octets of an address: a path of 256 (RFC 5321 section 4.5.3.1.3) without its angle brackets."""

MAX_LOCAL: Final = 64
"""Octets of a local part (RFC 5321 section 4.5.3.1.1)."""

MAX_NAME: Final = 200
"""Characters of a display name: our own bound."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAMED = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^"<>@,;:\\]*?))\s*<(?P<address>[^<>]*)>\s*')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def mailbox(text: str) -> str:
    """Give *text* when it is one address, such as `ada@example.com`.

    Raises:
        ValueError: it is none; the message names the rule and the fix.
    """
    if not text.isascii():
        raise ValueError(
            "has characters outside ASCII; write the domain in its ASCII form (xn--…), international local parts are not supported"
        )
    if len(text) > MAX_ADDRESS:
        raise ValueError(f"is longer than {MAX_ADDRESS} octets (RFC 5321 section 4.5.3.1)")
    local, separator, domain = text.rpartition("@")
    if not separator:
        raise ValueError("has no @; write it as in ada@example.com")
    if not (_DOT_STRING.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise ValueError("has a local part that RFC 5321 does not allow; write it as in ada.lovelace@example.com")
    if len(local) > MAX_LOCAL:
        raise ValueError(f"has a local part longer than {MAX_LOCAL} octets (RFC 5321 section 4.5.3.1.1)")
    if not (_DOMAIN.fullmatch(domain) or _is_literal(domain)):
        raise ValueError("has a domain that is no host name; write it as in ada@example.com")
    return text


def _is_literal(domain: str) -> bool:
    if not (domain.startswith("[") and domain.endswith("]")):
        return False
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(inner[5:])
        else:
            ipaddress.IPv4Address(inner)
    except ValueError:
        return False
    return "%" not in inner


def display_name(text: str) -> str:
    """Give *text* when it can stand beside an address in a header.

    Raises:
        ValueError: it is too long or holds control characters, which could begin another header.
    """
    if len(text) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters")
    if _CONTROL.search(text):
        raise ValueError("holds a line break or another control character; write it on one line")
    return text


def named_mailbox(text: str) -> tuple[str, str]:
    """Split `Shop <no-reply@shop.example>` or a bare address into (display name, address).

    Raises:
        ValueError: it is neither.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        return "", mailbox(text.strip(" "))
    quoted = found["quoted"]
    name = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found["plain"].strip()
    return display_name(name), mailbox(found["address"])


def header_address(name: str, address: str) -> Address:
    """Give the address as the standard library's header classes want it. Both parts must have passed the checks above."""
    local, _, domain = address.rpartition("@")
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return Address(display_name=name, username=local, domain=domain)
