"""Signing by Standard Webhooks 1.0.0, scheme v1: HMAC-SHA256 over `id.timestamp.body`. Pure.

The bytes that are signed are the bytes that are sent. With several secrets there are several signatures in one header, separated by single
spaces, as every receiver of this standard expects during a rotation.
"""

import base64
import binascii
import hmac
from typing import Final

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
LONGEST: Final = 64
"""Bytes of a key, by the specification."""

MOST: Final = 8
"""Secrets in one Secret value: a rotation has two; more than a few would only lengthen every request."""


class SigningKey:
    """One secret. Its repr shows nothing."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, message_id: str, timestamp: int, body: bytes) -> str:
        """Give the signature as it stands in the header: `v1,` and base64."""
        digest = hmac.digest(self._key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
        return "v1," + base64.b64encode(digest).decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and hmac.compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return "SigningKey(…)"


def read_keys(value: bytes) -> tuple[SigningKey, ...]:
    """Read the value of a Secret: one secret or several, separated by white space, each with or without `whsec_` and padding.

    Raises:
        ValueError: there is none, too many, or one that cannot be used. The message tells which by its place and nothing of its content.
    """
    try:
        words = value.decode("ascii").split()
    except UnicodeDecodeError:
        raise ValueError("holds bytes that are no ASCII; store whsec_ and base64 text, not the decoded bytes") from None
    if not words:
        raise ValueError("is empty; store whsec_ and base64 of 24 to 64 random bytes")
    if len(words) > MOST:
        raise ValueError(f"holds {len(words)} secrets, at most {MOST} can sign; remove the oldest")
    return tuple(_key(word, place) for place, word in enumerate(words, 1))


def _key(word: str, place: int) -> SigningKey:
    text = word.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"secret {place} is not base64; store whsec_ and standard base64") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"secret {place} has {len(key)} bytes; Standard Webhooks wants {SHORTEST} to {LONGEST}")
    return SigningKey(key)


def signature(keys: tuple[SigningKey, ...], message_id: str, timestamp: int, body: bytes) -> str:
    """Give the `webhook-signature` header field: one token per key.

    Args:
        keys: at least one.
        message_id: `webhook-id`; holds no full stop.
        timestamp: `webhook-timestamp`, Unix seconds of the attempt.
        body: the bytes that are sent.
    """
    return " ".join([key.token(message_id, timestamp, body) for key in keys])
