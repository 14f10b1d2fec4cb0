"""The last configuration that worked, on disk: what a sidecar starts with while the operator cannot be reached.

It is replaced in one step (written beside, flushed, renamed), readable by the sidecar alone because it holds Secret values, and carries a checksum over all of it.
A file that is damaged, too large or from a later version is reported and ignored, never half-used and never a crash; the operator's next snapshot replaces it.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pillion.kinds.exchange import MAX_SNAPSHOT_BYTES
from pillion.kinds.snapshot import Revision, revision_of
from pillion.runtime.conditions import Conditions

CONDITION: Final = "last-known-good"
"""Name of the condition about the file: not readable at start, or not writable since."""

FORMAT: Final = 1
MAX_BYTES: Final = 2 * MAX_SNAPSHOT_BYTES
"""Largest file that is read: a snapshot, and its Secrets in base64."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was applied once."""

    revision: Revision
    document: bytes
    secrets: dict[str, dict[str, bytes]]

    def __repr__(self) -> str:
        return f"Kept(revision={self.revision!r}, secrets={sorted(self.secrets)})"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    checksum: str
    content: msgspec.Raw


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    revision: str
    document: str
    secrets: dict[str, dict[str, bytes]]


class Damaged(ValueError):  # noqa: N818 - says what happened
    """The file cannot be used. The message says why and holds nothing of its content."""


def encode(kept: Kept) -> bytes:
    """Write *kept* as the bytes of the file; pure."""
    content = msgspec.json.encode(
        _Content(revision=kept.revision, document=kept.document.decode(), secrets=kept.secrets)
    )
    return msgspec.json.encode(
        _File(format=FORMAT, checksum=hashlib.sha256(content).hexdigest(), content=msgspec.Raw(content))
    )


def decode(text: bytes) -> Kept:
    """Read the bytes of a file; pure.

    Raises:
        Damaged: they are not what `encode` wrote.
    """
    try:
        file = msgspec.json.decode(text, type=_File)
        if file.format != FORMAT:
            raise Damaged(f"its format is {file.format}, this version knows {FORMAT}")
        if hashlib.sha256(file.content).hexdigest() != file.checksum:
            raise Damaged("its checksum does not match")
        content = msgspec.json.decode(file.content, type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Damaged("it is incomplete or no JSON") from None
    document = content.document.encode()
    if revision_of(document) != content.revision:
        raise Damaged("the document does not match its revision")
    return Kept(revision=Revision(content.revision), document=document, secrets=content.secrets)


class LastKnownGood:
    """The file at *path*; its folder must exist."""

    def __init__(self, path: Path, conditions: Conditions) -> None:
        self._path = path
        self._conditions = conditions
        self._log = structlog.get_logger("last-known-good")

    def load(self) -> Kept | None:
        """Give what was saved last; None where there is nothing that can be used, with the reason as a condition."""
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise Damaged(f"it is larger than {MAX_BYTES} bytes")  # noqa: TRY301 - one place reports them all
            return decode(text)
        except FileNotFoundError:
            return None
        except (OSError, Damaged) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"{self._path} is ignored: {reason}; the operator's next snapshot replaces it"
            self._log.warning("the last known good configuration cannot be used", path=str(self._path), reason=reason)
            self._conditions.set(CONDITION, "warn", message)
            return None

    def save(self, revision: Revision, document: bytes, secrets: Mapping[str, Mapping[str, bytes]]) -> None:
        """Keep a configuration that runs now. Blocks on the disk. A failure is a condition, not an error: the configuration runs all the same."""
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        kept = Kept(revision=revision, document=document, secrets={name: dict(keys) for name, keys in secrets.items()})
        try:
            with suppress(FileNotFoundError):  # left by a process of the same number that was killed here
                beside.unlink()
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(encode(kept))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            message = f"{self._path} cannot be written ({error.strerror}): a restart while the operator is away would start with an older configuration"
            self._log.warning("the last known good configuration cannot be written", reason=error.strerror)
            self._conditions.set(CONDITION, "warn", message)
        else:
            self._conditions.clear(CONDITION)
