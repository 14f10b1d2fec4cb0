"""Runs what the API server stores, as far as it is ours: the operator's Deployment as an operator process, injected sidecars as sidecar processes.

It stands in for the controller manager and a kubelet where there is no node, and for them alone: processes get the arguments, the variables, the service account and
the token that their manifests say; only addresses and folders are this machine's. Readiness is what the process answers; Deployments and Pods are reported ready
when it says so. Other containers are not run and always count as ready.

Everything happens in one thread, which looks five times a second. `close` ends all processes.
"""

import asyncio
import json
import socket
import sys
import threading
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from tests.support.cluster import namespaces
from tests.support.cluster.api import Api, ApiError
from tests.support.cluster.controlplane import SERVICE_ISSUER
from tests.support.cluster.identities import ensure_service_account, request_token
from tests.support.cluster.kubeconfig import Access
from tests.support.cluster.processes import Process
from tests.support.deployed.plane import Plane

Json = dict[str, Any]

OPERATOR: Final = "pillion-operator"
SIDECAR: Final = "pillion"
LOOK_EVERY: Final = 0.2

QUICK: Final = (
    "--lease-duration=3",
    "--lease-renew-deadline=2",
    "--lease-retry-period=0.3",
    "--repair-interval=1",
    "--secret-interval=0.5",
    "--settle-time=2",
    "--departure-grace=1",
)
"""Lets a test see in seconds what takes a minute otherwise."""


