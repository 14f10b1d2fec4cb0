"""The `logs` section of a SidecarProfile as people write it: types, defaults and descriptions, from which the schema and the reference are made.

Deliberately absent: what one field alone cannot tell (`checks.py`), and what the block makes of it (`kind.py`).
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from pillion.kinds.model import ATOMIC, FREEFORM, JSON, DnsLabel, Model, Rule, SecretKeyRef, list_map
from pillion.kinds.quantities import Duration, Size
from pillion.logs.patterns import MAX_PATTERN

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
