"""Log shipping in tests: an HTTP sink that answers as it is told, an application that logs and rotates, and a pipeline without a process."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan, LogPlan, SinkPlan, SourcePlan
from pillion.logs.patterns import BUILT_IN
from pillion.logs.pipeline import Pipeline
from pillion.logs.sinks import FileSink, HttpSink
from pillion.logs.spool import Spool
from pillion.runtime.clock import SystemClock
from pillion.runtime.conditions import Conditions


class Receiver:
    """An HTTP sink. What it answers with 200 it has, line by line.

    Attributes:
        status: what it answers, unless `answer` decides.
        answer: given headers and the body as sent, uncompressed, gives the status.
    """

    def __init__(self):
        self.lines = []
        self.status = 200
        self.answer = None
        self.requests: list[tuple[int, int]] = []
        """Status and uncompressed size of every request."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Encoding"] == "gzip"
                body = gzip.decompress(body)
                status = receiver.answer(self.headers, body) if receiver.answer else receiver.status
                if status == 200:
                    receiver.lines += [json.loads(line) for line in body.splitlines()]
                receiver.requests.append((status, len(body)))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/push"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def numbers(self):
        return [line["n"] for line in self.lines if "n" in line]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Writer:
    """An application that logs numbered lines and rotates by renaming, as logrotate does."""

    def __init__(self, path: Path):
        self.path = path
        self.n = 0
        self.file = path.open("ab", buffering=0)

    def write(self, count):
        for _ in range(count):
            self.file.write(json.dumps({"n": self.n, "user": f"u{self.n}@example.com"}).encode() + b"\n")
            self.n += 1

    def rotate(self):
        for old in range(60, 0, -1):  # nothing is deleted here: what is gone before anybody looked cannot be shipped
            name = Path(f"{self.path}.{old}")
            if name.exists():
                name.replace(f"{self.path}.{old + 1}")
        self.path.replace(f"{self.path}.1")
        self.write(3)  # the old handle is still in use for a moment
        self.file.close()
        self.file = self.path.open("ab", buffering=0)


class HastyClock(SystemClock):
    """A clock on which every look is *pace* seconds after the one before it, so that back-offs are over at once."""

    def __init__(self, pace: float):
        self._pace = int(pace * 1e9)
        self._now = 1_000_000_000_000
        self.monotonic_ns = self._next

    def _next(self):
        self._now += self._pace
        return self._now


def pipeline_to(
    folder: Path,
    *,
    url: str | None = None,
    file: Path | None = None,
    files: str = "*.log",
    batch: int = 1 << 20,
    max_bytes: int = 64 << 20,
    linger: int = 0,
    clock=None,
    conditions=None,
):
    """A pipeline over the logs in *folder*/app, with its state in *folder*/data."""
    data = folder / "data"
    (data / "spool").mkdir(parents=True, exist_ok=True)
    http = HttpSinkPlan(url=url, headers={}, gzip=True, timeout_ns=10_000_000_000, token=None) if url else None
    kept = FileSinkPlan(path=str(file), max_bytes=max_bytes) if file else None
    sink = SinkPlan(name="live", http=http, file=kept, batch_bytes=batch, linger_ns=linger)
    source = SourcePlan(name="app", files=(f"{folder}/app/{files}",), format="json")
    return Pipeline(
        sink,
        LogPlan(sources=(source,), mask=(BUILT_IN["email"],), sinks=(sink,), intake_bytes=1 << 20),
        HttpSink(http, "") if http else FileSink(kept),
        spool=Spool(data / "spool", 1 << 20),
        folder=data,
        fields=lambda source: {"source": source},
        clock=clock or SystemClock(),
        conditions=conditions or Conditions(),
    )
