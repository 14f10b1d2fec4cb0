"""The operator's own certificate authority: made once, kept in a Secret, rotated without a restart. No chart makes secrets, no other system is needed.

Pure: keys and certificates as PEM in, PEM out, the time as an argument. Who stores them, and how replicas that race agree, is `authority.py`'s business.
A new authority is announced beside the old one before it signs anything: clients trust both while it spreads, so that a rotation breaks no
connection.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE: Final = timedelta(days=3650)
CA_RENEW: Final = timedelta(days=365)
"""A new authority is announced when the old one has this long to live: pods that read the bundle once have long been replaced by then."""

SERVER_LIFE: Final = timedelta(days=90)
SERVER_RENEW: Final = timedelta(days=30)
"""A third of the life left: time for a person to notice that renewal fails."""

BACKDATE: Final = timedelta(minutes=5)
"""Clocks differ: a certificate is valid a little before it was made."""

COMMON_NAME: Final = "pillion"


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its key, both PEM. The repr shows neither."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(…)"


class BadCertificate(ValueError):  # noqa: N818 - says what it is
    """Something stored is no certificate or no key that can be used."""


def make_authority(now: datetime) -> KeyPair:
    """Make a certificate authority that may sign server certificates and nothing below it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{COMMON_NAME} {now:%Y-%m-%d}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def issue(authority: KeyPair, names: Sequence[str], now: datetime) -> KeyPair:
    """Issue a server certificate.

    Args:
        authority: who signs.
        names: DNS names and addresses that it is for; the first is also its subject.
        now: the time.

    Raises:
        BadCertificate: the authority cannot be read.
    """
    signer, signing_key = _read(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + SERVER_LIFE, signer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
    return _pair(certificate, key)


def expires(pair: KeyPair) -> datetime:
    """Tell until when a certificate is valid.

    Raises:
        BadCertificate: it cannot be read.
    """
    return _read(pair)[0].not_valid_after_utc


def last_day(pem: bytes) -> datetime | None:
    """Tell until when the first certificate of a PEM file is valid, whatever its key; None where it holds none that can be read."""
    try:
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    except ValueError:
        return None


def serves(pair: KeyPair, authority: KeyPair, names: Sequence[str], now: datetime) -> bool:
    """Tell whether a server certificate can go on: signed by *authority*, for all *names*, and with more than the renewal time left."""
    try:
        certificate, key = _read(pair)
        signer, _ = _read(authority)
        certificate.verify_directly_issued_by(signer)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (BadCertificate, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    except Exception:  # noqa: BLE001 - the library raises InvalidSignature, which is no ValueError; any failure means: issue a new one
        return False
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    same_key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, public
    ) == key.public_key().public_bytes(serialization.Encoding.DER, public)
    return (
        same_key
        and {_general_name(name) for name in names} <= set(held)
        and certificate.not_valid_after_utc - now > SERVER_RENEW
    )


def bundle(*authorities: bytes) -> bytes:
    """Join certificates into one bundle, each once, in the order given."""
    return b"".join(dict.fromkeys(pem.strip() + b"\n" for pem in authorities if pem.strip()))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    pem = serialization.Encoding.PEM
    return KeyPair(
        certificate=certificate.public_bytes(pem),
        key=key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _read(pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise BadCertificate(f"a stored certificate or its key cannot be read: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificate("a stored key is not of an elliptic curve")
    return certificate, key
