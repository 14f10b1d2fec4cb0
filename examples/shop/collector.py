"""Somebody else's log store: takes batches of records as sidecars ship them, and shows the latest.

POST /records    takes newline-delimited JSON, gzip or plain
GET  /           the records, newest first
"""

import gzip
import json
import os
import signal
import sys
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "8083"))
records: deque[dict] = deque(maxlen=int(os.environ.get("KEEP", "1000")))


class Collector(BaseHTTPRequestHandler):
    """One endpoint."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer only what is understood: the sidecar keeps a batch until it is confirmed."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 16 << 20))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        batch = [json.loads(line) for line in body.splitlines()]
        records.extendleft(batch)
        self.answer(200, {"taken": len(batch)})

    def do_GET(self) -> None:
        """Show what came."""
        self.answer(200, {"records": list(records)})

    def answer(self, status: int, body: dict) -> None:
        """Write JSON."""
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay quiet; GET / shows everything."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        ThreadingHTTPServer(("", PORT), Collector).serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
