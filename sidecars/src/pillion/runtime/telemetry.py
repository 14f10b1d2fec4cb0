"""Tracing: W3C trace context always, spans only when an OTLP endpoint is configured.

`opentelemetry-api` alone carries the context of an incoming request to the requests that it causes. The SDK and the exporter cost about 15 MB and
0.3 s of start-up, so they are imported when tracing is switched on and not before.
"""

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pillion.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE: Final = "pillion"
"""`service.name` of our spans."""

FLUSH_TIMEOUT: Final = 5.0
"""Seconds that `Tracing.stop` waits for the last spans to be exported."""

_propagator = TraceContextTextMapPropagator()


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go.

    Args:
        endpoint: base URL of an OTLP/HTTP collector, as in `http://collector:4318`; empty for no spans.
        ratio: share of traces that begin here and are recorded, 0 to 1; a caller's own decision always stands.
        attributes: further resource attributes, as in `{"k8s.pod.name": "shop-1"}`.
    """

    endpoint: str = ""
    ratio: float = 1.0
    attributes: Mapping[str, str] = {}


class Tracing:
    """The exporter of spans.

    Args:
        settings: where spans go.

    Raises:
        ValueError: the ratio is not within 0 and 1.
    """

    started: ClassVar[bool] = False
    """Whether spans are recorded in this process."""

    def __init__(self, settings: TracingSettings) -> None:
        if not 0 <= settings.ratio <= 1:
            raise ValueError(f"ratio: {settings.ratio} is not allowed (from 0 to 1)")
        self._settings = settings
        self._provider: TracerProvider | None = None

    def start(self) -> None:
        """Begin to record and export spans; nothing at all where no endpoint is configured. Once per process: OpenTelemetry's provider is global."""
        if not self._settings.endpoint:
            return
        # Here and not above: see the module.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

        resource = Resource.create({"service.name": SERVICE, "service.version": VERSION, **self._settings.attributes})
        provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(self._settings.ratio))
        exporter = OTLPSpanExporter(endpoint=self._settings.endpoint.rstrip("/") + "/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        self._provider = provider
        Tracing.started = True

    def stop(self) -> None:
        """Export what is left and stop; blocks for at most `FLUSH_TIMEOUT`, so call it off the event loop."""
        if self._provider is not None:
            self._provider.force_flush(int(FLUSH_TIMEOUT * 1000))
            self._provider.shutdown()
            self._provider = None


def recording() -> bool:
    """Tell whether spans are recorded at all, in this process. Every request asks, and OpenTelemetry itself would look into the environment each time."""
    return Tracing.started


def incoming(headers: Mapping[str, str]) -> Context | None:
    """Give the trace context that a request brings, or None."""
    return _propagator.extract(headers) if "traceparent" in headers else None


def outgoing(headers: MutableMapping[str, str]) -> None:
    """Write the current trace context into the header fields of a request that is about to be sent."""
    _propagator.inject(headers)
