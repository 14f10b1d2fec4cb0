"""Reads the commands out of a page: every line after `$ ` in a console fence, what the page shows as its output, and whether a machine without nodes can run it.

A fence that cannot run everywhere says so in a comment on the line before it, which readers do not see:

    <!-- needs: node -->        a reason of NEEDS; the command is listed, not run
    <!-- fails -->              each command is expected to fail, and to show what the page shows
    <!-- setup                  commands that make the situation that the page talks about; run, never shown
    $ kubectl …
    -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PAGES: Final = ("install.md", "upgrade.md", "gitops.md", "troubleshooting.md")
"""The pages of docs/ whose commands are run."""

NEEDS: Final = {
    "node": "needs a kubelet, to run the pod or to reach into it",
    "docker": "builds an image with a Docker engine",
    "registry": "speaks to an image registry",
    "git": "speaks to a Git server",
    "argocd": "speaks to Argo CD",
    "flux": "speaks to Flux",
    "cert-manager": "speaks to cert-manager",
    "monitoring": "needs the definitions of the Prometheus operator",
}
"""What a command may need that the test control plane does not have."""

_MARK: Final = re.compile(r"<!-- (?P<text>(?:needs: [a-z-]+|fails)(?:; fails)?) -->")
_READS: Final = re.compile(
    r"^(kubectl( -n \S+)? (get|describe|events|wait|rollout status)|curl )|^.* --dry-run=server\b"
)


class PageError(Exception):
    """A page that this reader does not understand; the message names page, line and fix."""


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    line: int
    text: str
    shown: tuple[str, ...]
    """Lines that the page shows as its output; `…` in them stands for anything."""
    needs: str
    """Why it is not run; empty where it is."""
    fails: bool

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that it may be asked again until the cluster has settled."""
        return bool(_READS.match(self.text))


def read(page: str, text: str) -> Iterator[Command]:
    """Yield the commands of a page in their order.

    Args:
        page: name of the page, for messages.
        text: its Markdown.

    Raises:
        PageError: a mark is unknown, or a fence of commands is no console fence.
    """
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if re.match(r"^\s*```(sh|bash|shell|zsh)\b", line):
            raise PageError(f"{page}:{number + 1}: commands stand in ```console fences, each after `$ `")
        if line.strip() == "<!-- setup":
            end = lines.index("-->", number)
            yield from _commands(page, lines, number + 1, end, "", fails=False)
            number = end
        elif re.match(r"^```console$", line):
            end = lines.index("```", number + 1)
            needs, fails = _mark(page, number, lines[number - 1] if number else "")
            found = list(_commands(page, lines, number + 1, end, needs, fails=fails))
            if not found:
                raise PageError(f"{page}:{number + 1}: no line begins with `$ `")
            yield from found
            number = end
        elif line.startswith("```"):
            number = lines.index("```", number + 1)
        number += 1


def _mark(page: str, number: int, before: str) -> tuple[str, bool]:
    if not before.startswith("<!--") or before.strip() == "-->":
        return "", False
    found = _MARK.fullmatch(before.strip())
    if found is None:
        raise PageError(f"{page}:{number}: {before!r} is no mark; write <!-- needs: NAME --> or <!-- fails -->")
    needs = ""
    for part in found["text"].split("; "):
        if part.startswith("needs: "):
            needs = part.removeprefix("needs: ")
    if needs and needs not in NEEDS:
        raise PageError(f"{page}:{number}: {needs!r} is none of {', '.join(NEEDS)}")
    return needs, "fails" in found["text"]


def _commands(page: str, lines: list[str], start: int, end: int, needs: str, *, fails: bool) -> Iterator[Command]:
    text: list[str] = []
    shown: list[str] = []
    begun, waiting = 0, ""
    for number in range(start, end):
        line = lines[number]
        if waiting:
            text.append(line)
            if line == waiting:
                waiting = ""
        elif text and text[-1].endswith("\\") and not shown:
            text.append(line)
        elif line.startswith("$ "):
            if text:
                yield Command(page, begun, "\n".join(text), tuple(shown), needs, fails)
            begun, text, shown = number + 1, [line.removeprefix("$ ")], []
        elif text:
            shown.append(line)
        else:
            raise PageError(f"{page}:{number + 1}: output before any command")
        if heredoc := re.search(r"<<'?([A-Z]+)'?", line):
            waiting = heredoc[1]
    if text:
        yield Command(page, begun, "\n".join(text), tuple(shown), needs, fails)


def differs(shown: tuple[str, ...], output: str) -> str:
    """Tell which line of a page is not in an output, in its order; nothing where all are. Runs of spaces count as one."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for line in shown:
        wanted = " ".join(line.split())
        if wanted in ("", "…"):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        if not any(pattern.fullmatch(one) for one in lines):
            return line
    return ""
