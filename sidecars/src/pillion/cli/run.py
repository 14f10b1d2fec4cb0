"""`pillion run`: the sidecar on localhost, configured by the manifests of a folder and kept in step with it. No cluster, no Redis.

An edit takes effect within a second. A broken edit is refused with file, line, reason and fix, and the last good version goes on serving:
the folder applies as a whole or not at all, like a sidecar's configuration in a cluster.
"""

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pillion.cli import files
from pillion.cli.errors import UsageError
from pillion.cli.findings import print_findings
from pillion.cli.process import data_folder, run_loop, serve
from pillion.kinds.bundle import Bundle, read_bundle
from pillion.kinds.registry import BLOCKS, block_of, kinds
from pillion.kinds.selection import Namespace, Pod
from pillion.kinds.snapshot import Snapshot, compile_snapshot
from pillion.runtime import journal
from pillion.runtime.block import Identity, Refused
from pillion.runtime.host import CONFIGURATION, ApplyResult, Host
from pillion.runtime.server import Server
from pillion.runtime.server_settings import ServerSettings

POLL_SECONDS: Final = 0.2
"""How often files are looked at: an edit is enforced well within a second, and a look costs one `stat` per file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    defaults = ServerSettings()
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="PATH", help="manifest files or folders"
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="read the folders below, too")
    parser.add_argument("--host", default=defaults.host, help="address of the main listener (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=defaults.port, help="port of the main listener (default: %(default)s)"
    )
    parser.add_argument("--socket", default="", metavar="PATH", help="also serve on this unix socket")
    parser.add_argument(
        "--admin-port", type=int, default=defaults.admin_port, help="port of probes and metrics (default: %(default)s)"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".pillion"), help="what must survive a restart (default: %(default)s)"
    )
    parser.add_argument("--namespace", default="", help="namespace to run (default: the one of the manifests)")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="play a pod with this label; without any, every selector matches",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument(
        "--ready-file",
        type=Path,
        default=None,
        help="write the bound addresses there as JSON once the first manifests are applied",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; gives 1 when the first manifests are refused."""
    journal.configure(args.log_level)
    labels = _labels(args.label)
    folder = Folder(args.filename, recursive=args.recursive, namespace=args.namespace, labels=labels)
    bundle = folder.load()
    if folder.broken(bundle):
        print_findings(bundle.findings, "human", sys.stderr)
        print("pillion run: nothing is served; mend the manifests above", file=sys.stderr)
        return 1
    print_findings(bundle.findings, "human", sys.stderr)
    data_dir = data_folder(args.data_dir)
    return run_loop(lambda: _serve(args, data_dir, folder, bundle))


async def _serve(args: argparse.Namespace, data_dir: Path, folder: "Folder", bundle: Bundle) -> int:
    snapshot = folder.compile(bundle)
    identity = Identity(namespace=str(folder.pod.namespace), pod=os.uname().nodename, labels=folder.pod.labels or {})
    host = Host(data_dir, identity, source="files: " + ", ".join(args.filename))
    settings = ServerSettings(
        host=args.host, port=args.port, socket_path=args.socket, admin_host="127.0.0.1", admin_port=args.admin_port
    )
    failure: list[str] = []

    async def configure(server: Server) -> None:
        result = await host.apply(snapshot.document, folder.values(bundle, snapshot))
        if not result.applied:
            failure.append(result.message)
            return
        folder.say(result, bundle)
        if args.ready_file is not None:
            _announce(args.ready_file, server)
        await follow(folder, host)

    await serve(host, settings, configure)
    if failure:
        raise UsageError(failure[0])
    return 0


