"""The `logs` section of a SidecarProfile: which files are followed, what is masked, where records go."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pillion.kinds.definition import BlockDefinition, ProfileSection
from pillion.kinds.model import ATOMIC, FREEFORM, JSON, DnsLabel, Model, Rule, SecretKeyRef, list_map
from pillion.kinds.quantities import NANOSECONDS, Duration, Size, parse_duration, parse_size
from pillion.kinds.violations import FieldPath, Violation, at, did_you_mean
from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan, LogPlan, SinkPlan, SourcePlan
from pillion.logs.patterns import BUILT_IN, MAX_PATTERN, MaskRule, compile_pattern

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

Glob = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00-\x1f]+$",
        min_length=2,
        max_length=1024,
        description="An absolute path; *, ? and [] match within one folder.",
    ),
]


class Source(Model, frozen=True, kw_only=True):
    """Files that are followed through rotation, truncation and restarts."""

    name: Annotated[
        DnsLabel, Meta(description="Name of the source, unique within the profile; stands in every record.")
    ]
    files: Annotated[
        tuple[Glob, ...],
        Meta(
            min_length=1,
            max_length=16,
            description="Absolute paths or glob patterns, as in /var/log/app/*.log.",
            extra_json_schema=ATOMIC,
        ),
    ]
    format: Annotated[
        Literal["json", "text"],
        Meta(description="Whether each line is a JSON object. Other lines are kept as text, whatever stands here."),
    ] = "text"


class MaskPattern(Model, frozen=True, kw_only=True):
    """A pattern of one's own; `[name]` stands in place of what it matches."""

    name: Annotated[DnsLabel, Meta(description="Name of the rule.")]
    pattern: Annotated[
        str, Meta(min_length=1, max_length=MAX_PATTERN, description="A pattern in RE2 syntax, within one line.")
    ]


class HttpSink(Model, frozen=True, kw_only=True):
    """Batches of records, newline-delimited JSON, POSTed to an HTTP endpoint."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://", min_length=9, max_length=2048)],
        Meta(description="Absolute URL, http or https, without user or password."),
    ]
    compression: Annotated[Literal["gzip", "none"], Meta(description="How bodies are compressed.")] = "gzip"
    headers: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=128)], Annotated[str, Meta(max_length=1024)]],
        Meta(max_length=16, description="Further request headers. Nothing secret: this text stands in the resource."),
    ] = {}
    token_ref: Annotated[SecretKeyRef | None, Meta(description="Secret key with a bearer token for the endpoint.")] = (
        None
    )
    timeout: Annotated[Duration, Meta(description="One request takes at most this long, 100ms to 5m.")] = "10s"


class FileSink(Model, frozen=True, kw_only=True):
    """A file that records are appended to, newline-delimited JSON."""

    path: Annotated[
        Annotated[str, Meta(pattern=r"^/[^\x00-\x1f]+$", min_length=2, max_length=1024)],
        Meta(description="Absolute path; its folder must exist and be writable."),
    ]
    max_size: Annotated[
        Size,
        Meta(
            description="Size from which on the file is renamed to <path>.1, replacing the former one; at least 64Ki."
        ),
    ] = "64Mi"


class Batch(Model, frozen=True, kw_only=True):
    """How records are gathered before they are sent."""

    size: Annotated[Size, Meta(description="Send once this much has gathered, 1Ki to 16Mi, before compression.")] = (
        "1Mi"
    )
    linger: Annotated[Duration, Meta(description="Send this long after the first record at the latest, up to 1m.")] = (
        "1s"
    )


class Sink(Model, frozen=True, kw_only=True):
    """Where records go. Exactly one of http and file says what it is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.http) != has(self.file)",
            test=lambda o: (o.get("http") is not None) != (o.get("file") is not None),
            message="must have exactly one of http and file; add the one that is meant, remove the other",
        ),
    )

    name: Annotated[
        DnsLabel, Meta(description="Name of the sink, unique within the profile; its progress is kept under it.")
    ]
    http: Annotated[HttpSink | None, Meta(description="POST records to an HTTP endpoint.")] = None
    file: Annotated[FileSink | None, Meta(description="Append records to a file.")] = None
    batch: Annotated[Batch, Meta(description="How records are gathered before they are sent.")] = Batch()


class Logs(Model, frozen=True, kw_only=True):
    """Log files to follow, what to mask in them, and where their records go."""

    sources: Annotated[
        tuple[Source, ...], Meta(max_length=32, description="What is followed.", extra_json_schema=list_map("name"))
    ] = ()
    mask: Annotated[
        JSON,
        Meta(
            description="What is masked before a record leaves the process: words (email, creditCard) and patterns of one's own ({name, pattern}); at most 32.",
            extra_json_schema=FREEFORM,
        ),
    ] = None
    sinks: Annotated[
        tuple[Sink, ...],
        Meta(max_length=8, description="Where records go; each at its own pace.", extra_json_schema=list_map("name")),
    ] = ()
    intake: Annotated[
        Size,
        Meta(
            description="Bound of the records that POST /v1/logs took and no sink has confirmed yet, 1Mi to 16Gi; beyond it 507."
        ),
    ] = "256Mi"


def mask_rules(mask: JSON) -> list[MaskRule]:
    """Read the `mask` list of a section that passed its check."""
    rules = []
    for item in mask or ():
        if isinstance(item, str):
            rules.append(BUILT_IN[item])
        else:
            one = msgspec.convert(item, MaskPattern)
            rules.append(MaskRule(name=one.name, pattern=one.pattern))
    return rules


def _check(section: Logs, path: FieldPath) -> Iterable[Violation]:
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


def matches_path(pattern: str, path: str) -> bool:
    """Tell whether *pattern* matches *path*: part by part, so that no wildcard reaches across a slash."""
    wanted, given = pattern.split("/"), path.split("/")
    return len(wanted) == len(given) and all(map(fnmatchcase, given, wanted))


def _compile(section: Logs) -> JSON:
    plan = LogPlan(
        sources=tuple(SourcePlan(name=s.name, files=s.files, format=s.format) for s in section.sources),
        mask=tuple(mask_rules(section.mask)),
        sinks=tuple(_sink(sink) for sink in section.sinks),
        intake_bytes=parse_size(section.intake),
    )
    return msgspec.to_builtins(plan)


def _sink(sink: Sink) -> SinkPlan:
    http: HttpSinkPlan | None = None
    file: FileSinkPlan | None = None
    if sink.http is not None:
        http = HttpSinkPlan(
            url=sink.http.url,
            headers=dict(sink.http.headers),
            gzip=sink.http.compression == "gzip",
            timeout_ns=parse_duration(sink.http.timeout),
            token=(sink.http.token_ref.name, sink.http.token_ref.key) if sink.http.token_ref else None,
        )
    if sink.file is not None:
        file = FileSinkPlan(path=sink.file.path, max_bytes=parse_size(sink.file.max_size))
    return SinkPlan(
        name=sink.name,
        http=http,
        file=file,
        batch_bytes=parse_size(sink.batch.size),
        linger_ns=parse_duration(sink.batch.linger),
    )


SECTION: Final[ProfileSection[Any]] = ProfileSection(
    field="logs",
    model=Logs,
    description="Log files to follow, what to mask in them, and where their records go.",
    check=_check,
    compile=_compile,
)

BLOCK: Final = BlockDefinition(name="logs", section=SECTION)
