"""Proof at apply: a template that passes here renders with all data that its schema admits.

Three belts: the language (`sandbox.py`: nothing but the allowed constructs), the types (`analysis.py`: every value may be used as it is used), and a
trial (`samples.py`: four corners of the schema are rendered for real). The trial can only fail by a gap in the analysis or by length; both are
told like any other mistake.
"""

from collections.abc import Iterator, Mapping

from pillion.kinds.violations import FieldPath, Violation, at
from pillion.notifications.analysis import analyse
from pillion.notifications.budget import MAX_TRIED
from pillion.notifications.content import Part, RenderError, Source
from pillion.notifications.engine import environment, render
from pillion.notifications.samples import SAMPLES, sample
from pillion.notifications.sandbox import Forbidden
from pillion.notifications.variables import Variable


def prove(content: Mapping[str, Source], variables: Variable, path: FieldPath) -> Iterator[Violation]:
    """Yield what is wrong with the translations of one channel.

    Args:
        content: the translations by locale.
        variables: the schema's root.
        path: path of `content` in the resource.
    """
    tried = 0
    for locale, source in sorted(content.items()):
        where = at(path, locale)
        found, evaluations = _read(source, variables, where)
        yield from found
        tried += evaluations
        if not found and tried <= MAX_TRIED:
            yield from _try(source, locale, variables, where)


def _parts(source: Source) -> Iterator[tuple[Part, str]]:
    yield "subject", source.subject
    if source.text:
        yield "text", source.text
    if source.html:
        yield "html", source.html


def _read(source: Source, variables: Variable, where: FieldPath) -> tuple[list[Violation], int]:
    """Read all parts; give what is wrong, and how many expressions they evaluate at most."""
    found: list[Violation] = []
    evaluations = 0
    if "\n" in source.subject.strip():
        found.append(Violation(path=at(where, "subject"), rule="has a line break", fix="write the subject on one line"))
    for part, text in _parts(source):
        html = part == "html"
        try:
            report = analyse(environment(html=html).parse_checked(text), variables, html=html)
            environment(html=html).compile_template(text)
        except Forbidden as error:
            found.append(Violation(path=at(where, part), rule=f"line {error.line}: {error.rule}", fix=error.fix))
            continue
        evaluations += report.evaluations
        found += [
            Violation(path=at(where, part), rule=f"line {finding.line}: {finding.rule}", fix=finding.fix)
            for finding in report.findings
        ]
    return found, evaluations


def _try(source: Source, locale: str, variables: Variable, where: FieldPath) -> Iterator[Violation]:
    for which in SAMPLES:
        try:
            rendered = render(source, locale, sample(variables, which))
        except RenderError as error:
            line = f"line {error.line}: " if error.line else ""
            yield Violation(
                path=at(where, error.part),
                rule=f"{line}does not render with the {which} data that the schema admits: {error.reason}",
                fix="guard what may be absent, or bound the schema",
            )
            return
        if which == "typical" and not rendered.subject:
            yield Violation(
                path=at(where, "subject"), rule="renders to nothing", fix="write a subject", severity="warning"
            )
