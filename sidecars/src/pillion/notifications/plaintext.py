"""The text part of an e-mail, made from its HTML part when the writer gave none.

A reader without HTML, a screen reader and a spam filter should find the same words in the same order: blocks become lines, links keep their target,
list items their mark, cells of a table row stand side by side. What is not shown (style, scripts, comments, `hidden`, preheader tricks with
`display:none`) is not written. It is a converter for mails, no browser: positions, colours and sizes are lost.
"""

import re
from html.parser import HTMLParser
from typing import Final

_SILENT: Final = frozenset({"head", "style", "script", "title", "template", "noscript", "svg", "object"})
_BLOCK: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt", "footer", "header", "html", "li", "main", "nav", "ol",
     "pre", "section", "table", "tbody", "tfoot", "thead", "tr", "ul"}
)  # fmt: skip
_PARAGRAPH: Final = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "figure", "form", "hr"})
_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_HIDDEN: Final = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f\u00ad\u200b\u034f]+")
_MAX_DEPTH: Final = 500


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self._open: list[tuple[str, bool, str]] = []
        self._silent = 0
        self._lists: list[int | None] = []
        self._link_start = (0, 0)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in _VOID:
            self._void(tag, values)
            return
        silent = tag in _SILENT or "hidden" in values or bool(_HIDDEN.search(values.get("style", "")))
        if len(self._open) < _MAX_DEPTH:
            self._open.append((tag, silent, values.get("href", "") if tag == "a" else ""))
            self._silent += silent
        if self._silent:
            return
        self._space(tag)
        if tag in ("ol", "ul"):
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            number = self._lists[-1] if self._lists else None
            self._put("  " * (len(self._lists) - 1) + ("- " if number is None else f"{number}. "))
            if number is not None:
                self._lists[-1] = number + 1
        elif tag == "a":
            self._link_start = (len(self.lines) - 1, len(self.lines[-1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not any(name == tag for name, _silent, _href in self._open):
            return
        while self._open:
            name, silent, href = self._open.pop()
            if not self._silent:
                self._close(name, href)
            self._silent -= silent
            if name == tag:
                break

    def _close(self, tag: str, href: str) -> None:
        if tag in ("ol", "ul") and self._lists:
            self._lists.pop()
        if tag == "a" and href and not href.startswith("#"):
            line, column = self._link_start
            shown = " ".join([self.lines[line][column:], *self.lines[line + 1 :]]).strip()
            target = href.removeprefix("mailto:").removeprefix("tel:")
            if shown not in (target, href):
                self._put(f" ({href.strip()})" if shown else href.strip())
        if tag in ("td", "th"):
            self._put("  ")
        self._space(tag)

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if any(name == "pre" for name, _silent, _href in self._open):
            first, *rest = data.replace("\r\n", "\n").split("\n")
            self.lines[-1] += first
            self.lines.extend(rest)
            return
        text = _SPACE.sub(" ", data)
        if self.lines[-1] == "" or self.lines[-1].endswith(" "):
            text = text.lstrip(" ")
        self.lines[-1] += text

    def _void(self, tag: str, values: dict[str, str]) -> None:
        if self._silent:
            return
        if tag == "br":
            self.lines.append("")
        elif tag == "hr":
            self._space(tag)
            self._put("----")
            self._space(tag)
        elif tag == "img" and values.get("alt", "").strip():
            self._put(_SPACE.sub(" ", values["alt"].strip()))

    def _put(self, text: str) -> None:
        self.lines[-1] += text

    def _space(self, tag: str) -> None:
        if tag in _PARAGRAPH:
            self._break()
            if len(self.lines) > 1 and self.lines[-2:] != ["", ""]:
                self.lines.append("")
        elif tag in _BLOCK:
            self._break()

    def _break(self) -> None:
        if self.lines[-1].strip():
            self.lines.append("")


def from_html(html: str) -> str:
    """Give the words of *html* as plain text, without trailing spaces and with at most one empty line in a row."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines: list[str] = []
    for line in reader.lines:
        text = line.rstrip()
        if text or (lines and lines[-1]):
            lines.append(text)
    return "\n".join(lines).strip("\n")
