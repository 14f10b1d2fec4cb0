"""The example shop in a cluster, as tests see it: its pods, what its neighbours received, and customers who never stop ordering."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.cluster.api import Api, ApiError
from tests.support.cluster.kubectl import Kubectl, KubectlError

JSON = Any
NAMESPACE: Final = "shop"
IMAGE: Final = "pillion-shop:0.1.0"
_CUSTOMERS: Final = Path(__file__).with_name("customers.py")
_OUTSIDE: Final = "customers"
"""Namespace of the customers."""

# One request to the sidecar from inside the application's container; the socket by its own variable, as an application would.
_CALL: Final = """
import http.client, json, os, socket, sys, urllib.parse
via, method, path, body = sys.argv[1:]
if via == "socket":
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.environ["PILLION_SOCKET"])
else:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["PILLION_URL"]).netloc, timeout=10)
connection.request(method, path, body or None, {"Content-Type": "application/json"} if body else {})
answer = connection.getresponse()
print(answer.status)
print(answer.read().decode())
"""


@dataclass
class Tally:
    """What customers saw: the ids of what the shop answered with 201, and why other orders failed."""

    orders: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


class ClusterShop:
    """The shop of `kubectl apply -k examples/shop`."""

    def __init__(self, api: Api, kubectl: Kubectl) -> None:
        self.api = api
        self.kubectl = kubectl.within(NAMESPACE)
        self._outside = kubectl.within(_OUTSIDE)

    # Pods

    async def pods(self, app: str = "shop", *, ready: bool = True) -> list[JSON]:
        """Its pods that are not ending, and ready unless that does not matter."""
        listed = await self.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=f"app={app}")
        return [
            pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"] and (_ready(pod) or not ready)
        ]

    async def pod(self) -> str:
        """The name of one of the shop's pods."""
        return str((await self.pods())[0]["metadata"]["name"])

    async def call(
        self, pod: str, path: str, body: JSON = None, *, via: str = "tcp", container: str = "shop"
    ) -> tuple[int, JSON]:
        """Asks the sidecar of *pod*, from inside the application's container."""
        text = "" if body is None else json.dumps(body)
        printed = await self.kubectl(
            "exec",
            pod,
            f"--container={container}",
            "--",
            "python3",
            "-c",
            _CALL,
            via,
            "GET" if body is None else "POST",
            path,
            text,
        )
        status, _, answer = printed.partition("\n")
        return int(status), json.loads(answer or "null")

    async def page(self, pod: str, path: str, **query: str) -> JSON:
        """What the shop itself answers, through the API server."""
        return await self.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy{path}", **query)

    # Neighbours

    async def events(self) -> set[str]:
        """Orders of which the receiver has a verified event."""
        verified = await self._service("receiver:8081", "/")
        return {one["event"]["data"]["id"] for one in verified["verified"]}

    async def mails(self) -> set[str]:
        """Orders of which the inbox has a confirmation."""
        inbox = await self._service("inbox:8082", "/messages")
        return {message["subject"].split()[1] for message in inbox["messages"]}

    async def records(self) -> list[JSON]:
        """What the log store has."""
        found: list[JSON] = (await self._service("collector:8083", "/"))["records"]
        return found

    async def _service(self, service: str, path: str) -> JSON:
        return await self.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/{service}/proxy{path}")

    async def accounts(self, tally: Tally, within: float = 60) -> str:
        """Waits until event, mail and log line of every order that was answered have arrived, and says how many there were.

        Raises:
            AssertionError: Some have not; the message counts them.
        """
        assert tally.orders, f"nobody ordered anything: {tally.failures[:3]}"
        missing: dict[str, set[str]] = {}

        async def complete() -> bool:
            lines = {record.get("order") for record in await self.records()}
            missing.update(
                events=tally.orders - await self.events(),
                mails=tally.orders - await self.mails(),
                lines=tally.orders - lines,
            )
            return not any(missing.values())

        try:
            await until(complete, within)
        except TimeoutError:
            counts = {what: (len(which), sorted(which)[:3]) for what, which in missing.items()}
            raise AssertionError(f"of {len(tally.orders)} orders are missing: {counts}") from None
        return f"{len(tally.orders)} orders: every event, mail and log line arrived; {len(tally.failures)} orders were refused"

    # Customers

    @asynccontextmanager
    async def customers(self, count: int = 4, pause: float = 0.2) -> AsyncIterator[Tally]:
        """Customers in a pod of their own order for as long as the block lasts; afterwards the tally is complete."""
        await self._send_customers(count, pause)
        tally = Tally()

        async def ordering() -> bool:
            return '"order"' in await self._outside("logs", "customers")

        try:
            await until(ordering, 60)
            yield tally
            # SIGTERM to the first process; the pod completes, and its log stays until it is read.
            await self._outside("exec", "customers", "--", "python3", "-c", "import os; os.kill(1, 15)")
            await self._outside(
                "wait", "pod/customers", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", within=70
            )
            for line in (await self._outside("logs", "customers")).splitlines():
                told = json.loads(line)
                if "order" in told:
                    tally.orders.add(told["order"])
                else:
                    tally.failures.append(told["failed"])
        finally:
            await self._outside("delete", "pod", "customers", "--grace-period=1", "--ignore-not-found")

    async def _send_customers(self, count: int, pause: float) -> None:
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        command = ["python3", "/load/customers.py", f"http://shop.{NAMESPACE}:8080", str(count), str(pause)]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "customers"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {
                        "name": "customers",
                        "image": IMAGE,
                        "command": command,
                        "securityContext": security,
                        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
                    }
                ],
                "volumes": [{"name": "load", "configMap": {"name": "customers"}}],
            },
        }
        program = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "customers"},
            "data": {"customers.py": _CUSTOMERS.read_text()},
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _OUTSIDE}}
        for manifest in (namespace, program):
            await self._outside("apply", "--filename=-", stdin=json.dumps(manifest))

        async def admitted() -> bool:
            await self._outside("apply", "--filename=-", stdin=json.dumps(pod))  # refused until the account is there
            return True

        await until(admitted, 20)


async def until(condition: Callable[[], Any], within: float, pause: float = 0.25) -> None:
    """Waits until the coroutine function *condition* gives true; an error of the cluster meanwhile counts as false.

    Raises:
        TimeoutError: After *within* seconds.
    """
    async with asyncio.timeout(within):
        while True:
            try:
                if await condition():
                    return
            except (ApiError, KubectlError):
                pass
            await asyncio.sleep(pause)


def _ready(pod: JSON) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
