"""The keys and certificates of one test cluster: a CA, the server's certificate, a certificate per client, the key that signs service-account tokens.

Everything is made anew for each cluster, in a folder that dies with it. Files, because Go programs and Python's ssl both read files; mode 0600.
Names follow the authenticators of Kubernetes: the common name is the user, each organization a group.
"""

import datetime as dt
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = dt.timedelta(days=30)
"""Longer than any run, short enough that a forgotten folder holds nothing of value for long."""


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in *folder*, which also receives what it issues."""

    def __init__(self, folder: Path, name: str = "pillion-tests") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "ca.crt"
        _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A certificate for a server that answers under *addresses* (IP addresses and DNS names)."""
        return self._issue(name, name, (), ExtendedKeyUsageOID.SERVER_AUTH, addresses)

    def client(self, user: str, groups: Iterable[str] = ()) -> KeyPair:
        """A certificate that authenticates as *user* in *groups*."""
        return self._issue(user.replace(":", "-"), user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def _issue(
        self,
        filename: str,
        common_name: str,
        organizations: Iterable[str],
        purpose: x509.ObjectIdentifier,
        addresses: Sequence[str],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        builder = (
            _builder(x509.Name(subject), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if addresses:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative_name(it) for it in addresses]), critical=False
            )
        pair = KeyPair(self._folder / f"{filename}.crt", self._folder / f"{filename}.key")
        _write(pair.certificate, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        _write(pair.key, _private_pem(key))
        return pair


def signing_key(folder: Path) -> Path:
    """A private key for service-account tokens (ES256); the API server and the controller manager derive the public half."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "service-accounts.key"
    _write(path, _private_pem(ec.generate_private_key(ec.SECP256R1())))
    return path


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))  # a virtual machine's clock may step back a little
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # The classic EC form: the token code of Kubernetes reads it as well as PKCS 8.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