async def follow(folder: "Folder", host: Host) -> None:
    """Apply every edit of the folder, for ever."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if not folder.changed():
            continue
        bundle = await asyncio.to_thread(folder.load)
        if folder.broken(bundle):
            print_findings(bundle.errors, "human", sys.stderr)
            first = bundle.errors[0]
            message = f"{first.file}:{first.line}: {first.violation.message}"
            more = f" (and {len(bundle.errors) - 1} more)" if len(bundle.errors) > 1 else ""
            host.conditions.set(
                CONFIGURATION, "warn", f"an edit is refused: {message}{more}; the last good version goes on serving"
            )
            print("pillion run: the edit is refused; the last good version goes on serving", file=sys.stderr)
            continue
        try:
            snapshot = folder.compile(bundle)
        except Refused as refused:
            host.conditions.set(CONFIGURATION, "warn", f"an edit is refused: {refused}")
            print(f"pillion run: {refused}; the last good version goes on serving", file=sys.stderr)
            continue
        if snapshot.revision == host.revision:
            host.conditions.clear(CONFIGURATION)
            continue
        folder.say(await host.apply(snapshot.document, folder.values(bundle, snapshot)), bundle)


class Folder:
    """The manifests that are followed, and the pod that is played."""

    def __init__(self, paths: Sequence[str], *, recursive: bool, namespace: str, labels: dict[str, str] | None) -> None:
        self._paths = paths
        self._recursive = recursive
        self._asked = namespace
        self._labels = labels
        # Versions of Secrets are keyed by a throw-away key, so that a revision tells nothing about their values.
        self._key = secrets.token_bytes(32)
        self._seen: files.Fingerprint | None = None
        self.pod = Pod(namespace=Namespace(namespace or "default"), labels=labels)

    def changed(self) -> bool:
        """Tell whether any file changed since `load`."""
        return files.fingerprint(self._paths, recursive=self._recursive) != self._seen

    def load(self) -> Bundle:
        """Read and check all files."""
        self._seen = files.fingerprint(self._paths, recursive=self._recursive)
        texts = files.read(files.find(self._paths, recursive=self._recursive))
        bundle = read_bundle(texts, kinds(), default_namespace=self._asked or "default")
        if not self._asked:
            namespaces = sorted({resource.namespace for resource in bundle.resources})
            if len(namespaces) > 1:
                raise UsageError(
                    f"the manifests are of the namespaces {', '.join(namespaces)}; choose one with --namespace"
                )
            if namespaces:
                self.pod = Pod(namespace=namespaces[0], labels=self._labels)
        return bundle

    def broken(self, bundle: Bundle) -> bool:
        """Tell whether the bundle must be refused."""
        return bool(bundle.errors)

    def compile(self, bundle: Bundle) -> Snapshot:
        """Compile what the sidecar of the played pod runs."""
        own = [s for s in bundle.secrets if s.namespace == self.pod.namespace]
        return compile_snapshot(
            bundle.resources,
            self.pod,
            kinds=kinds(),
            blocks=BLOCKS,
            block_of={kind: block_of(kind) for kind in kinds()},
            secret_versions={s.name: s.version(self._key) for s in own},
        )

    def values(self, bundle: Bundle, snapshot: Snapshot) -> dict[str, dict[str, bytes]]:
        """Give the Secret values that *snapshot* refers to."""
        return {
            s.name: s.values for s in bundle.secrets if s.namespace == self.pod.namespace and s.name in snapshot.secrets
        }

    def say(self, result: ApplyResult, bundle: Bundle) -> None:
        """Tell a person what became of the manifests."""
        if not result.applied:
            print(f"pillion run: {result.message}; the last good version goes on serving", file=sys.stderr)
            return
        print(f"pillion run: {len(bundle.resources)} resources in force", file=sys.stderr)
        for unready in result.unready:
            print(
                f"pillion run: {unready.kind}/{unready.name} is not ready: {unready.reason}: {unready.message}",
                file=sys.stderr,
            )


def _labels(given: Sequence[str]) -> dict[str, str] | None:
    labels: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f'--label "{text}" is no KEY=VALUE')
        labels[key] = value
    return labels or None


def _announce(path: Path, server: Server) -> None:
    addresses = {"url": server.url, "adminUrl": server.admin_url, "socket": server.socket_path}
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(addresses))
    temporary.replace(path)
