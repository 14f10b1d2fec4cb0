"""Rendering: a template's source, a locale and data in; subject, text and HTML out. Pure, bounded, and the same for preview and for sending.

Nothing in a result can break out of where it will stand: the subject is one line without control characters, the HTML part escapes every value,
the text part holds no control characters but line breaks and tabs. A template whose text part is absent gets one from its HTML part.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

from jinja2 import Template, UndefinedError

from pillion.notifications.budget import BUDGET_KEY, LOCALE_KEY, MAX_TEXT, Budget, LimitError
from pillion.notifications.content import Part, Rendered, RenderError, Source
from pillion.notifications.plaintext import from_html
from pillion.notifications.sandbox import Forbidden, TemplateEnvironment

JSON = Any

MAX_SUBJECT: Final = 255
"""Characters of a subject; a longer one is cut, because a long product name is no reason to refuse a message."""

TOO_LONG: Final = f"makes a text longer than {MAX_TEXT} characters; pass shorter texts"

_BREAKS: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@lru_cache(maxsize=2)
def environment(*, html: bool) -> TemplateEnvironment:
    """Give the dialect for HTML or for plain text; made once."""
    return TemplateEnvironment(html=html)


@lru_cache(maxsize=1024)
def _template(source: str, html: bool) -> Template:  # noqa: FBT001 - a cache key
    template: Template = environment(html=html).compile_template(source)
    return template


def render(source: Source, locale: str, data: Mapping[str, JSON]) -> Rendered:
    """Render one translation.

    Args:
        source: the templates.
        locale: how numbers, amounts and dates are written.
        data: the variables, which should have been validated against the template's schema.

    Raises:
        RenderError: it cannot be rendered, or reaches a bound; part, line and reason are named.
    """
    html = tidy(render_part("html", source.html, locale, data)) if source.html else ""
    text = tidy(render_part("text", source.text, locale, data)) if source.text else from_html(html)
    return Rendered(subject=one_line(render_part("subject", source.subject, locale, data)), text=text, html=html)


def render_part(part: Part, source: str, locale: str, data: Mapping[str, JSON]) -> str:
    """Render one part as it is, before it is fitted into a message.

    Raises:
        RenderError: see `render`.
    """
    try:
        template = _template(source, part == "html")
    except Forbidden as error:
        raise RenderError(part, error.line, f"{error.rule}; {error.fix}") from error
    variables = {**data, BUDGET_KEY: Budget(), LOCALE_KEY: locale}
    chunks: list[str] = []
    length = 0
    try:
        for chunk in template.root_render_func(template.new_context(variables)):
            length += len(chunk)
            if length > MAX_TEXT:
                raise LimitError(TOO_LONG)  # noqa: TRY301 - told with its line, as every other bound
            chunks.append(chunk)
    except RecursionError as error:
        raise RenderError(part, 0, "is nested too deeply") from error
    except (UndefinedError, LimitError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise RenderError(part, _line(template, error.__traceback__), _reason(error)) from error
    return "".join(chunks)


def _line(template: Template, trace: TracebackType | None) -> int:
    """Give the line of the template at which an error arose: the innermost frame of the template's own code."""
    found = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found


def _reason(error: Exception) -> str:
    match error:
        case UndefinedError():
            return re.sub(r"^'(?:dict|builtins\.dict) object' has no attribute", "the data has no", str(error))
        case LimitError():
            return str(error)
        case ZeroDivisionError():
            return "divides by zero"
        case _:
            return f"{type(error).__name__}: {error}"


def one_line(text: str) -> str:
    """Fit *text* into one header line: every run of white space and control characters becomes a space, and a long text is cut."""
    line = _BREAKS.sub(" ", text).strip()
    return line if len(line) <= MAX_SUBJECT else line[: MAX_SUBJECT - 1].rstrip() + "…"


def tidy(text: str) -> str:
    """Give *text* with line feeds alone as line breaks and without other control characters."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
