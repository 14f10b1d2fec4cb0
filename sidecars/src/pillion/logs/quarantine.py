"""What a sink refused for good, kept aside for a person to look at. Bounded, and never overwritten: when it is full, the pipeline waits."""

import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 16 << 20
"""Bytes of one quarantine: enough to see what is wrong, not enough to fill a disk."""


class QuarantineFull(Exception):  # noqa: N818 - says what happened
    """There is no room for the batch."""


class Quarantine:
    """The quarantine of one sink: newline-delimited JSON, as the sink would have got it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, body: bytes) -> None:
        """Keep *body*; returns once it is on disk.

        Raises:
            QuarantineFull: there is no room; a batch alone always finds some in an empty one.
            OSError: the disk refused; nothing was kept.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if before and before + len(body) > MAX_BYTES:
                raise QuarantineFull
            view = memoryview(body)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
