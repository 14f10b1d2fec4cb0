"""The operator as a process of its own, and stand-ins for sidecars: what tests and benchmarks of the control plane share.

The operator runs with the rights of `operator/deploy/2-rbac.yaml` and nothing more, over TLS, with short intervals. A stand-in speaks with the sidecar's real stream client; only
what would apply the snapshot is a recorder.
"""

import asyncio
import http.client
import json
import sys
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from tests.support.cluster.api import Api
from tests.support.cluster.certificates import Authority
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.identities import Pod, request_token
from tests.support.cluster.kubeconfig import Access
from tests.support.cluster.processes import Process, free_ports

from pillion.kinds import registry
from pillion.kinds.crd import crd_yaml
from pillion.runtime.conditions import Conditions
from pillion.runtime.host import ApplyResult
from pillion.runtime.last_known_good import LastKnownGood
from pillion.runtime.stream import ConfigurationStream, StreamSettings

Json = dict[str, Any]

DEPLOY = Path(__file__).parents[3] / "operator" / "deploy"
NAMESPACE = "pillion-system"
ACCOUNT = "pillion-operator"

QUICK = (
    "--audit-interval=2",
    "--secret-interval=0.5",
    "--departure-grace=1",
    "--settle-time=3",
    "--lease-duration=3",
    "--lease-renew-deadline=2",
    "--lease-retry-period=0.5",
)
"""Flags that let a test see in seconds what takes a minute otherwise."""


BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Let a process keep what it compiles, whatever the caller's environment says: the next start takes seconds less."""


def install(cluster: Cluster, folder: Path) -> None:
    """Apply the resource definitions, the operator's namespace and its rights."""
    definitions = folder / "definitions"
    definitions.mkdir(parents=True, exist_ok=True)
    for kind in registry.kinds().values():
        (definitions / f"{kind.plural}.yaml").write_text(crd_yaml(kind))
    cluster.apply_crds(definitions)
    for name in ("1-namespace.yaml", "2-rbac.yaml"):
        cluster.kubectl.run("apply", "--server-side", "--force-conflicts", f"--filename={DEPLOY / name}")


async def account_access(cluster: Cluster) -> Access:
    """Access as the operator's service account."""
    async with Api(cluster.access) as api:
        token = await request_token(api, NAMESPACE, ACCOUNT, audience="https://kubernetes.default.svc")
    return Access(cluster.access.server, cluster.access.authority, token=token)


async def peer_token(cluster: Cluster) -> str:
    """A token with which one replica reports to another."""
    async with Api(cluster.access) as api:
        return await request_token(api, NAMESPACE, ACCOUNT)


