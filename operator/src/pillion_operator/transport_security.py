"""The certificate of this replica's listeners, whoever made it, in a TLS context that is refreshed in place: new handshakes use the new one, open connections go on.

`FileCertificates` follows files that somebody else renews (cert-manager, a person); `certificate_keeper` makes its own. Both look the same to the listeners.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from pillion_operator.certificates import KeyPair, last_day

LOOK_PAUSE: Final = 10.0
"""Seconds between two looks at certificate files."""


class Certificates(Protocol):
    """Where a listener's certificate comes from."""

    context: ssl.SSLContext
    """For the listeners; handshakes fail until there is a certificate."""

    @property
    def ready(self) -> bool:
        """Whether there is a certificate."""

    @property
    def trusted(self) -> bytes:
        """PEM of the authorities that clients shall trust; empty where that is not known here."""

    async def start(self) -> None:
        """Get a certificate if that is possible now.

        Raises:
            OSError: a file cannot be read.
        """

    async def run(self) -> None:
        """Keep it fresh, until cancelled."""


def expiry_gauge(registry: CollectorRegistry) -> Gauge:
    """Make the metric of when certificates end: the same for those that are made here and those that are given."""
    return Gauge(
        "pillion_operator_certificate_expiry_timestamp_seconds",
        "When a certificate ends: the authority's, and that of this replica's listeners.",
        ["certificate"],
        registry=registry,
    )


def server_context() -> ssl.SSLContext:
    """Make the context of a listener, still without a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Load a certificate that is in memory. The ssl module reads files only, so it is given one that exists in memory alone: the key reaches no disk.

    Raises:
        ssl.SSLError: certificate and key cannot be used; *context* is as before.
    """
    # Tried apart first: a context that has refused a pair has lost the one it had.
    _load(server_context(), pair)
    _load(context, pair)


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pair.certificate.rstrip(b"\n") + b"\n" + pair.key)
        # A password, so that an encrypted key is an error and never a question on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


class FileCertificates:
    """Certificate, key and perhaps authority in files.

    Args:
        certificate: PEM file with the chain.
        key: PEM file with its key.
        authority: PEM file with what clients shall trust; None leaves telling them to others.
        registry: where metrics are registered; None for none.
        changed: called when clients shall trust something else than before.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        authority: Path | None = None,
        *,
        registry: CollectorRegistry | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._expiry = expiry_gauge(registry) if registry else None
        self._changed = changed
        self._files = [certificate, key, *([authority] if authority else [])]
        self._authority = authority
        self._seen: list[tuple[int, int]] = []
        self._trusted = b""
        self._log = structlog.get_logger("certificates")
        self.context = server_context()

    @property
    def ready(self) -> bool:
        """Whether there is a certificate."""
        return bool(self._seen)

    @property
    def trusted(self) -> bytes:
        """What clients shall trust; empty where no authority was named."""
        return self._trusted

    async def start(self) -> None:
        """Read the files.

        Raises:
            OSError: one cannot be read.
        """
        self._read()

    async def run(self) -> None:
        """Follow the files, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            if self._stamps() == self._seen:
                continue
            try:
                self._read()
            except (OSError, ssl.SSLError) as error:
                # The files change one after the other; the next look finds them in agreement.
                self._log.warning("the new certificate cannot be used yet", error=str(error))
                continue
            self._log.info("the certificate was replaced")

    def _read(self) -> None:
        stamps = self._stamps()
        pair = KeyPair(certificate=self._files[0].read_bytes(), key=self._files[1].read_bytes())
        trusted = self._authority.read_bytes() if self._authority else b""
        load(self.context, pair)
        before, self._trusted = self._trusted, trusted
        self._seen = stamps
        if self._expiry:
            for name, pem in (("server", pair.certificate), ("authority", trusted)):
                if (ends := last_day(pem)) is not None:
                    self._expiry.labels(name).set(ends.timestamp())
        if before != trusted:
            self._changed()

    def _stamps(self) -> list[tuple[int, int]]:
        found = []
        for path in self._files:
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_ino))
            except OSError:
                found.append((0, 0))
        return found
