"""Trace context is always carried; the SDK is imported only for spans that go somewhere."""

import subprocess
import sys
import textwrap

import pytest
from tests.support.serving import ROOT

from pillion.runtime import telemetry

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def in_a_process_of_its_own(program: str) -> str:
    """Run a program: OpenTelemetry's provider can be set once per process."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_an_endpoint_the_sdk_is_not_even_imported():
    said = in_a_process_of_its_own(
        """
        import sys
        import pillion.runtime.server
        from pillion.runtime.telemetry import Tracing, TracingSettings, recording
        tracing = Tracing(TracingSettings())
        tracing.start()
        tracing.stop()
        print(recording(), any(name.startswith("opentelemetry.sdk") for name in sys.modules))
        """
    )
    assert said == "False False"


@pytest.mark.slow
def test_spans_reach_a_collector_in_the_trace_of_the_caller():
    """A real OTLP receiver, a real exporter, a real request."""
    said = in_a_process_of_its_own(
        f"""
        import asyncio, aiohttp
        from aiohttp import web
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
        from pillion.runtime.telemetry import Tracing, TracingSettings
        from tests.support.operations import build
        from tests.support.serving import running

        received = []

        async def collect(request):
            received.append((request.path, ExportTraceServiceRequest.FromString(await request.read())))
            return web.Response()

        async def main():
            app = web.Application()
            app.router.add_post("/{{path:.*}}", collect)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            endpoint = "http://127.0.0.1:%d/" % runner.addresses[0][1]
            tracing = Tracing(TracingSettings(endpoint=endpoint, attributes={{"k8s.pod.name": "shop-1"}}))
            tracing.start()
            async with running(*build()) as server, aiohttp.ClientSession() as session:
                async with session.get(server.url + "/v1/things/a", headers={{"traceparent": "{PARENT}"}}) as response:
                    assert response.status == 200
            await asyncio.to_thread(tracing.stop)
            await runner.cleanup()
            (path, export), = received
            (resource,) = export.resource_spans
            (scope,) = resource.scope_spans
            (span,) = scope.spans
            names = {{one.key: one.value.string_value for one in resource.resource.attributes}}
            about = {{one.key: one.value for one in span.attributes}}
            print(path, names["service.name"], names["k8s.pod.name"], span.name, span.trace_id.hex(), span.parent_span_id.hex(),
                about["http.response.status_code"].int_value)

        asyncio.run(main())
        """
    )
    assert said == (
        "/v1/traces pillion shop-1 GET /v1/things/{id} 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 200"
    )


def test_a_context_goes_from_the_incoming_to_the_outgoing_request():
    from opentelemetry import context

    token = context.attach(telemetry.incoming({"traceparent": PARENT, "tracestate": "a=b"}))
    try:
        headers: dict[str, str] = {}
        telemetry.outgoing(headers)
    finally:
        context.detach(token)
    assert headers == {"traceparent": PARENT, "tracestate": "a=b"}


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-00", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"])
def test_a_broken_context_is_ignored(parent):
    from opentelemetry import trace

    context = telemetry.incoming({"traceparent": parent})
    assert not trace.get_current_span(context).get_span_context().is_valid


def test_a_request_without_context_has_none():
    assert telemetry.incoming({}) is None


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ValueError, match=r"ratio: .* is not allowed \(from 0 to 1\)"):
        telemetry.Tracing(telemetry.TracingSettings(ratio=ratio))
