"""Print findings for a person, for another program, or as annotations of a pull request."""

import json
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import msgspec

from pillion.kinds.bundle import Finding
from pillion.kinds.violations import show

Output = Literal["human", "json", "github"]

_RED, _YELLOW, _BOLD, _DIM, _OFF = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def print_findings(findings: Iterable[Finding], output: Output, stream: TextIO | None = None) -> None:
    """Print *findings*, errors and warnings alike, in the order of the files."""
    stream = stream or sys.stdout
    match output:
        case "human":
            for finding in findings:
                print(human(finding, color=stream.isatty()), file=stream)
        case "json":
            print(json.dumps([_plain(finding) for finding in findings], indent=2, ensure_ascii=False), file=stream)
        case "github":
            for finding in findings:
                print(_annotation(finding), file=stream)


def human(finding: Finding, *, color: bool) -> str:
    """Write one finding as `file:line: error: Kind/name: path: value rule; fix`, the form that editors and terminals can jump to."""
    violation = finding.violation
    subject = f"{finding.resource}: " if finding.resource else ""
    if not color:
        return f"{finding.file}:{finding.line}: {violation.severity}: {subject}{violation.message}"
    tint = _RED if violation.severity == "error" else _YELLOW
    shown = "" if violation.value is msgspec.UNSET else f"{show(violation.value)} "
    fix = f"\n    {_DIM}fix:{_OFF} {violation.fix}" if violation.fix else ""
    return (
        f"{_BOLD}{finding.file}:{finding.line}:{_OFF} {tint}{violation.severity}:{_OFF} {subject}"
        f"{_BOLD}{violation.path}{_OFF}: {shown}{violation.rule}{fix}"
    )


def _plain(finding: Finding) -> dict[str, object]:
    violation = finding.violation
    plain: dict[str, object] = {
        "file": finding.file,
        "line": finding.line,
        "severity": violation.severity,
        "resource": finding.resource,
        "path": violation.path,
        "rule": violation.rule,
        "fix": violation.fix,
        "message": violation.message,
    }
    if violation.value is not msgspec.UNSET:
        plain["value"] = violation.value
    return plain


def _annotation(finding: Finding) -> str:
    # Workflow commands: properties escape %, CR, LF, colon and comma, the message only the first three.
    def escape(text: str, *, is_property: bool) -> str:
        text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        return text.replace(":", "%3A").replace(",", "%2C") if is_property else text

    violation = finding.violation
    title = escape(finding.resource or "manifest", is_property=True)
    file = escape(finding.file, is_property=True)
    message = escape(violation.message, is_property=False)
    return f"::{violation.severity} file={file},line={finding.line},title={title}::{message}"
