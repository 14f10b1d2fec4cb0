"""The process that renders: `python -m pillion.notifications.renderer_process`, spoken to over its standard input and output.

It can be killed at any moment: it holds nothing but compiled templates, which it is sent again. It limits itself before it reads anything: an
address space beyond which allocations fail, no core dump, no new files or processes, and for every rendering an alarm of the kernel's that ends
the process even when the sidecar is gone and nobody is left to kill it.
"""

import gc
import resource
import signal
import sys
from typing import Any, BinaryIO, Final

import msgspec

from pillion.notifications.content import RenderError, Source
from pillion.notifications.engine import render
from pillion.notifications.frames import LENGTH, MAX_FRAME, Job, Outcome, frame
from pillion.notifications.mail import Envelope, build

MAX_SOURCES: Final = 4096
"""Templates that are kept; the sidecar sends one again when it is asked for."""


GRACE: Final = 1.0
"""Seconds that the sidecar has to kill first: it then knows why."""


def limit(memory: int) -> None:
    """Bind this process to *memory* bytes of address space, no core dump, no new process and no further file."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def answer(job: Job, sources: dict[str, Source]) -> Outcome:
    """Do one job; *sources* are those known so far."""
    if job.source is not None:
        if len(sources) >= MAX_SOURCES:
            sources.clear()
        sources[job.key] = job.source
    source = sources.get(job.key)
    if source is None:
        return Outcome(forgotten=True)
    try:
        rendered = render(source, job.locale, msgspec.msgpack.decode(job.data, type=dict[str, Any]))
        message = b"" if job.envelope is None else build(rendered, job.envelope)
    except RenderError as error:
        return Outcome(part=error.part, line=error.line, reason=error.reason)
    except RecursionError:
        return Outcome(part="text", reason="the data is nested too deeply")
    return Outcome(rendered=rendered, message=message)


def serve(source: BinaryIO, sink: BinaryIO, deadline: float) -> None:
    """Answer job after job until *source* ends; each within *deadline* seconds, or the kernel ends the process."""
    sources: dict[str, Source] = {}
    decoder = msgspec.msgpack.Decoder(Job)
    while True:
        head = source.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return
        (length,) = LENGTH.unpack(head)
        body = source.read(length)
        if length > MAX_FRAME or len(body) < length:
            return
        signal.setitimer(signal.ITIMER_REAL, deadline + GRACE)
        outcome = frame(answer(decoder.decode(body), sources))
        signal.setitimer(signal.ITIMER_REAL, 0)
        sink.write(outcome)
        sink.flush()


def main() -> int:
    """Limit this process, then serve. Arguments: bytes of address space, seconds per job."""
    memory, deadline = int(sys.argv[1]), float(sys.argv[2])
    # The sidecar decides when this ends: it closes the pipe, or kills. A Ctrl-C goes to the whole group of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _warm_up()
    limit(memory)
    gc.freeze()
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, deadline)
    except (MemoryError, BrokenPipeError):
        return 1
    return 0


def _warm_up() -> None:
    """Load what the first rendering would load, before files are out of reach and the clock runs."""
    source = Source(
        subject="{{ 1 | number }}",
        html="{{ '2026-01-01' | date }}{{ '2026-01-01T00:00:00Z' | datetime('full') }}{{ 1 | currency('EUR') }}",
    )
    envelope = Envelope(
        from_name="", from_address="a@b", to_name="", to_address="a@b", message_id="x", date_ns=0, locale="en"
    )
    build(render(source, "en", {}), envelope)


if __name__ == "__main__":
    sys.exit(main())