class OperatorProcess:
    """One operator process. It keeps its ports over a restart.

    Args:
        access: as whom it asks the API server.
        folder: for its files and its log.
        flags: further flags.
        name: its identity.
        tls: whether it has a certificate by an authority of the tests.
        own_authority: whether it makes certificates itself instead.
    """

    def __init__(
        self,
        access: Access,
        folder: Path,
        *flags: str,
        name: str = "operator",
        tls: bool = True,
        own_authority: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stream, admin, admission = free_ports(3)
        self.name = name
        self.admin = f"http://127.0.0.1:{admin}"
        self.webhooks = f"https://127.0.0.1:{admission}"
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{stream}"
        self.ca_file: Path | None = None
        protection = ["--insecure"]
        if own_authority:
            protection = ["--certificate-names=127.0.0.1"]
        elif tls:
            authority = Authority(folder / "tls", "pillion-operator-tests")
            pair = authority.server("operator", ["127.0.0.1", "pillion-operator.pillion-system.svc"])
            self.ca_file = authority.certificate
            protection = [f"--tls-cert={pair.certificate}", f"--tls-key={pair.key}"]
        command = [
            sys.executable,
            "-m",
            "pillion.cli.main",
            "operator",
            f"--kubeconfig={access.write(folder / 'operator.kubeconfig')}",
            f"--namespace={NAMESPACE}",
            f"--identity={name}",
            f"--stream-address=127.0.0.1:{stream}",
            f"--admin-address=127.0.0.1:{admin}",
            f"--admission-address=127.0.0.1:{admission}",
            *protection,
            *flags,
        ]
        self.process = Process(name, command, folder / f"{name}.log", BYTECODE)

    def start(self) -> None:
        """Start it and wait until it serves sidecars."""
        self.process.start()
        self.process.wait_until(self.ready, 60)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            with urllib.request.urlopen(f"{self.admin}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()

    def stop(self) -> None:
        """End it in order."""
        self.process.stop()

    def metric(self, name: str, **labels: str) -> float:
        """Sum the samples of a metric whose labels agree with *labels*."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def leads(self) -> bool:
        """Whether it holds the Lease."""
        return self.process.running and self.ready() and self.metric("pillion_operator_leading") == 1


class StandIn:
    """A sidecar whose blocks are a recorder.

    Args:
        operator: whom it asks.
        pod: as whom.
        folder: for its token and its last known good configuration.
        answer: what becomes of a document; applied unless said otherwise.
        quick: whether it returns and reports sooner than a sidecar does.
    """

    def __init__(
        self,
        operator: OperatorProcess,
        pod: Pod,
        folder: Path,
        answer: Callable[[Json], Awaitable[ApplyResult]] | None = None,
        *,
        quick: bool = True,
    ) -> None:
        self._answer = answer
        self._port = urlsplit(operator.url).port or 0
        self.documents: list[Json] = []
        self.secrets: Mapping[str, Mapping[str, bytes]] = {}
        self.conditions = Conditions()
        self.figures: dict[tuple[str, str], Json] = {}
        self._news = asyncio.Condition()
        token = folder / f"{pod.name}.token"
        token.write_text(pod.token)
        settings = StreamSettings(
            url=operator.url,
            token_file=token,
            ca_file=operator.ca_file,
            **({"backoff_first": 0.1, "backoff_max": 0.5, "observe_every": 0.2} if quick else {}),
        )
        self.stream = ConfigurationStream(
            settings,
            self._apply,
            self.conditions,
            observe=lambda: self.figures,
            last_known_good=LastKnownGood(folder / f"{pod.name}.json", self.conditions),
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        _OPEN[self._port] += 1
        await self.stream.restore()
        self._task = asyncio.create_task(self.stream.run(), name="stand-in")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _OPEN[self._port] -= 1
        if not _OPEN[self._port]:
            await _connections_end(self._port)

    async def _apply(self, document: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> ApplyResult:
        decoded = json.loads(document)
        result = await self._answer(decoded) if self._answer else ApplyResult(applied=True)
        if result.applied:
            self.secrets = secrets
            async with self._news:
                self.documents.append(decoded)
                self._news.notify_all()
        return result

    async def until(self, holds: Callable[[Json], bool], within: float = 20) -> Json:
        """Wait until the configuration in force is such that *holds*."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: bool(self.documents) and holds(self.documents[-1]))
                return self.documents[-1]
        except TimeoutError:
            raise TimeoutError(f"not as expected within {within} s; in force: {self.documents[-1:]}") from None


_OPEN: Counter[int] = Counter()
"""Stand-ins by the port of their operator."""


async def _connections_end(port: int) -> None:
    """Wait until no connection to *port* is left: TLS ends with an exchange of its own, and the loop of a test ends before it unless somebody waits."""
    loop = asyncio.get_running_loop()
    transports = getattr(loop, "_transports", {})  # asyncio's own, by file descriptor; closed ones have no socket
    deadline = loop.time() + 5
    while any(
        getattr(one, "_sock", None) is not None and (one.get_extra_info("peername") or ("", 0))[1] == port
        for one in list(transports.values())
    ):
        if loop.time() > deadline:
            break  # the test is over; what is left is reported as what it is, an unclosed transport
        await asyncio.sleep(0.002)


async def eventually(holds: Callable[[], bool], within: float = 20, what: str = "", pause: float = 0.02) -> None:
    """Wait for something outside that nothing announces; looks every *pause* seconds."""
    try:
        async with asyncio.timeout(within):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - another process has no asyncio.Event
                await asyncio.sleep(pause)
    except TimeoutError:
        raise TimeoutError(f"not within {within} s: {what or holds}") from None


def policies(document: Json) -> dict[str, Json]:
    """The rate limit policies of a configuration."""
    found: dict[str, Json] = document["blocks"].get("ratelimit", {}).get("resources", {}).get("RateLimitPolicy", {})
    return found


def requests_of(document: Json, name: str) -> int | None:
    """The limit of a policy in a configuration, wherever its compiled form keeps it; None where the policy is not there."""
    policy = policies(document).get(name)
    return None if policy is None else int(policy["rules"][0]["limits"][0]["requests"])


def policy(name: str, requests: int, **spec: Any) -> Json:
    """A RateLimitPolicy."""
    rule = {"name": "per-user", "key": ["user"], "limits": [{"requests": requests, "per": "1m"}]}
    return {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": name},
        "spec": {"rules": [rule], **spec},
    }


def profile(name: str, **spec: Any) -> Json:
    """A SidecarProfile."""
    return {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "SidecarProfile",
        "metadata": {"name": name},
        "spec": spec,
    }


def condition(resource: Json, kind: str) -> Json:
    """One condition of a resource, if it is about its current generation; empty otherwise."""
    for one in resource.get("status", {}).get("conditions", ()):
        if one["type"] == kind and one["observedGeneration"] == resource["metadata"]["generation"]:
            return dict(one)
    return {}


def is_now(kind: str, status: str, reason: str | None = None) -> Callable[[Json], bool]:
    """Tell whether a condition of the current generation has a status, and perhaps a reason."""

    def holds(resource: Json) -> bool:
        found = condition(resource, kind)
        return found.get("status") == status and reason in (None, found.get("reason"))

    return holds
