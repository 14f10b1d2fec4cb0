"""Spans go to a real OTLP endpoint when the environment names one, and nothing is loaded for them otherwise."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.support.running import Sidecar, eventually

PROFILE = "apiVersion: pillion.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: p}\nspec: {blocks: [health]}\n"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_request_is_a_span_of_its_callers_trace(tmp_path, monkeypatch):
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(
                (self.path, self.headers["Content-Encoding"], self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "p.yaml").write_text(PROFILE)
    try:
        with Sidecar(tmp_path / "manifests", tmp_path / "data") as sidecar:
            sidecar.call("GET", "/v1/config", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
            assert sidecar.interrupt() == 0
        eventually(lambda: received)
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()

    path, encoding, body = received[0]
    assert (path, encoding) == ("/v1/traces", None)
    request = ExportTraceServiceRequest.FromString(body)
    spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    assert TRACE in {span.trace_id.hex() for span in spans}
