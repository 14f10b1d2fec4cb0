"""How long a pod's creation waits for its sidecar: reviews at a fixed rate over TLS, our webhook beside kopf's own admission server in the same run.
The baseline is a server that answers every review with the same bytes.

Each server is a process of its own on uvloop; both run the same injection over the same pod. The client is one loop over eight kept-alive connections, as an API server
keeps them; reviews leave at evenly spaced moments whether or not earlier ones were answered, and a review's time begins at the moment when it was to leave, so that a
server which falls behind shows it. Rounds of both alternate; the figures are medians of the rounds.

python tests/bench/bench_admission.py [--rate 1000] [--seconds 5] [--rounds 3]
"""

import argparse
import asyncio
import functools
import json
import os
import platform
import select
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.cluster.processes import free_ports

from pillion_operator.certificates import issue, make_authority
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespace
from pillion_operator.settings import Settings

ASKS = {"pillion.dev/inject": "true"}
CONNECTIONS = 8
PAUSE = 50e-6
"""Seconds between two looks at the connections: a client that spins takes a core from the server on a small machine. What it adds counts against both servers."""


def _review(number):
    """A review as an API server sends one of a Deployment's pods: about 5 kB."""
    fields = {f"f:{name}": {} for name in ("image", "imagePullPolicy", "name", "resources", "securityContext")}
    managed = [
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "fieldsV1": {"f:spec": {str(n): fields for n in range(12)}},
        }
    ]
    environment = [{"name": f"SETTING_{n}", "value": "some value of a setting"} for n in range(48)]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "shop-5d9f7c4b8-",
            "labels": {"app": "shop", "pod-template-hash": "5d9f7c4b8"},
            "annotations": {"prometheus.io/scrape": "true"},
            "managedFields": managed,
        },
        "spec": {
            "serviceAccountName": "shop",
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example/shop:1",
                    "env": environment,
                    "ports": [{"containerPort": 8080}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    request = {
        "uid": f"00000000-0000-4000-8000-{number:012d}",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:authenticated"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


async def _serve_ours(port, folder):
    from prometheus_client import CollectorRegistry

    from pillion_operator.admission.server import AdmissionServer
    from pillion_operator.catalogue import Catalogue, Vocabulary
    from pillion_operator.main import rest_heap
    from pillion_operator.namespaces import Namespaces
    from pillion_operator.transport_security import FileCertificates

    files = FileCertificates(folder / "tls.crt", folder / "tls.key")
    await files.start()
    vocabulary = Vocabulary.load()
    namespaces = Namespaces(None, 60.0)
    namespaces.told("ADDED", {"metadata": {"name": "shop", "labels": ASKS}})
    server = AdmissionServer(
        f"127.0.0.1:{port}",
        files.context,
        kinds=vocabulary.kinds,
        catalogue=Catalogue(vocabulary),
        namespaces=namespaces,
        inject=Injector(Settings(namespace="pillion-system")),
        registry=CollectorRegistry(),
    )
    await server.start()
    rest_heap()
    await asyncio.Event().wait()


class _Bare(asyncio.Protocol):
    """Answers every request with the same bytes, and reads nothing of it but its length: what client, TLS and machine take by themselves."""

    body = json.dumps({"response": {"uid": "", "allowed": True, "patch": "x" * 2600}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if blank and len(body) >= int(head.rpartition(b"Content-Length: ")[2]):
            self.received = b""
            self.transport.write(self.answer)


async def _serve_bare(port, folder):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", port, ssl=context)
    await asyncio.Event().wait()


async def _serve_kopf(port, folder):
    import kopf
    from kopf._cogs.structs.references import Insights, Resource
    from kopf._core.engines.admission import serve_admission_request
    from kopf._core.engines.indexing import OperatorIndexers
    from kopf._core.reactor.inventory import ResourceMemories

    registry, injector, asks = (
        kopf.OperatorRegistry(),
        Injector(Settings(namespace="pillion-system")),
        Namespace(labels=ASKS),
    )

    @kopf.on.mutate("", "v1", "pods", id="pods", registry=registry)
    def inject(body, patch, **_):
        added = {operation["path"]: operation["value"] for operation in injector(body, asks).patch}
        patch.spec["initContainers"] = added["/spec/initContainers"]
        patch.metadata["annotations"] = {"pillion.dev/injected": "1"}

    insights = Insights()
    insights.webhook_resources.add(
        Resource("", "v1", "pods", "Pod", namespaced=True, verbs=frozenset({"create"}), preferred=True)
    )
    insights.ready_resources.set()
    answer = functools.partial(
        serve_admission_request,
        settings=kopf.OperatorSettings(),
        registry=registry,
        insights=insights,
        memories=ResourceMemories(),
        memobase=kopf.Memo(),
        indices=OperatorIndexers().indices,
    )
    server = kopf.WebhookServer(
        addr="127.0.0.1", port=port, host="127.0.0.1", certfile=folder / "tls.crt", pkeyfile=folder / "tls.key"
    )
    async for _ in server(answer):
        pass


class _Connection:
    """One kept-alive connection with at most one review on it."""

    def __init__(self, port, path, context):
        import socket

        self.raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = context.wrap_socket(self.raw, server_hostname="127.0.0.1")
        self.tls.setblocking(False)
        self.head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
        self.due = 0.0
        self.received = b""

    def send(self, body, due):
        self.due, self.received = due, b""
        self.tls.sendall(f"{self.head}{len(body)}\r\n\r\n".encode() + body)

    def answered(self):
        """Whether the whole answer is there."""
        try:
            while piece := self.tls.recv(65536):
                self.received += piece
        except ssl.SSLWantReadError:
            pass
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank:
            return False
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        if len(body) < length:
            return False
        if b" 200 " not in head.partition(b"\r\n")[0] or b'"patch"' not in body:
            raise SystemExit(f"not an injection: {self.received[:2000]!r}")
        return True


def _drive(port, path, context, rate, seconds):
    """Milliseconds from when each review was to leave until it was answered."""
    free = [_Connection(port, path, context) for _ in range(CONNECTIONS)]
    by_number = {connection.tls.fileno(): connection for connection in free}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    bodies = [_review(number) for number in range(100)]
    waits, sent, total = [], 0, int(rate * seconds)
    began = time.perf_counter() + 0.05
    while len(waits) < total:
        now = time.perf_counter()
        while sent < total and free and now >= began + sent / rate:
            free.pop().send(bodies[sent % len(bodies)], began + sent / rate)
            sent += 1
        answers = poll.poll(0)
        if not answers:
            time.sleep(PAUSE)
        for number, _ in answers:
            connection = by_number[number]
            if connection.answered():
                waits.append((time.perf_counter() - connection.due) * 1000)
                free.append(connection)
        if time.perf_counter() > began + seconds * 3:
            break  # it does not keep up at all; what was answered tells
    poll.close()
    for connection in by_number.values():
        connection.tls.close()
    return waits


def _cpu_seconds(pid):
    """What a process has used so far; unlike waiting times it does not depend on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _percentiles(values):
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=1000, help="reviews per second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=["bare", "ours", "kopf"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        import logging

        import uvloop

        logging.disable(logging.INFO)
        uvloop.run({"bare": _serve_bare, "ours": _serve_ours, "kopf": _serve_kopf}[args.serve](args.port, args.folder))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder, now = Path(name), datetime.now(UTC)
        authority = make_authority(now)
        pair = issue(authority, ["127.0.0.1"], now)
        (folder / "tls.crt").write_bytes(pair.certificate)
        (folder / "tls.key").write_bytes(pair.key)
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        context.check_hostname = False
        paths = {"bare": "/", "ours": "/mutate/pods", "kopf": "/pods"}
        ports = dict(zip(paths, free_ports(len(paths)), strict=True))
        servers = [
            subprocess.Popen([sys.executable, __file__, "--serve", who, "--port", str(ports[who]), "--folder", name])
            for who in paths
        ]
        try:
            for who, path in paths.items():
                _wait(ports[who])
                _drive(ports[who], path, context, 200, 1)
            found = {who: [] for who in paths}
            for _ in range(args.rounds):
                for (who, path), server in zip(paths.items(), servers, strict=True):
                    before = _cpu_seconds(server.pid)
                    waits = _drive(ports[who], path, context, args.rate, args.seconds)
                    cpu = (_cpu_seconds(server.pid) - before) / len(waits) * 1e6
                    found[who].append((*_percentiles(waits), cpu))
        finally:
            for server in servers:
                server.send_signal(signal.SIGKILL)
                server.wait()
    print(
        f"{args.rate} reviews/s of {len(_review(0))} bytes over {CONNECTIONS} TLS connections, {args.rounds} rounds of {args.seconds:g} s"
    )
    medians = {
        who: tuple(statistics.median(column) for column in zip(*rounds, strict=True)) for who, rounds in found.items()
    }
    for who, label in (
        ("bare", "fixed answer (baseline)"),
        ("ours", "Pillion's webhook"),
        ("kopf", "kopf's admission server"),
    ):
        p50, p99, cpu = medians[who]
        ratio = f"   {p99 / medians['ours'][1]:.1f} x ours" if who == "kopf" else ""
        told = [round(one[1], 2) for one in found[who]]
        print(
            f"{label:<26} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms{ratio}   {cpu:5.0f} µs of CPU each   rounds' p99: {told}"
        )


def _wait(port):
    import socket

    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nobody listens on port {port}")


if __name__ == "__main__":
    _main()
