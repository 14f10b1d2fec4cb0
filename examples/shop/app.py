"""A small shop. It knows nothing of Pillion but a base URL: rate limits, flags, events and mail are plain HTTP on localhost.

GET  /                    what there is to buy
GET  /checkout?user=EMAIL which checkout this user sees (a feature flag decides)
POST /login {"user"}      at most 5 a minute for each user
POST /orders {"user", "item", "quantity"}   takes an order: an event goes to the webhooks, a confirmation to the buyer
GET  /healthz             for the health checks
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PILLION = os.environ.get("PILLION_URL", "http://127.0.0.1:3700")
PORT = int(os.environ.get("PORT", "8080"))
LOG_FILE = os.environ.get("LOG_FILE", "")
PRODUCTS = {"bell": 12.5, "saddle": 49.0, "basket": 30.0}


def pillion(path: str, body: dict) -> dict:
    """POST to the sidecar; a decision or a receipt comes back."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(PILLION + path, data, {"Content-Type": "application/json"})  # noqa: S310 - localhost
    with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
        return json.load(answer)


def log(level: str, message: str, **fields: object) -> None:
    """One JSON line, to stdout and to LOG_FILE if there is one; the sidecar tails the file, masks addresses and ships it."""
    record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": level, "message": message, **fields}
    print(json.dumps(record), flush=True)
    if LOG_FILE:
        with open(LOG_FILE, "a") as file:  # noqa: PTH123 - one write of one line, so that threads do not mix theirs
            file.write(json.dumps(record) + "\n")


class Shop(BaseHTTPRequestHandler):
    """The shop's routes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Products, checkout, health."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/":
            self.answer(200, {"products": PRODUCTS})
        elif url.path == "/checkout":
            self.answer(200, {"checkout": self.checkout_of(query.get("user", "anonymous"))})
        elif url.path == "/healthz":
            self.answer(200, {"status": "ok"})
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        """Login and orders."""
        try:
            body = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 65536)) or b"{}")
            user = str(body["user"])
        except (ValueError, KeyError, TypeError):
            self.answer(400, {"error": 'send JSON with a "user"'})
            return
        route = urllib.parse.urlsplit(self.path).path
        try:
            self.decide(route, user, body)
        except urllib.error.URLError as error:
            log("error", "the sidecar did not help", route=route, reason=str(error))
            self.answer(503, {"error": "not now, please try again"})

    def decide(self, route: str, user: str, body: dict) -> None:
        """Ask for permission, then do what was asked."""
        decision = pillion("/v1/ratelimit/check", {"policy": "shop", "attributes": {"user": user, "route": route}})
        if not decision["allowed"]:
            log("warning", "limited", user=user, route=route, rule=decision["rule"])
            self.answer(429, {"error": "too many requests", "retryAfter": decision["retryAfter"]})
        elif route == "/login":
            self.answer(200, {"welcome": user})
        elif route == "/orders":
            self.order(user, body)
        else:
            self.answer(404, {"error": "no such page"})

    def order(self, user: str, body: dict) -> None:
        """Take an order. The same id everywhere, so that a repeated request is recognised everywhere."""
        item, quantity = body.get("item", "bell"), body.get("quantity", 1)
        if item not in PRODUCTS or not isinstance(quantity, int) or not 0 < quantity < 100:
            self.answer(422, {"error": f"item is one of {', '.join(PRODUCTS)}; quantity is 1 to 99"})
            return
        order = {
            "id": f"ord_{uuid.uuid4().hex[:12]}",
            "item": item,
            "quantity": quantity,
            "total": PRODUCTS[item] * quantity,
        }
        event = pillion("/v1/events", {"type": "order.created", "id": order["id"], "data": order | {"user": user}})
        mail = pillion(
            "/v1/notifications",
            {
                "template": "order-confirmation",
                "to": user,
                "data": {"customer": {"name": user.partition("@")[0].title()}, "order": order},
                "idempotencyKey": order["id"],
            },
        )
        log("info", "order taken", order=order["id"], user=user, total=order["total"])
        self.answer(201, {"order": order, "event": event["id"], "notification": mail["id"]})

    def checkout_of(self, user: str) -> str:
        """Ask OFREP for a flag; the default of the code counts when the sidecar is away."""
        try:
            context = {"targetingKey": user, "email": user}
            flag = pillion("/ofrep/v1/evaluate/flags/new-checkout", {"context": context})
        except urllib.error.URLError:
            flag = {}
        return "one page" if flag.get("value") else "classic"

    def answer(self, status: int, body: dict) -> None:
        """Write JSON."""
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """One line for each request, as JSON."""
        log("debug", format % args)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", PORT), Shop)
    # The first process of a container has no default answer to SIGTERM: without this line the kubelet would wait out the whole grace period.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log("info", "open", port=PORT)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        log("info", "closed", port=PORT)
