"""What the text of an annotation may be, once for both who read it: `read` in the webhook, and CEL expressions for API servers that inject by policy.

A form keeps its patterns and bounds as data, and its two readings stand side by side, so that a change of one is seen beside the other; a test creates pods through both.
Patterns stay within what Python's `re` and RE2 (which CEL uses) understand alike: ASCII classes, no look-around. Nothing here knows which annotations there are.
"""

import re
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from pillion_operator.injection import cel

OWN_FOLDERS: Final = ("/run/pillion", "/var/lib/pillion", "/var/run/secrets/pillion.dev")
"""Where the sidecar has volumes of its own; an API server refuses a pod with two volumes at one path."""

_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi)?")
_FACTORS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    "Ki": Decimal(1024),
    "M": Decimal(1000**2),
    "Mi": Decimal(1024**2),
    "G": Decimal(1000**3),
    "Gi": Decimal(1024**3),
}
LARGEST: Final = "1000000G"
"""More than any node has, and far below 2^63, where API servers begin to take different quantities for the same one."""


class Form(Protocol):
    """How the text of an annotation is read."""

    def read(self, text: str) -> Any:
        """Give the value that *text* stands for.

        Raises:
            ValueError: it stands for none; the message says what to write.
        """

    def accepts(self, text: str) -> str:
        """Give a CEL expression that tells whether `read` accepts what the expression *text* gives. *text* is repeated: a name, no computation."""

    def value(self, text: str) -> str:
        """Give a CEL expression of the value that an accepted *text* stands for. *text* is repeated."""


class Text(msgspec.Struct, frozen=True):
    """A text that matches a pattern, taken as it is."""

    pattern: str
    fix: str

    def read(self, text: str) -> str:  # noqa: D102 - as in Form
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(self.fix)
        return text

    def accepts(self, text: str) -> str:  # noqa: D102 - as in Form
        return cel.matches(text, self.pattern)

    def value(self, text: str) -> str:  # noqa: D102 - as in Form
        return text


def one_of(*words: str) -> Text:
    """Give the form of one of some words."""
    return Text("|".join(words), f"use one of {', '.join(words)}")


class Port(msgspec.Struct, frozen=True):
    """A port that needs no privilege."""

    lowest: int = 1024
    highest: int = 65535
    pattern: str = "[1-9][0-9]{3,4}"

    def read(self, text: str) -> int:  # noqa: D102 - as in Form
        if re.fullmatch(self.pattern, text) is None or not self.lowest <= int(text) <= self.highest:
            raise ValueError(f"use a port from {self.lowest} to {self.highest}")
        return int(text)

    def accepts(self, text: str) -> str:  # noqa: D102 - as in Form
        return f"{cel.matches(text, self.pattern)} && int({text}) >= {self.lowest} && int({text}) <= {self.highest}"

    def value(self, text: str) -> str:  # noqa: D102 - as in Form
        return f"int({text})"


class Quantity(msgspec.Struct, frozen=True):
    """A Kubernetes quantity; as a limit, also `none`, which reads as the empty text."""

    limit: bool = False

    def read(self, text: str) -> str:  # noqa: D102 - as in Form
        if self.limit and text == "none":
            return ""
        if amount(text) > amount(LARGEST):
            raise ValueError(f"write at most {LARGEST}")
        return text

    def accepts(self, text: str) -> str:  # noqa: D102 - as in Form
        some = f"{cel.matches(text, _QUANTITY.pattern)} && !{above(text, cel.literal(LARGEST))}"
        return f'({text} == "none" || {some})' if self.limit else some

    def value(self, text: str) -> str:  # noqa: D102 - as in Form
        return f'({text} == "none" ? "" : {text})' if self.limit else text


def amount(quantity: str) -> Decimal:
    """Give the number that a quantity stands for.

    Raises:
        ValueError: it is none, or of a form that is not used here.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError("write a quantity, as in 100m or 128Mi")
    return Decimal(match[1] + (match[2] or "")) * _FACTORS[match[3] or ""]


def above(quantity: str, other: str) -> str:
    """Give a CEL expression that tells whether a quantity is more than another one."""
    return f"quantity({quantity}).isGreaterThan(quantity({other}))"


_VOLUME: Final = "[a-z0-9][-a-z0-9]{0,62}"
_PATH: Final = "/[^:,]*[^:,/ \t\n]"
_BLANK: Final = "[ \t\n]*"


class Mounts(msgspec.Struct, frozen=True):
    """Volumes and where the sidecar has them, as in `logs=/var/log/app, more=/srv`."""

    most: int = 8
    longest: int = 4096

    def read(self, text: str) -> tuple[tuple[str, str], ...]:  # noqa: D102 - as in Form
        if len(text) > self.longest:
            raise ValueError(f"write at most {self.longest} characters")
        pairs = []
        for part in text.split(","):
            if re.fullmatch(_BLANK, part):
                continue
            match = re.fullmatch(f"{_BLANK}({_VOLUME})=({_PATH})/*{_BLANK}", part)
            if match is None or ".." in match[2].split("/"):
                raise ValueError("write volume=/path, separated by commas, as in app-logs=/var/log/app")
            path = match[2]
            if any(path == taken or taken.startswith(path + "/") for taken in OWN_FOLDERS):
                raise ValueError(f"the sidecar cannot have a volume at {path}; choose another path")
            pairs.append((match[1], path))
        if len(pairs) > self.most:
            raise ValueError(f"at most {self.most} volumes can be mounted")
        if len({path for _, path in pairs}) < len(pairs):
            raise ValueError("two volumes cannot have the same path")
        return tuple(pairs)

    def accepts(self, text: str) -> str:  # noqa: D102 - as in Form
        taken = cel.literal(list(OWN_FOLDERS))
        free = f'{taken}.all(taken, path != taken && !taken.startsWith(path + "/"))'
        each = f'{cel.matches("part", f"{_BLANK}{_VOLUME}={_PATH}/*{_BLANK}")} && !path.split("/").exists(step, step == "..") && {free}'
        several = "paths.all(path, paths.exists_one(other, other == path))"
        parts = self._parts(text)
        return (
            f"size({text}) <= {self.longest} && [{parts}].all(parts, size(parts) <= {self.most}"
            f" && parts.all(part, [part.find({cel.literal(_PATH)})].all(path, {each}))"
            f" && [parts.map(part, part.find({cel.literal(_PATH)}))].all(paths, {several}))"
        )

    def value(self, text: str) -> str:  # noqa: D102 - as in Form
        pair = cel.literal(
            {
                "volume": cel.Hole(f"part.find({cel.literal(_VOLUME)})"),
                "path": cel.Hole(f"part.find({cel.literal(_PATH)})"),
            }
        )
        return f"{self._parts(text)}.map(part, {pair})"

    @staticmethod
    def _parts(text: str) -> str:
        return f'{text}.split(",").filter(part, !{cel.matches("part", _BLANK)})'
