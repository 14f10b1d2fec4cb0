"""Our own log lines: one JSON object per line on standard error, or a readable line when a person looks on.

Everything goes through one pipeline, also what libraries log with the standard `logging`: time, level, logger, trace context, redaction, repetition
limit, rendering. It promises that a line holds no secret (by field name, by shape, and by value for secrets that were made known to `conceal`), that a
line is bounded, and that one bad minute does not fill the disk: a warning that repeats is written once in ten seconds, with the number left out.

Request bodies, header fields and SQL are never logged by anybody; this module is the second fence, not the first.
"""

import base64
import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, TextIO
from urllib.parse import unquote

import msgspec
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]

REPEAT_SECONDS: Final = 10.0
"""How long a warning or error that was written keeps its repetitions from being written."""

IDENTIFYING: Final = (
    "task",
    "kind",
    "name",
    "block",
    "endpoint",
    "policy",
    "template",
    "channel",
    "sink",
    "source",
    "check",
    "listener",
    "route",
    "path",
)
"""Fields that tell which thing a message is about: two messages that differ in one of them are no repetition of each other."""

REDACTED: Final = "[redacted]"

_KEYS_MAX: Final = 1024
"""Distinct messages whose repetition is watched; the one longest unseen is forgotten first."""

_VALUE_MAX: Final = 2048
"""Characters of one text value."""

_TRACE_MAX: Final = 8192
"""Characters of a traceback; its end says most, so its middle goes."""

_DEPTH_MAX: Final = 4
"""Levels of nesting that are written."""

_ITEMS_MAX: Final = 50
"""Items of one list or object that are written."""

_SECRET_MIN: Final = 6
"""Characters from which on a secret value is looked for in texts: shorter ones would cut up innocent words."""

_WORDS_MAX: Final = 8
"""Words up to which a value is several secrets rather than a certificate or a text."""

_SECRET_NAME = re.compile(
    r"(^|[-_.])(token|secret|password|passwd|authorization|cookie|credentials?|api[-_]?key|private[-_]?key|signature)$",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b(?:(bearer)\s+[A-Za-z0-9._~+/=-]{4,}|(basic)\s+(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/=]{8,})", re.IGNORECASE
)
_USERINFO = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]*(?=@)")

_NOISY: Final = (
    "asyncio",
    "aiohttp",
    "botocore",
    "boto3",
    "s3transfer",
    "urllib3",
    "kopf",
    "kubernetes",
    "opentelemetry",
)
"""Libraries whose `info` lines tell an operator nothing."""


