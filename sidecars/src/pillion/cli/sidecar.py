"""`pillion sidecar`: the process beside an application, configured by the operator over one stream.

Every setting is an argument and an environment variable (`--operator-url`, `PILLION_OPERATOR_URL`), because a pod spec writes the latter more
naturally. It starts with the last configuration that worked, so that neither the operator nor the API server is needed for a restart.
"""

import argparse
import os
from pathlib import Path
from typing import Final

from pillion.cli.errors import UsageError
from pillion.cli.process import GRACE, data_folder, run_loop, serve
from pillion.runtime import journal
from pillion.runtime.block import Identity
from pillion.runtime.host import CONFIGURATION, Host
from pillion.runtime.last_known_good import LastKnownGood
from pillion.runtime.server import Server
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.stream import ConfigurationStream, StreamSettings

TOKEN_FILE: Final = "/var/run/secrets/pillion.dev/token"  # noqa: S105 - a path
"""Where the pod spec projects the service-account token with audience `pillion`."""

SOCKET_MODE: Final = 0o666
"""The socket's folder belongs to the pod alone, and its containers run under whatever user ids their images have, often without a common group."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; each default is what the environment says, else what a pod has."""
    defaults = ServerSettings()
    _add(parser, "operator-url", "", "base URL of the operator's configuration stream (required)")
    _add(parser, "token-file", TOKEN_FILE, "service-account token for the operator, read again for each connection")
    _add(parser, "ca-file", "", "PEM file that the operator's certificate must lead to")
    _add(parser, "data-dir", "/var/lib/pillion", "what must survive a restart of the container")
    _add(parser, "host", defaults.host, "address of the main listener")
    _add(parser, "port", str(defaults.port), "port of the main listener")
    _add(parser, "socket", "", "also serve on this unix socket")
    _add(parser, "admin-host", defaults.admin_host, "address of probes and metrics")
    _add(parser, "admin-port", str(defaults.admin_port), "port of probes and metrics")
    _add(parser, "grace", str(GRACE), "seconds for work in flight after SIGTERM")
    _add(parser, "log-level", "info", "debug, info, warning or error")
    _add(parser, "pod-name", "", "name of the pod, from the downward API")
    _add(parser, "pod-namespace", "default", "namespace of the pod")
    _add(parser, "node-name", "", "node of the pod")


def _add(parser: argparse.ArgumentParser, name: str, default: str, text: str) -> None:
    variable = "PILLION_" + name.upper().replace("-", "_")
    parser.add_argument(
        f"--{name}",
        default=os.environ.get(variable, default),
        metavar="VALUE",
        help=f"{text} (${variable}, default: {default or 'none'})",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    if args.log_level not in ("debug", "info", "warning", "error"):
        raise UsageError(f'--log-level "{args.log_level}" is none of debug, info, warning, error')
    journal.configure(args.log_level)
    if not args.operator_url:
        raise UsageError("--operator-url is missing; set it or PILLION_OPERATOR_URL to the operator's stream listener")
    data_dir = data_folder(Path(args.data_dir))
    try:
        settings = ServerSettings(
            host=args.host,
            port=int(args.port),
            socket_path=args.socket,
            socket_mode=SOCKET_MODE,
            admin_host=args.admin_host,
            admin_port=int(args.admin_port),
        )
        grace = float(args.grace)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return run_loop(lambda: _serve(args, data_dir, settings, grace))


async def _serve(args: argparse.Namespace, data_dir: Path, settings: ServerSettings, grace: float) -> int:
    identity = Identity(namespace=args.pod_namespace, pod=args.pod_name or os.uname().nodename, node=args.node_name)
    host = Host(data_dir, identity, source=f"operator: {args.operator_url}")
    host.conditions.set(CONFIGURATION, "warn", "no configuration has been received yet")
    stream = ConfigurationStream(
        StreamSettings(
            url=args.operator_url.rstrip("/"),
            token_file=Path(args.token_file),
            ca_file=Path(args.ca_file) if args.ca_file else None,
        ),
        host.apply,
        host.conditions,
        observe=host.observed,
        report=host.reports,
        last_known_good=LastKnownGood(data_dir / "last-known-good.json", host.conditions),
        clock=host.clock,
        metrics=host.metrics,
    )

    async def configure(_server: Server) -> None:
        await stream.restore()
        await stream.run()

    await serve(host, settings, configure, grace=grace)
    return 0
