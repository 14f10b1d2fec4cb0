"""What `run` and `sidecar` have in common: one process with a host, a server, signals and an orderly end."""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import structlog

from pillion.cli.errors import UsageError
from pillion.runtime.host import Host
from pillion.runtime.server import ListenError, Server
from pillion.runtime.server_settings import ServerSettings
from pillion.runtime.telemetry import Tracing, TracingSettings

GRACE: Final = 10.0
"""Seconds between SIGTERM and giving up on work in flight; durable work is done again after the next start."""


def data_folder(path: Path) -> Path:
    """Make the folder of what must survive a restart, for this user alone, and give its absolute path.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"--data-dir {path} cannot be made: {error.strerror}; name a writable folder") from None
    return path.resolve()


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run *main* on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and only the process that serves needs it
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def serve(
    host: Host,
    settings: ServerSettings,
    configure: Callable[[Server], Coroutine[Any, Any, None]],
    *,
    grace: float = GRACE,
) -> None:
    """Serve *host* until SIGTERM or SIGINT, then drain and stop.

    Args:
        host: the blocks.
        settings: where to listen.
        configure: brings configuration for as long as it runs; cancelled at the end.
        grace: seconds for work in flight.
    """
    log = structlog.get_logger("process")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    tracing = _tracing(host)
    tracing.start()
    server = Server(
        settings,
        host.operations(),
        host.hot_operations(),
        conditions=host.conditions,
        metrics=host.metrics,
        clock=host.clock,
    )
    host.on_applied = lambda: server.set_token(host.token)
    try:
        await server.start()
    except ListenError as error:
        raise UsageError(str(error)) from None
    # Everything that lives as long as the process exists by now; a collector that never walks it again pauses requests less.
    gc.collect()
    gc.freeze()
    task = asyncio.create_task(configure(server), name="configuration")
    waiter = asyncio.create_task(stopping.wait(), name="signals")
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        log.info("stopping", grace_seconds=grace)
        for pending in (task, waiter):
            pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pending
        try:
            async with asyncio.timeout(grace):
                host.leaving.set()
                await server.drain()
                await host.drain()
        except TimeoutError:
            log.warning(
                "work in flight did not end within the grace period; what is durable is done after the next start"
            )
        await host.stop()
        await server.stop()
        await asyncio.to_thread(tracing.stop)


def _tracing(host: Host) -> Tracing:
    """Give the exporter of spans, set by the variables that OpenTelemetry defines for every program; without an endpoint there is none.

    Raises:
        UsageError: the share of traces is no number from 0 to 1.
    """
    try:
        settings = TracingSettings(
            endpoint=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            ratio=float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1")),
            attributes={"k8s.namespace.name": host.identity.namespace, "k8s.pod.name": host.identity.pod},
        )
        return Tracing(settings)
    except ValueError as error:
        raise UsageError(f"OTEL_TRACES_SAMPLER_ARG: {error}") from None
