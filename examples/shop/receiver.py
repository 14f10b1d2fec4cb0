"""Somebody else's service that receives the shop's webhooks and believes only what the official library verifies.

POST /hooks    takes a delivery
GET  /         the verified deliveries, newest first
"""

import json
import os
import signal
import sys
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

PORT = int(os.environ.get("PORT", "8081"))
SECRET = os.environ.get("WEBHOOK_SECRET", "whsec_c2hvcC1leGFtcGxlLXNlY3JldC0zMi1ieXRlcyEh")
received: deque[dict] = deque(maxlen=int(os.environ.get("KEEP", "100")))
seen: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    """One endpoint."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Verify first, then believe; the same id twice is one event."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1 << 20))
        try:
            event = Webhook(SECRET).verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            self.answer(401, {"error": "the signature does not match"})
            return
        delivery = self.headers["webhook-id"]
        if delivery not in seen:
            seen.add(delivery)
            received.appendleft({"id": delivery, "event": event})
        self.answer(200, {"received": delivery})

    def do_GET(self) -> None:
        """Show what came."""
        self.answer(200, {"verified": list(received)})

    def answer(self, status: int, body: dict) -> None:
        """Write JSON."""
        data = json.dumps(body, indent=2).encode() + b"\n"
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
        ThreadingHTTPServer(("", PORT), Receiver).serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