class Node:
    """The stand-in.

    Args:
        plane: whose objects it runs.
        can_serve_webhooks: whether this machine lets it bind port 443.
    """

    def __init__(self, plane: Plane, *, can_serve_webhooks: bool) -> None:
        self._plane = plane
        self._webhooks = can_serve_webhooks
        self._folder = plane.folder / "node"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._processes: dict[str, tuple[str, Process]] = {}
        self._addresses: dict[str, str] = {}
        self._namespaces: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="stand-in for a node", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended early."""
        self.latest_pod: str = ""
        """Address of the sidecar that was started last."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        if self.failure:
            raise self.failure

    def logs(self) -> str:
        """The end of every process's log."""
        return "\n".join(f"--- {name}\n{process.tail(15)}" for name, (_, process) in self._processes.items())

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - told when the test leaves
            self.failure = error
        finally:
            for _, process in self._processes.values():
                process.stop()

    async def _run(self) -> None:
        async with Api(self._plane.control_plane.admin) as api:
            while not self._stop.is_set():
                try:
                    await self._look(api)
                except ApiError as error:
                    if error.status not in (404, 409, 422):  # the object changed or went while it was looked at
                        raise
                await asyncio.sleep(LOOK_EVERY)

    async def _look(self, api: Api) -> None:
        for one in (await api.get("/api/v1/namespaces"))["items"]:
            name = one["metadata"]["name"]
            if one["metadata"].get("deletionTimestamp"):
                await self._empty(api, name)
            elif name not in self._namespaces:
                await ensure_service_account(api, name, "default")
                self._namespaces.add(name)
        deployments = (await api.get("/apis/apps/v1/deployments"))["items"]
        pods = (await api.get("/api/v1/pods"))["items"]
        wanted: set[str] = set()
        for deployment in deployments:
            if deployment["metadata"]["name"] == OPERATOR:
                wanted |= await self._operator(api, deployment)
            else:
                await self._workload(api, deployment, pods)
        for pod in pods:
            wanted |= await self._pod(api, pod, deployments)
        for key in set(self._processes) - wanted:
            self._processes.pop(key)[1].stop()

    async def _empty(self, api: Api, namespace: str) -> None:
        """Do what the namespace controller does."""
        for kind in ("deployments", "replicasets"):
            await api.delete(f"/apis/apps/v1/namespaces/{namespace}/{kind}")
        for kind in ("rolebindings", "roles"):
            await api.delete(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind}")
        await namespaces.remove(api, namespace, controlled=False)
        self._namespaces.discard(namespace)

    async def _operator(self, api: Api, deployment: Json) -> set[str]:
        namespace = deployment["metadata"]["namespace"]
        key = f"{OPERATOR}.{namespace}"
        if deployment["spec"]["replicas"] == 0:
            await _report(api, deployment, 0)
            return set()
        template = json.dumps(deployment["spec"]["template"], sort_keys=True)
        known = self._processes.get(key)
        if known and known[0] != template:
            known[1].stop()
            known = None
        if known is None:
            service = await api.get(f"/api/v1/namespaces/{namespace}/services/{OPERATOR}")
            address = service["spec"]["clusterIP"]
            command = await self._command(api, deployment, address)
            process = Process(key, command, self._folder / f"{key}.log", {"PYTHONDONTWRITEBYTECODE": ""})
            process.start()
            self._processes[key] = (template, process)
            self._addresses[key] = address
        elif await asyncio.to_thread(_ready, self._addresses[key]):
            await _report(api, deployment, deployment["spec"]["replicas"])
        return {key}

    async def _command(self, api: Api, deployment: Json, address: str) -> list[str]:
        namespace = deployment["metadata"]["namespace"]
        pod = deployment["spec"]["template"]["spec"]
        account = pod["serviceAccountName"]
        token = await request_token(api, namespace, account, audience=SERVICE_ISSUER)
        admin = self._plane.control_plane.admin
        kubeconfig = Access(admin.server, admin.authority, token=token).write(self._folder / f"{namespace}.kubeconfig")
        peer = self._folder / f"{namespace}.token"
        peer.write_text(await request_token(api, namespace, account))
        arguments = [
            one.replace("$(POD_IP)", address).replace("/var/run/secrets/pillion/token", str(peer))
            for one in pod["containers"][0]["args"]
        ]
        return [
            sys.executable,
            "-m",
            "pillion.cli.main",
            *arguments,
            f"--kubeconfig={kubeconfig}",
            f"--namespace={namespace}",
            f"--stream-address={address}:3780",
            f"--admin-address={address}:3790",
            f"--admission-address={address}:{443 if self._webhooks else 3443}",
            f"--certificate-names={address}",
            *QUICK,
        ]

    async def _workload(self, api: Api, deployment: Json, pods: list[Json]) -> None:
        """Do what the Deployment controller does, without a ReplicaSet between: a pod of an older template goes, one of the newest comes."""
        metadata = deployment["metadata"]
        collection = f"/api/v1/namespaces/{metadata['namespace']}/pods"
        template = deployment["spec"]["template"]
        current = json.dumps(template, sort_keys=True)
        own = [
            pod
            for pod in pods
            if any(owner["uid"] == metadata["uid"] for owner in pod["metadata"].get("ownerReferences", ()))
        ]
        fresh = []
        for pod in own:
            if pod["metadata"]["annotations"].get("tests/template") == current:
                fresh.append(pod)
            else:
                await api.delete(f"{collection}/{pod['metadata']['name']}")
        for number in range(deployment["spec"]["replicas"]):
            name = f"{metadata['name']}-{metadata['generation']}-{number}"
            if name in {pod["metadata"]["name"] for pod in own}:
                continue
            owner = {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
            }
            about = template.get("metadata", {})
            await api.create(
                collection,
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": name,
                        "labels": about.get("labels", {}),
                        "annotations": {**about.get("annotations", {}), "tests/template": current},
                        "ownerReferences": [owner],
                    },
                    "spec": template["spec"],
                },
            )
        ready = [pod for pod in fresh if pod.get("status", {}).get("phase") == "Running"]
        await _report(api, deployment, len(ready))

    async def _pod(self, api: Api, pod: Json, deployments: list[Json]) -> set[str]:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        owners = {owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner["kind"] == "Deployment"}
        if owners and not owners & {one["metadata"]["uid"] for one in deployments}:
            await api.delete(path)  # the garbage collector's work
            return set()
        sidecar = next((one for one in pod["spec"].get("initContainers", ()) if one["name"] == SIDECAR), None)
        key = f"{metadata['name']}.{metadata['namespace']}.{metadata['uid']}"
        if sidecar is not None and key not in self._processes:
            self._addresses[key] = f"{self._plane.pod_addresses}.{len(self._addresses) % 250 + 2}"
            process = await self._sidecar(api, pod, sidecar, self._addresses[key])
            process.start()
            self._processes[key] = ("", process)
            self.latest_pod = self._addresses[key]
        if pod.get("status", {}).get("phase") != "Running" and (
            sidecar is None or await asyncio.to_thread(_ready, self._addresses[key])
        ):
            address = self._addresses.get(key, "127.0.0.1")
            await api.patch(f"{path}/status", {"status": _running(address)})
        return {key} if sidecar is not None else set()

    async def _sidecar(self, api: Api, pod: Json, container: Json, address: str) -> Process:
        metadata = pod["metadata"]
        folder = self._folder / metadata["uid"]
        folder.mkdir()
        variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        account = pod["spec"].get("serviceAccountName", "default")
        token = folder / "token"
        token.write_text(await request_token(api, metadata["namespace"], account, pod=pod))
        authority = folder / "ca.crt"
        told = await api.until(f"/api/v1/namespaces/{metadata['namespace']}/configmaps", "pillion-ca", lambda _: True)
        authority.write_text(told["data"]["ca.crt"])
        own = {
            "PILLION_TOKEN_FILE": str(token),
            "PILLION_CA_FILE": str(authority),
            "PILLION_DATA_DIR": str(folder / "data"),
            "PILLION_SOCKET": str(folder / "s"),
            "PILLION_OPERATOR_URL": await self._stream(api, variables["PILLION_OPERATOR_URL"]),
            "PILLION_HOST": address,
            "PILLION_ADMIN_HOST": address,
            "PILLION_POD_NAME": metadata["name"],
            "PILLION_POD_NAMESPACE": metadata["namespace"],
            "PILLION_GRACE": "1",
            "PYTHONDONTWRITEBYTECODE": "",
        }
        command = [sys.executable, "-m", "pillion.cli.main", *container["args"]]
        return Process(metadata["name"], command, self._folder / f"{metadata['name']}.log", {**variables, **own})

    async def _stream(self, api: Api, url: str) -> str:
        """Do what cluster DNS does: the name of a Service becomes its address."""
        host, _, port = url.removeprefix("https://").partition(":")
        name, namespace, *_ = host.split(".")
        service = await api.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        return f"https://{service['spec']['clusterIP']}:{port}"


async def _report(api: Api, deployment: Json, ready: int) -> None:
    metadata, replicas = deployment["metadata"], deployment["spec"]["replicas"]
    available = str(ready >= replicas)
    status = {
        "observedGeneration": metadata["generation"],
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": replicas - ready,
        "conditions": [{"type": "Available", "status": available, "reason": "Tests", "message": ""}],
    }
    seen = deployment.get("status") or {}
    if any(seen.get(name, 0) != status[name] for name in ("observedGeneration", "replicas", "readyReplicas")):
        path = f"/apis/apps/v1/namespaces/{metadata['namespace']}/deployments/{metadata['name']}/status"
        await api.patch(path, {"status": status})


def _running(address: str) -> Json:
    conditions = [
        {"type": kind, "status": "True"} for kind in ("Initialized", "PodScheduled", "ContainersReady", "Ready")
    ]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def _ready(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://{address}:3790/readyz", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def may_bind_webhooks() -> bool:
    """Tell whether this process may listen on port 443."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.255.255.1", 443))
        except OSError:
            return False
        return True
