"""What is wrong with a manifest, said so that its writer can act: which field, which value, which rule, which fix.

A path is written as `kubectl explain` and the API server write it: `spec.rules[1].limits[0].per`. Every check in Pillion yields
`Violation`s instead of raising, so that one run tells everything that is wrong.
"""

import difflib
import json
from collections.abc import Iterable
from typing import Any, Final, Literal, NewType

import msgspec

FieldPath = NewType("FieldPath", str)
"""Where a field stands in its resource, as in `spec.rules[1].limits[0].per`."""

SPEC: Final = FieldPath("spec")

_VALUE_LIMIT: Final = 80
"""Characters of a value that a message repeats: enough to recognise it, too little to flood an Event."""


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One broken rule.

    Args:
        path: the field, from the root of the resource.
        rule: what is not allowed and why, as a clause that follows the path and the value.
        fix: what to write instead, as an imperative.
        value: the value as found; `msgspec.UNSET` where the field is missing or where the value must not be shown.
        severity: an `error` refuses the resource, a `warning` is only told.
    """

    path: FieldPath
    rule: str
    fix: str = ""
    value: Any = msgspec.UNSET
    severity: Literal["error", "warning"] = "error"

    @property
    def message(self) -> str:
        """The whole of it on one line: `path: value rule; fix`."""
        shown = "" if self.value is msgspec.UNSET else f"{show(self.value)} "
        return f"{self.path}: {shown}{self.rule}" + (f"; {self.fix}" if self.fix else "")


def show(value: Any) -> str:
    """Write *value* as JSON, cut to a length that fits a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_LIMIT else f"{text[: _VALUE_LIMIT - 1]}…"


def at(parent: FieldPath | str, *steps: str | int) -> FieldPath:
    """Extend a path: a number is a list index, a plain name a field, any other text a map key in brackets."""
    path = str(parent)
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() or not path:
            path += f".{step}" if path else step
        else:
            path += f"[{json.dumps(step, ensure_ascii=False)}]"
    return FieldPath(path)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest of *known* for a mistyped *word*, else list what there is (at most twelve)."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    if not names:
        return "there is none to choose from"
    listed = ", ".join(names[:12])
    return f"use one of: {listed}" + (", …" if len(names) > 12 else "")
