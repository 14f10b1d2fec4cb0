"""One operator process: makes the parts, connects them, runs their loops, and ends them in order.

At the end streams are told goodbye first (their sidecars go to another replica at once), then the Lease is given back, then the loops stop. A loop that fails is a bug:
the process ends with a traceback and is started again, while sidecars keep serving.
"""

import asyncio
import gc
import signal
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from pillion.version import VERSION
from pillion_operator import event_loop, journal
from pillion_operator.admin import Admin
from pillion_operator.announcing import Announcer
from pillion_operator.api import Api, ApiError
from pillion_operator.audit import Audit
from pillion_operator.authentication import Authenticator
from pillion_operator.catalogue import Catalogue, Known, Vocabulary
from pillion_operator.controller import Controller
from pillion_operator.fleet import Fleet, PodUid
from pillion_operator.gatekeeping import Gatekeeper
from pillion_operator.history import History
from pillion_operator.lease import Leadership
from pillion_operator.peers import Peers
from pillion_operator.reporting import Reporter
from pillion_operator.secretstore import SecretStore
from pillion_operator.server import Server
from pillion_operator.settings import Settings
from pillion_operator.watching import Watcher
from pillion_operator.work import QueueMetrics

JSON = Any


def run(settings: Settings) -> int:
    """Run an operator until SIGTERM or SIGINT; gives the exit code.

    Raises:
        InvalidSettingsError: there are no credentials for a cluster.
        OSError: an address is taken, or a certificate cannot be read.
    """
    journal.configure()
    rest_heap()
    with asyncio.Runner(loop_factory=event_loop.new) as runner:
        return runner.run(operate(settings))


def rest_heap() -> None:
    """Keep what is there out of later garbage collections: a full one over all modules and resources stops every answer for tens of milliseconds."""
    gc.collect()
    gc.freeze()


