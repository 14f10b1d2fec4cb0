"""All of one process that stands between the API server and pods: certificates and who trusts them, the webhooks, and the repair of what they missed.

It connects these parts and decides nothing itself. Certificates and webhooks work on every replica; spreading trust and searching for missed pods is the leader's.
"""

import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry

from pillion.kinds.definition import Kind
from pillion_operator import installation
from pillion_operator.admission.server import AdmissionServer
from pillion_operator.announcing import Announcer
from pillion_operator.api import Api
from pillion_operator.catalogue import Catalogue, Known, ResourceKey
from pillion_operator.certificate_keeper import CertificateKeeper
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespaces
from pillion_operator.repairing import Repairer
from pillion_operator.settings import Settings
from pillion_operator.transport_security import Certificates, FileCertificates
from pillion_operator.trust import Trust

JSON = Any

Event = tuple[str | None, JSON]

NAMESPACE_KIND: Final = "Namespace"


class Gatekeeper:
    """The parts.

    Args:
        settings: where and how.
        api: the way to the API server.
        kinds: the kinds.
        catalogue: the resources.
        announcer: posts Events.
        leading: tells whether this replica holds the Lease.
        counted: called with a resource whose counts of pods have changed.
        connected: tells whether some replica holds the stream of a pod, given by namespace and uid.
        registry: where metrics are registered.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        *,
        kinds: Mapping[str, Kind[Any]],
        catalogue: Catalogue,
        announcer: Announcer,
        leading: Callable[[], bool],
        counted: Callable[[ResourceKey], None],
        connected: Callable[[str, str], bool],
        registry: CollectorRegistry,
    ) -> None:
        self._certificates = self._choose(settings, api, registry)
        self._catalogue = catalogue
        self.namespaces = Namespaces(api, settings.audit_interval, self._changed)
        injector = Injector(settings)
        self._repairer = Repairer(
            settings,
            api,
            kinds=kinds,
            catalogue=catalogue,
            namespaces=self.namespaces,
            inject=injector,
            announcer=announcer,
            leading=leading,
            counted=counted,
            found=self._changed,
            connected=connected,
            registry=registry,
        )
        self._trust = Trust(
            api,
            bundle=self._bundle,
            namespaces=self._with_sidecars,
            name=settings.webhook_name,
            leading=leading,
            registry=registry,
        )
        self._server: AdmissionServer | None = None
        if self._certificates is not None and settings.admission_address:
            self._server = AdmissionServer(
                settings.admission_address,
                self._certificates.context,
                kinds=kinds,
                catalogue=catalogue,
                namespaces=self.namespaces,
                inject=injector,
                registry=registry,
            )

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The certificate of the listeners; None where they are served in the clear."""
        return self._certificates.context if self._certificates else None

    @property
    def ready(self) -> bool:
        """Whether the listeners have a certificate, and the API server has been seen to trust it."""
        if self._certificates is None:
            return True
        return self._certificates.ready and (self._trust.told or not self._bundle())

    @property
    def port(self) -> int:
        """Port of the webhooks; 0 where there are none."""
        return self._server.port if self._server else 0

    def trusted(self) -> bytes:
        """Give the authorities that the other replicas' certificates lead to."""
        return self._bundle()

    def counts(self, known: Known) -> Mapping[str, JSON]:
        """Give the status fields that count pods."""
        return self._repairer.counts(known)

    def absent(self, known: Known) -> tuple[str, ...] | None:
        """Give the pods whose sidecar runs a resource and is not heard; None while nobody knows."""
        return self._repairer.absent(known)

    def sift(self, batch: Iterable[Event]) -> list[Event]:
        """Take what the watch tells about namespaces; gives the rest."""
        rest = []
        for kind, document in batch:
            if document.get("kind") == NAMESPACE_KIND:
                self.namespaces.told(kind, document)
            else:
                rest.append((kind, document))
        return rest

    def leads(self) -> None:
        """Take the news that this replica leads."""
        self._changed()

    async def start(self) -> None:
        """Get a certificate, if that is possible now, and listen.

        Raises:
            OSError: the address is taken, or a certificate file cannot be read.
        """
        if self._certificates is not None:
            await self._certificates.start()
        if self._server is not None:
            await self._server.start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.stop()

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Give what must run, by name."""
        loops = {
            "namespaces": self.namespaces.run(),
            "repair": self._repairer.run(),
            "trust": self._trust.run(),
        }
        if self._certificates is not None:
            loops["certificates"] = self._certificates.run()
        return loops

    def _choose(self, settings: Settings, api: Api, registry: CollectorRegistry) -> Certificates | None:
        if settings.insecure:
            return None
        if settings.tls_cert and settings.tls_key:
            files = (settings.tls_cert, settings.tls_key, settings.tls_ca)
            return FileCertificates(*files, registry=registry, changed=self._changed)
        names = installation.own_names(settings)
        return CertificateKeeper(api, settings.namespace, names, registry, changed=self._changed)

    def _bundle(self) -> bytes:
        return self._certificates.trusted if self._certificates else b""

    def _with_sidecars(self) -> set[str]:
        """Give the namespaces whose sidecars must know whom to trust: those that ask, those with labelled pods, and those with resources, whose pods may be labelled next."""
        return {*self.namespaces.asking(), *self._repairer.with_pods, *self._catalogue.namespaces()}

    def _changed(self) -> None:
        self._trust.changed()
