"""The `logs` section of a SidecarProfile: which files are followed, what is masked, where records go."""

from typing import Any, Final

import msgspec

from pillion.kinds.definition import BlockDefinition, ProfileSection
from pillion.kinds.model import JSON
from pillion.kinds.quantities import parse_duration, parse_size
from pillion.logs.checks import check
from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan, LogPlan, SinkPlan, SourcePlan
from pillion.logs.patterns import BUILT_IN, MaskRule
from pillion.logs.section import Logs, MaskPattern, Sink


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
    check=check,
    compile=_compile,
)

BLOCK: Final = BlockDefinition(name="logs", section=SECTION)
