"""One authority for all replicas: the Secret in which it is kept, and what each replica must do about it. Pure.

The Secret holds the signing authority (`ca.crt`, `ca.key`), the one to come (`next-ca.crt`, `next-ca.key`) while it is being announced, and
the former one (`old-ca.crt`) while certificates of its making are still about. Every replica computes the same plan from the same Secret and writes it with
the resource version that it read: of several replicas that race, one write wins, and the others read again and find nothing left to do.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pillion_operator.certificates import CA_RENEW, BadCertificate, KeyPair, bundle, expires, make_authority

SECRET_NAME: Final = "pillion-ca"  # noqa: S105 - the name of a Secret
ANNOUNCE: Final = timedelta(hours=24)
"""How long a new authority is announced before it signs: a ConfigMap volume follows within two minutes, a day covers every hiccup."""

_NEXT_SINCE: Final = "next-since"


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """The authority in force, and what clients must trust."""

    signing: KeyPair
    trusted: bytes


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: the authority that holds once `write` is stored; None where nothing is to be written."""

    authority: Authority
    write: Mapping[str, bytes] | None = None


def plan(stored: Mapping[str, bytes] | None, now: datetime) -> Plan:
    """Decide from the Secret's data (None: there is no Secret) what holds and what must be written."""
    data = dict(stored or {})
    signing = _pair(data, "ca")
    if signing is None:
        fresh = make_authority(now)
        return _planned({"ca.crt": fresh.certificate, "ca.key": fresh.key}, fresh)
    coming = _pair(data, "next-ca")
    if expires(signing) - now > CA_RENEW:
        if "next-ca.crt" in data and coming is None:
            del data["next-ca.crt"]
            data.pop("next-ca.key", None)
            return _planned(data, signing)
        return Plan(authority=_authority(data, signing))
    if coming is None:
        fresh = make_authority(now)
        since = now.astimezone(UTC).isoformat().encode()
        return _planned(
            data | {"next-ca.crt": fresh.certificate, "next-ca.key": fresh.key, _NEXT_SINCE: since}, signing
        )
    if now - _since(data, now) < ANNOUNCE:
        return Plan(authority=_authority(data, signing))
    return _planned({"ca.crt": coming.certificate, "ca.key": coming.key, "old-ca.crt": signing.certificate}, coming)


def encode(data: Mapping[str, bytes]) -> dict[str, str]:
    """Give the `data` of a Secret."""
    return {name: base64.b64encode(value).decode() for name, value in data.items()}


def decode(data: Mapping[str, str] | None) -> dict[str, bytes]:
    """Read the `data` of a Secret; what is no base64 reads as empty."""
    found = {}
    for name, text in (data or {}).items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            found[name] = b""
    return found


def _planned(data: dict[str, bytes], signing: KeyPair) -> Plan:
    return Plan(authority=_authority(data, signing), write=data)


def _authority(data: Mapping[str, bytes], signing: KeyPair) -> Authority:
    trusted = bundle(signing.certificate, data.get("next-ca.crt", b""), data.get("old-ca.crt", b""))
    return Authority(signing=signing, trusted=trusted)


def _pair(data: Mapping[str, bytes], name: str) -> KeyPair | None:
    if not data.get(f"{name}.crt") or not data.get(f"{name}.key"):
        return None
    pair = KeyPair(certificate=data[f"{name}.crt"], key=data[f"{name}.key"])
    try:
        expires(pair)
    except BadCertificate:
        return None
    return pair


def _since(data: Mapping[str, bytes], now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(data[_NEXT_SINCE].decode())
    except (KeyError, ValueError):
        return now
