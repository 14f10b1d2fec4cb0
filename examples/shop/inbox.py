"""A mail server for one's own desk: takes everything by SMTP, shows it on a page.

smtp://127.0.0.1:1025    takes mail
http://127.0.0.1:8082    the inbox; /messages gives it as JSON
"""

import email
import email.policy
import html
import json
import os
import signal
import sys
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

SMTP_PORT = int(os.environ.get("SMTP_PORT", "1025"))
PORT = int(os.environ.get("PORT", "8082"))
messages: deque[dict] = deque(maxlen=int(os.environ.get("KEEP", "200")))

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>Inbox ({count})</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; background: #f6f7f9 }}
article {{ background: #fff; border: 1px solid #dde2e8; border-radius: 8px; padding: 1rem 1.25rem; margin: 1rem 0 }}
h1 {{ font-size: 1.25rem }} h2 {{ font-size: 1rem; margin: 0 }} p {{ color: #5a6675; margin: .25rem 0 .75rem }}
iframe {{ width: 100%; border: 0; height: 14rem; background: #fff }} pre {{ white-space: pre-wrap }}
</style><h1>Inbox: {count} messages</h1>{items}</html>"""


class Intake:
    """The SMTP side."""

    async def handle_DATA(self, _server: object, _session: object, envelope) -> str:  # noqa: ANN001, N802 - aiosmtpd names it so
        """Keep one message."""
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        text, page = message.get_body(("plain",)), message.get_body(("html",))
        messages.appendleft(
            {
                # As plain text: a parsed field keeps its whole parse tree, a hundred times its size.
                "from": str(message["From"]),
                "to": str(message["To"]),
                "subject": str(message["Subject"]),
                "messageId": str(message["Message-ID"]),
                "text": text.get_content() if text else "",
                "html": page.get_content() if page else "",
            }
        )
        return "250 kept"


class Inbox(BaseHTTPRequestHandler):
    """The page."""

    def do_GET(self) -> None:
        """The inbox as a page or as JSON."""
        if self.path == "/messages":
            self.answer("application/json", json.dumps({"messages": list(messages)}, indent=2) + "\n")
            return
        items = "".join(
            f"<article><h2>{html.escape(m['subject'])}</h2><p>{html.escape(m['from'])} → {html.escape(m['to'])}</p>"
            + (
                f'<iframe sandbox srcdoc="{html.escape(m["html"])}"></iframe>'
                if m["html"]
                else f"<pre>{html.escape(m['text'])}</pre>"
            )
            + "</article>"
            for m in messages
        )
        self.answer("text/html; charset=utf-8", PAGE.format(count=len(messages), items=items or "<p>Nothing yet.</p>"))

    def answer(self, media: str, text: str) -> None:
        """Write a page."""
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay quiet."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    controller = Controller(Intake(), hostname=os.environ.get("SMTP_HOST", "127.0.0.1"), port=SMTP_PORT)
    controller.start()
    try:
        ThreadingHTTPServer(("", PORT), Inbox).serve_forever()
    except KeyboardInterrupt:
        controller.stop()
        sys.exit(0)
