"""What makes a `logs` section wrong although every field of it is well-formed: bounds, wildcards, patterns, loops, secrets in plain sight."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from pillion.kinds.model import JSON
from pillion.kinds.quantities import NANOSECONDS, parse_duration, parse_size
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean
from pillion.logs.identity import matches_path
from pillion.logs.patterns import BUILT_IN, compile_pattern
from pillion.logs.section import Batch, FileSink, HttpSink, Logs, MaskPattern, Source

MIN_FILE: Final = 64 << 10
"""A file sink below this would rotate with almost every batch."""

MIN_TIMEOUT: Final = 100 * NANOSECONDS["ms"]
MAX_TIMEOUT: Final = 5 * NANOSECONDS["m"]
MAX_LINGER: Final = NANOSECONDS["m"]
"""A batch that waits longer would be lost to whoever looks for it now."""

MIN_BATCH: Final = 1 << 10
MAX_BATCH: Final = 16 << 20
MIN_INTAKE: Final = 1 << 20
MAX_INTAKE: Final = 16 << 30

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 section 5.6.2: a token."""

_WORDS: Final = frozenset({"true", "false", "null"})

_OURS: Final = frozenset(
    {"content-type", "content-encoding", "content-length", "transfer-encoding", "host", "connection"}
)
_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


def check(section: Logs, path: FieldPath) -> Iterable[Violation]:
    """Give what is wrong with *section*, which stands at *path*."""
    yield from _check_mask(section.mask, at(path, "mask"))
    intake = parse_size(section.intake)
    if not MIN_INTAKE <= intake <= MAX_INTAKE:
        yield Violation(
            path=at(path, "intake"), value=section.intake, rule="is not between 1Mi and 16Gi", fix="256Mi is usual"
        )
    for index, source in enumerate(section.sources):
        for number, pattern in enumerate(source.files):
            if "**" in pattern or "//" in pattern or any(part in (".", "..") for part in pattern.split("/")):
                yield Violation(
                    path=at(path, "sources", index, "files", number),
                    value=pattern,
                    rule="uses **, // or dots: wildcards match within one folder, and a path is written in full",
                    fix="name each level, as in /var/log/*/*.log",
                )
    for index, sink in enumerate(section.sinks):
        here = at(path, "sinks", index)
        yield from _check_batch(sink.batch, at(here, "batch"))
        if sink.http is not None:
            yield from _check_http(sink.http, at(here, "http"))
        if sink.file is not None:
            yield from _check_file(sink.file, at(here, "file"), section.sources)
    taken: set[str] = set()
    for index, sink in enumerate(section.sinks):
        if sink.file is not None and sink.file.path in taken:
            spot = at(path, "sinks", index, "file", "path")
            yield Violation(
                path=spot, value=sink.file.path, rule="is another sink's file, too", fix="give each its own"
            )
        elif sink.file is not None:
            taken.add(sink.file.path)


def _check_mask(mask: JSON, here: FieldPath) -> Iterable[Violation]:
    if mask is None:
        return
    if not isinstance(mask, list):
        yield Violation(path=here, value=mask, rule="must be a list", fix="write it as in [email, creditCard]")
        return
    if len(mask) > 32:
        yield Violation(path=here, rule=f"has {len(mask)} items, at most 32 are allowed", fix="join patterns with |")
    names: set[str] = set()
    for index, item in enumerate(mask):
        spot = at(here, index)
        if isinstance(item, str):
            if item not in BUILT_IN:
                yield Violation(
                    path=spot, value=item, rule="is no rule that is built in", fix=did_you_mean(item, BUILT_IN)
                )
            continue
        try:
            one = msgspec.convert(item, MaskPattern)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at `")[0]
            yield Violation(
                path=spot,
                value=item,
                rule=f"is no rule: {reason}",
                fix="write a word, or {name: order-id, pattern: 'ORD-[0-9]+'}",
            )
            continue
        if not one.name[0].isalpha() or one.name in _WORDS or one.name in BUILT_IN or one.name in names:
            # `[1]` and `[true]` are JSON: in place of a number they would go through as a list.
            yield Violation(
                path=at(spot, "name"),
                value=one.name,
                rule="is taken, or would be taken for JSON where it stands in brackets",
                fix="choose a name of its own that begins with a letter, as in order-id",
            )
        names.add(one.name)
        try:
            compile_pattern(one.pattern)
        except ValueError as error:
            yield Violation(
                path=at(spot, "pattern"), value=one.pattern, rule=str(error), fix="use RE2 syntax, as in ORD-[0-9]{8}"
            )


def _check_batch(batch: Batch, here: FieldPath) -> Iterable[Violation]:
    if not MIN_BATCH <= parse_size(batch.size) <= MAX_BATCH:
        yield Violation(path=at(here, "size"), value=batch.size, rule="is not between 1Ki and 16Mi", fix="1Mi is usual")
    if parse_duration(batch.linger) > MAX_LINGER:
        yield Violation(path=at(here, "linger"), value=batch.linger, rule="is longer than 1m", fix="1s is usual")


def _check_http(http: HttpSink, here: FieldPath) -> Iterable[Violation]:
    try:
        parts = urlsplit(http.url)
        sound = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", http.url)
    except ValueError:
        parts, sound = urlsplit(""), False
    if parts.username is not None or parts.password is not None:
        # The value is not repeated: it holds a password.
        yield Violation(
            path=at(here, "url"),
            rule="holds a user or a password",
            fix="put a token into a Secret and name it in tokenRef",
        )
    elif not sound:
        yield Violation(
            path=at(here, "url"),
            value=http.url,
            rule="is no absolute http or https URL",
            fix="write it in full, as in http://loki:3100/push",
        )
    if not MIN_TIMEOUT <= parse_duration(http.timeout) <= MAX_TIMEOUT:
        yield Violation(
            path=at(here, "timeout"), value=http.timeout, rule="is not between 100ms and 5m", fix="10s is usual"
        )
    for name, value in http.headers.items():
        field = at(here, "headers", name)
        if not _HEADER.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            yield Violation(
                path=field,
                rule="is no header field: the name is a token, the value has no control characters",
                fix="correct the name or the value",
            )
        elif name.lower() in _OURS:
            yield Violation(path=field, rule="is set by the sink itself", fix="remove it")
        elif name.lower() in _SECRET:
            yield Violation(
                path=field,
                rule="would put a secret into the resource",
                fix="put a token into a Secret and name it in tokenRef",
            )


def _check_file(file: FileSink, here: FieldPath, sources: Iterable[Source]) -> Iterable[Violation]:
    if parse_size(file.max_size) < MIN_FILE:
        yield Violation(path=at(here, "maxSize"), value=file.max_size, rule="is below 64Ki", fix="64Mi is usual")
    for source in sources:
        if any(matches_path(pattern, path) for pattern in source.files for path in (file.path, f"{file.path}.1")):
            yield Violation(
                path=at(here, "path"),
                value=file.path,
                rule=f'is followed by the source "{source.name}": its records would come round for ever',
                fix="write elsewhere",
            )
