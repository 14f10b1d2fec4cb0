"""The `logs` section as the block reads it: everything explicit, durations in nanoseconds, sizes in bytes."""

from typing import Literal

import msgspec

from pillion.logs.patterns import MaskRule


class SourcePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are followed.

    Args:
        name: of the source; stands in every record.
        files: glob patterns of absolute paths.
        format: whether a line is a JSON object or any text.
    """

    name: str
    files: tuple[str, ...]
    format: Literal["json", "text"]


class HttpSinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Batches of NDJSON that are POSTed.

    Args:
        url: where to.
        headers: further request headers.
        gzip: whether bodies are compressed.
        timeout_ns: one request takes at most this long.
        token: (Secret, key) of a bearer token; None sends none.
    """

    url: str
    headers: dict[str, str]
    gzip: bool
    timeout_ns: int
    token: tuple[str, str] | None


class FileSinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A file of NDJSON that is appended to, and rotated once when it is full.

    Args:
        path: absolute path.
        max_bytes: size from which on it is renamed to `<path>.1`, replacing the former one.
    """

    path: str
    max_bytes: int


class SinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where records go; exactly one of `http` and `file` is set.

    Args:
        name: of the sink; its checkpoints are kept under it.
        http: an HTTP endpoint.
        file: a file.
        batch_bytes: records are sent once this many bytes have gathered...
        linger_ns: ...or this long after the first of them.
    """

    name: str
    http: HttpSinkPlan | None
    file: FileSinkPlan | None
    batch_bytes: int
    linger_ns: int


class LogPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole section.

    Args:
        sources: what is followed.
        mask: what is masked.
        sinks: where it goes.
        intake_bytes: bound of the records that `POST /v1/logs` took and no sink has confirmed yet.
    """

    sources: tuple[SourcePlan, ...]
    mask: tuple[MaskRule, ...]
    sinks: tuple[SinkPlan, ...]
    intake_bytes: int