async def operate(settings: Settings) -> int:
    """Run an operator in the running loop."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    api = await Api.connect(settings, registry)
    try:
        await Operator(settings, api, registry).run(stopping)
    finally:
        await api.close()
    return 0


class Operator:
    """All parts of one process.

    Args:
        settings: its settings.
        api: the way to the API server.
        registry: where metrics are registered.
        vocabulary: kinds and blocks; tests give fewer.
    """

    def __init__(
        self, settings: Settings, api: Api, registry: CollectorRegistry, vocabulary: Vocabulary | None = None
    ) -> None:
        self._log = structlog.get_logger("operator")
        self._settings = settings
        self._api = api
        self._registry = registry
        vocabulary = vocabulary or Vocabulary.load()
        queues = QueueMetrics(registry)
        catalogue, fleet = Catalogue(vocabulary), Fleet()
        self._secrets = SecretStore(api, settings.secret_interval, self._secret_changed)
        self._announcer = Announcer(api, settings.identity)
        self._leadership = Leadership(settings, api, registry, self._leading)
        self._reporter = Reporter(
            settings,
            api,
            vocabulary=vocabulary,
            catalogue=catalogue,
            fleet=fleet,
            secrets=self._secrets,
            announcer=self._announcer,
            leading=lambda: self._leadership.leading,
            queues=queues,
            registry=registry,
            pods=self._pods,
            absent=self._absent,
        )
        self._gatekeeper = Gatekeeper(
            settings,
            api,
            kinds=vocabulary.kinds,
            catalogue=catalogue,
            announcer=self._announcer,
            leading=lambda: self._leadership.leading,
            counted=self._reporter.look_at,
            connected=lambda namespace, uid: fleet.get(namespace, PodUid(uid)) is not None,
            registry=registry,
        )
        self.controller = Controller(
            vocabulary=vocabulary,
            catalogue=catalogue,
            fleet=fleet,
            secrets=self._secrets,
            reporter=self._reporter,
            recall=History(api, vocabulary.kinds, catalogue).recall,
            departure_grace=settings.departure_grace,
            queues=queues,
            registry=registry,
        )
        self._peers = Peers(
            settings,
            fleet,
            leader_address=lambda: self._leadership.leader_address,
            take=self.controller.reported,
            trusted=self._gatekeeper.trusted,
        )
        self.controller.on_facts_changed = self._peers.facts_changed
        kinds = vocabulary.kinds.values()
        self._watcher = Watcher(api, kinds, self._told, registry)
        self._audit = Audit(
            api,
            kinds,
            catalogue,
            changed=lambda document: self.controller.changed(document, trusted=True),
            deleted=self.controller.deleted,
            loaded=self._watcher.start,
            interval=settings.audit_interval,
            registry=registry,
        )
        self.controller.complete = self._audit.complete
        self._stopping = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until *stopping* is set."""
        settings = self._settings
        authenticator = Authenticator(
            self._api, remember=settings.token_cache, allow_unbound=settings.allow_unbound_tokens
        )
        server = Server(
            settings,
            self.controller,
            authenticator,
            tls=self._gatekeeper.tls,
            own_account=await self._own_account(),
            take_report=self._peers.heard,
            registry=self._registry,
        )
        admin = Admin(
            settings.admin_address, self._registry, live=self._live, ready=self._ready, refresh=self.controller.count
        )
        self._reporter.settle()
        await admin.start()
        await self._gatekeeper.start()
        await server.start()
        self._log.info(
            "operator started",
            version=VERSION,
            identity=settings.identity,
            stream_port=server.port,
            admission_port=self._gatekeeper.port,
            admin_port=admin.port,
            tls=not settings.insecure,
        )
        loops = {
            "controller": self.controller.run(),
            "status": self._reporter.queue.run(),
            "events": self._announcer.run(),
            "secrets": self._secrets.run(),
            "audit": self._audit.run(),
            "lease": self._leadership.run(),
            "heap": self._rest_heap_when_loaded(),
            "peers": self._peers.run(),
            **self._gatekeeper.loops(),
        }
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(loop, name=f"operator: {name}") for name, loop in loops.items()]
                await stopping.wait()
                self._stopping = True
                self._log.info("stopping")
                await server.stop()
                await self._leadership.release()
                await self._gatekeeper.stop()
                for task in tasks:
                    task.cancel()
        finally:
            await self._watcher.stop()
            await server.stop()
            await self._gatekeeper.stop()
            await admin.stop()

    async def _rest_heap_when_loaded(self) -> None:
        await self._audit.complete.wait()
        rest_heap()

    def _leading(self, leading: bool) -> None:  # noqa: FBT001 - a callback with one meaning
        if leading:
            self._reporter.settle()
            self._reporter.look_at_all()
            self._gatekeeper.leads()

    def _told(self, batch: list[tuple[str | None, JSON]]) -> None:
        self.controller.told(self._gatekeeper.sift(batch))

    def _pods(self, known: Known) -> Mapping[str, JSON]:
        return self._gatekeeper.counts(known)

    def _absent(self, known: Known) -> tuple[str, ...] | None:
        return self._gatekeeper.absent(known)

    def _secret_changed(self, namespace: str) -> None:
        self.controller.secret_changed(namespace)

    def _live(self) -> str:
        return "the watcher's thread has ended" if self._watcher.ended and not self._stopping else ""

    def _ready(self) -> str:
        if self._stopping:
            return "stopping"
        if not self._gatekeeper.ready:
            return "there is no certificate yet that the API server trusts"
        return "" if self._audit.complete.is_set() else "not all resources are known yet"

    async def _own_account(self) -> str:
        """Give `namespace/name` of the service account that we are; empty where we are somebody else."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self._api.create(
                "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, resource="selfsubjectreviews"
            )
        except ApiError as error:
            self._log.warning("cannot learn the own identity; replicas' reports are not taken", error=str(error))
            return ""
        username = str(((answer.get("status") or {}).get("userInfo") or {}).get("username", ""))
        prefix = "system:serviceaccount:"
        return username.removeprefix(prefix).replace(":", "/") if username.startswith(prefix) else ""
