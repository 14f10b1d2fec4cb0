"""Values that must not be found anywhere, and the search for them in every form that they may take on their way."""

import base64
import binascii
import json
import secrets
from urllib.parse import quote

LENGTH = 24
"""Characters of a canary: none appears by chance, and each is longer than what redaction may leave out as an innocent word."""


def canary(what: str) -> str:
    """Make a value that says where it was planted."""
    return f"Canary{what}{secrets.token_hex(LENGTH // 2)}"


def forms(value: str | bytes) -> dict[str, bytes]:
    """Give how a value may look: as it is, in base64 at any offset within something longer, in hexadecimal, in a URL, in JSON."""
    raw = value.encode() if isinstance(value, str) else value
    found = {"plain": raw, "hex": binascii.hexlify(raw)}
    for offset in range(3):
        # Without the first and last characters, which depend on what stands beside it.
        text = base64.b64encode(b"\0" * offset + raw)
        found[f"base64+{offset}"] = text[4:-4]
        found[f"base64url+{offset}"] = text[4:-4].translate(bytes.maketrans(b"+/", b"-_"))
    if isinstance(value, str):
        found["url"] = quote(value, safe="").encode()
        found["json"] = json.dumps(value)[1:-1].encode()
    return found


def escaped(haystacks: dict[str, bytes], planted: dict[str, str | bytes]) -> list[str]:
    """Tell which planted value was found where, and in which form; never the value."""
    return sorted(
        {
            f"{what} ({form}) in {where}"
            for what, value in planted.items()
            for form, needle in forms(value).items()
            for where, haystack in haystacks.items()
            if needle in haystack
        }
    )
