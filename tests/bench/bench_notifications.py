"""Notifications: rendered and durably accepted per second, and mails per second into a local mail server, beside the bare SMTP library.

    python tests/bench/bench_notifications.py [--messages 2000] [--repeats 5]

The mail server is one process of its own that answers and throws away (a minimal SMTP responder; aiosmtpd would be the bottleneck). The baseline
sends messages that are finished already with `aiosmtplib`, over as many kept connections as the sidecar uses: no template, no disk, no record.
Ours renders each message in the rendering process, builds its MIME, commits it (fsync) and delivers and records it. The accepting part is also
measured alone, with a channel that is held. Runs are interleaved; medians count. Figures of CPU include the rendering process.
"""

import argparse
import asyncio
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import aiosmtplib
import uvloop
from tests.support.notifications.mailserver import configuration, notification_block

from pillion.notifications.content import Rendered
from pillion.notifications.mail import Envelope, build
from pillion.notifications.views import Notification

CONNECTIONS = 8
CLIENTS = 32

SINK = """
import asyncio, sys

class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer, self.inside = transport, b"", False
        transport.write(b"220 sink\\r\\n")

    def data_received(self, data):
        self.buffer += data
        while True:
            if self.inside:
                end = self.buffer.find(b"\\r\\n.\\r\\n")
                if end < 0:
                    return
                self.buffer, self.inside = self.buffer[end + 5:], False
                self.transport.write(b"250 taken\\r\\n")
                continue
            line, separator, rest = self.buffer.partition(b"\\r\\n")
            if not separator:
                return
            self.buffer = rest
            verb = line[:4].upper()
            if verb == b"DATA":
                self.inside = True
                self.transport.write(b"354 go on\\r\\n")
            elif verb == b"QUIT":
                self.transport.write(b"221 bye\\r\\n")
                self.transport.close()
            else:
                self.transport.write(b"250 ok\\r\\n")

async def main():
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

TEMPLATES = """
apiVersion: pillion.dev/v1alpha1
kind: NotificationTemplate
metadata: {name: order}
spec:
  variables:
    type: object
    required: [name, order]
    properties:
      name: {type: string, maxLength: 100}
      order:
        type: object
        required: [id, total, items]
        properties:
          id: {type: string}
          total: {type: number}
          items:
            type: array
            maxItems: 50
            items:
              type: object
              required: [name, price]
              properties: {name: {type: string}, price: {type: number}}
  channels:
    email:
      content:
        en:
          subject: "Order {{ order.id }} confirmed"
          text: |
            Hi {{ name }},
            {% for item in order.items %}
            - {{ item.name }}: {{ item.price | currency("EUR") }}
            {% endfor %}
            Total: {{ order.total | currency("EUR") }}
          html: |
            <h1>Thanks, {{ name }}</h1>
            <table>
            {% for item in order.items %}
            <tr><td>{{ item.name }}</td><td>{{ item.price | currency("EUR") }}</td></tr>
            {% endfor %}
            </table><p>Total: {{ order.total | currency("EUR") }}</p>
"""

ITEMS = [{"name": "Tea", "price": 3.5}, {"name": "Cup", "price": 12}, {"name": "Pot", "price": 24.9}]


def wanted(number: int) -> Notification:
    """Give one request."""
    data = {"name": "Ada Lovelace", "order": {"id": f"A-{number}", "total": 40.4, "items": ITEMS}}
    return Notification(template="order", to=f"ada{number}@example.com", data=data)


def cpu() -> float:
    """Give the processor time of this process and of its children that ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def section(port: int) -> dict:
    """Give the channel."""
    smtp = {"host": "127.0.0.1", "port": port, "tls": "none", "concurrency": {"max": CONNECTIONS}}
    return {"smtp": smtp, "from": "Shop <no-reply@shop.example>"}


async def ours(port: int, messages: int, *, deliver: bool) -> tuple[float, float]:
    """Accept *messages*, and deliver them or only keep them; gives seconds and seconds of CPU, the start left out."""
    held = configuration(
        section(port) | {"smtp": section(port)["smtp"] | {"tls": "starttls", "credentialsRef": {"name": "none"}}},
        TEMPLATES,
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        used = cpu()
        async with notification_block(
            Path(folder), configuration(section(port), TEMPLATES) if deliver else held
        ) as running:
            await running.block._sending.accept(wanted(0))
            start = time.perf_counter()
            numbers = iter(range(1, messages + 1))

            async def client() -> None:
                for number in numbers:
                    await running.block._sending.accept(wanted(number))

            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            if deliver:
                while running.block.statistics().delivery.destinations[0].backlog:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.005)
            seconds = time.perf_counter() - start
        return seconds, cpu() - used


async def bare(port: int, messages: int) -> tuple[float, float]:
    """Send *messages* finished ones with the library alone."""
    envelope = Envelope(
        from_name="Shop",
        from_address="no-reply@shop.example",
        to_name="",
        to_address="ada@example.com",
        message_id="m",
        date_ns=0,
        locale="en",
    )
    body = build(
        Rendered(subject="Order A-1 confirmed", text="Hi Ada,\n" + "- Tea: 3.50\n" * 4, html="<p>x</p>\n" * 9), envelope
    )
    used, start = cpu(), time.perf_counter()
    numbers = iter(range(messages))

    async def connection() -> None:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="bench")
        await client.connect()
        for _ in numbers:
            await client.sendmail("no-reply@shop.example", ["ada@example.com"], body)
        await client.quit()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return time.perf_counter() - start, cpu() - used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    sink = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE)
    assert sink.stdout is not None
    port = int(sink.stdout.readline())
    runs: dict[str, list[tuple[float, float]]] = {"accept": [], "deliver": [], "bare": []}
    try:
        for _ in range(args.repeats):
            runs["bare"].append(uvloop.run(bare(port, args.messages)))
            runs["accept"].append(uvloop.run(ours(port, args.messages, deliver=False)))
            runs["deliver"].append(uvloop.run(ours(port, args.messages, deliver=True)))
    finally:
        sink.kill()
        sink.wait()
        sink.stdout.close()
    rate = {name: args.messages / statistics.median(run[0] for run in found) for name, found in runs.items()}
    cost = {name: statistics.median(run[1] for run in found) / args.messages * 1e6 for name, found in runs.items()}
    print(f"machine: {platform.processor() or platform.machine()}, Python {platform.python_version()}")
    print(f"messages: {args.messages} x {args.repeats}, clients: {CLIENTS}, connections: {CONNECTIONS}")
    print(f"render + build + durable accept: {rate['accept']:8.0f}/s  {cost['accept']:6.0f} us CPU each")
    print(f"accepted, delivered, recorded:   {rate['deliver']:8.0f}/s  {cost['deliver']:6.0f} us CPU each")
    print(f"bare aiosmtplib:                 {rate['bare']:8.0f}/s  {cost['bare']:6.0f} us CPU each")
    print(f"ratio delivered / bare:          {rate['deliver'] / rate['bare']:8.2f}")


if __name__ == "__main__":
    main()
