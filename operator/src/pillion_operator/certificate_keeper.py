"""The operator's own authority, kept in the Secret `pillion-ca`, and this replica's server certificate, which exists in its memory alone.

Every replica reads the Secret, plans (see `authority`) and writes with the version that it read. Of several that race one wins; the others are told of the conflict,
read again and find nothing left to do. An API server that is away delays a renewal and nothing else: a certificate is renewed a month before its end.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from pillion_operator import authority
from pillion_operator.api import Api, ApiError, core_path
from pillion_operator.authority import SECRET_NAME, Authority
from pillion_operator.certificates import BadCertificate, KeyPair, expires, issue, serves
from pillion_operator.transport_security import expiry_gauge, load, server_context

JSON = Any

LOOK_PAUSE: Final = 60.0
"""Seconds between two looks at the Secret."""
RETRY_PAUSE: Final = 2.0
"""Seconds before the next attempt while there is no certificate at all."""
ATTEMPTS: Final = 10
"""Lost races in a row after which a replica takes a pause; each lost race is another replica's success."""


class CertificateKeeper:
    """Keeps authority and certificate.

    Args:
        api: the way to the API server.
        namespace: the operator's own, where the Secret is.
        names: DNS names and addresses that the certificate is for.
        registry: where metrics are registered.
        changed: called when clients shall trust something else than before.
        now: the time of day.
        sleep: waits; tests have their own.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        names: Sequence[str],
        registry: CollectorRegistry,
        *,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._path = core_path("secrets", namespace, SECRET_NAME)
        self._names = tuple(dict.fromkeys(names))
        self._changed = changed
        self._now = now
        self._sleep = sleep
        self._authority: Authority | None = None
        self._server: KeyPair | None = None
        self._chance = random.Random()  # noqa: S311 - keeps replicas from asking in step, protects nothing
        self._log = structlog.get_logger("certificates")
        self.context = server_context()
        self._expiry = expiry_gauge(registry)

    @property
    def ready(self) -> bool:
        """Whether there is a certificate."""
        return self._server is not None

    @property
    def trusted(self) -> bytes:
        """What clients shall trust: the authority, the one to come, and the former one."""
        return self._authority.trusted if self._authority else b""

    async def start(self) -> None:
        """Get a certificate if the API server answers; `run` goes on trying."""
        await self._attempt()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            pause = LOOK_PAUSE if self.ready else RETRY_PAUSE
            await self._sleep(pause * self._chance.uniform(0.8, 1.2))
            await self._attempt()

    async def settle(self) -> None:
        """Bring Secret, authority and certificate up to date.

        Raises:
            ApiError: the API server refused or could not be reached.
            BadCertificate: what is stored cannot be used.
        """
        for _ in range(ATTEMPTS):
            secret = await self._read()
            stored = None if secret is None else authority.decode(secret.get("data"))
            planned = authority.plan(stored, self._now())
            if planned.write is not None:
                try:
                    await self._write(secret, authority.encode(planned.write))
                except ApiError as error:
                    if error.status in (404, 409):
                        continue  # another replica was quicker, or somebody deleted it meanwhile
                    raise
                self._log.info("the authority was written", made=secret is None)
            self._adopt(planned.authority)
            return
        raise ApiError(409, "Conflict", f"lost {ATTEMPTS} races for the Secret {SECRET_NAME}")

    async def _attempt(self) -> None:
        try:
            await self.settle()
        except (ApiError, BadCertificate) as error:
            fix = ""
            if isinstance(error, ApiError) and error.status == 403:
                fix = "; apply the operator's Role, or give --tls-cert and --tls-key"
            self._log.warning(f"the authority cannot be kept{fix}", error=str(error), serving=self.ready)

    async def _read(self) -> JSON:
        try:
            return await self._api.get(self._path, resource="secrets")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _write(self, secret: JSON, data: dict[str, str]) -> None:
        if secret is not None:
            # With the resourceVersion that was read: a write of another replica in between makes this one fail.
            await self._api.replace(self._path, secret | {"data": data}, resource="secrets")
            return
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": SECRET_NAME, "labels": {"app.kubernetes.io/managed-by": "pillion-operator"}},
            "data": data,
        }
        await self._api.create(self._collection, body, resource="secrets")

    def _adopt(self, found: Authority) -> None:
        now = self._now()
        if self._server is None or not serves(self._server, found.signing, self._names, now):
            fresh = issue(found.signing, self._names, now)
            load(self.context, fresh)
            self._log.info("a certificate was issued", names=self._names, until=expires(fresh).isoformat())
            self._server = fresh
        self._expiry.labels("server").set(expires(self._server).timestamp())
        self._expiry.labels("authority").set(expires(found.signing).timestamp())
        before, self._authority = self.trusted, found
        if before != found.trusted:
            self._changed()