class Concealed:
    """Secret values that must not be written, whatever they stand in."""

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()

    def replace(self, values: Iterable[bytes]) -> None:
        """Conceal exactly *values* from now on, and what they consist of; a new configuration brings new secrets."""
        texts = {part for value in values for part in _parts(value.decode("utf-8", "replace"))}
        self._values = tuple(sorted(texts, key=len, reverse=True))

    def add(self, values: Iterable[bytes]) -> None:
        """Conceal *values* as well."""
        texts = {part for value in values for part in _parts(value.decode("utf-8", "replace"))}
        self._values = tuple(sorted(texts.union(self._values), key=len, reverse=True))

    def hide(self, text: str) -> str:
        """Give *text* without anything that looks like, or is, a secret."""
        for value in self._values:
            if value in text:
                text = text.replace(value, REDACTED)
        if "://" in text:
            text = _USERINFO.sub(REDACTED, text)
        return _BEARER.sub(lambda match: f"{match[1] or match[2]} {REDACTED}", text)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Redact and bound every field (a structlog processor)."""
        return {name: self._clean(name, value, _DEPTH_MAX) for name, value in event.items()}

    def _clean(self, name: str, value: Any, depth: int) -> Any:
        if _SECRET_NAME.search(name):
            return REDACTED
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.hide(_cut(value, _TRACE_MAX if name == "exception" else _VALUE_MAX))
            case dict() if depth:
                items = list(value.items())[:_ITEMS_MAX]
                return {str(key): self._clean(str(key), inner, depth - 1) for key, inner in items}
            case list() | tuple() | set() | frozenset() if depth:
                return [self._clean("", inner, depth - 1) for inner in list(value)[:_ITEMS_MAX]]
            case bytes():
                return f"<{len(value)} bytes>"
            case _:
                return self.hide(_cut(str(value), _VALUE_MAX))


class Repetitions:
    """Drops warnings and errors that repeat, and says how many.

    Args:
        monotonic: seconds that never go back.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self.dropped = 0
        """Messages dropped so far."""

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Let an event pass or drop it (a structlog processor)."""
        if event.get("level", method) not in {"warning", "error", "critical"}:
            return event
        about = (str(event[name])[:200] for name in IDENTIFYING if name in event)
        key = (str(event.get("logger", "")), str(event.get("level")), str(event.get("event"))[:500], *about)
        now = self._monotonic()
        written, left_out = self._seen.get(key, (-REPEAT_SECONDS, 0))
        if key in self._seen and now - written < REPEAT_SECONDS:
            self._seen[key] = (written, left_out + 1)
            self.dropped += 1
            raise structlog.DropEvent
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > _KEYS_MAX:
            self._seen.popitem(last=False)
        if left_out:
            event["repeated"] = left_out
        return event


CONCEALED: Final = Concealed()
"""The secrets of this process. One for the whole process, because logging is."""


def configure(
    level: Level = "info",
    *,
    console: bool | None = None,
    stream: TextIO | None = None,
    repetitions: Repetitions | None = None,
) -> None:
    """Set up logging for the whole process, structlog's and the standard library's; calling it again replaces the former set-up.

    Args:
        level: the least severe level that is written. `debug` shows refused requests and the chatter of libraries.
        console: readable lines instead of JSON; None asks whether the stream is a terminal.
        stream: where to; standard error by default.
        repetitions: the limit of repeated messages; a fresh one by default.

    Raises:
        ValueError: there is no such level.
    """
    numbers: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level not in numbers:
        raise ValueError(f'level: "{level}" is not allowed (one of {", ".join(numbers)})')
    out = stream or sys.stderr
    readable = out.isatty() if console is None else console
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        repetitions or Repetitions(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _trace_context,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        CONCEALED,
    ]
    last: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if readable
        else [structlog.processors.EventRenamer("message"), _json]
    )
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(numbers[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numbers[level])
    for name in _NOISY:
        logging.getLogger(name).setLevel(numbers[level] if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; the standard handler would report a dropped one as a failure."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except structlog.DropEvent:
            return
        except Exception:  # noqa: BLE001 - a line that cannot be rendered must not fail who logs
            self.handleError(record)
            return
        try:
            self.stream.write(text + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads any more, or the stream is closed: there is nowhere to say so
            return


def _parts(value: str) -> Iterator[str]:
    """Yield what of a secret value may turn up alone: each of several secrets, user and password of a URL, and all of it as a login carries it."""
    words = value.split()
    pieces = {value, value.strip(), *(words if len(words) <= _WORDS_MAX else ())}
    for userinfo in _USERINFO.findall(value):
        pieces |= {part for raw in userinfo.split(":") for part in (raw, unquote(raw))}
    for piece in pieces:
        if len(piece) >= _SECRET_MIN:
            yield piece
            if len(words) <= _WORDS_MAX:
                # Where it begins within the bytes that are encoded decides how it looks; the ends depend on what stands beside it.
                encoded = (base64.b64encode(b"\0" * offset + piece.encode())[4:-4].decode() for offset in range(3))
                yield from (text for text in encoded if len(text) >= _SECRET_MIN)


def _trace_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the trace that a line belongs to."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Render one line, with what people look for first in front."""
    first = {name: event.pop(name) for name in ("time", "level", "logger", "message") if name in event}
    line = {**first, **event}
    try:
        return msgspec.json.encode(line).decode()
    except (TypeError, ValueError, OverflowError):  # a lone surrogate, an integer of more than 64 bits
        return json.dumps(line, default=str)


def _cut(text: str, limit: int) -> str:
    """Bound a text; what is left out is in its middle."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
