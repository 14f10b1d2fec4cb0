"""Keeps the memory of processes that hold Secret values from becoming a file.

A core dump holds everything that the process knew. The interpreter's own report of a crash (`PYTHONFAULTHANDLER`) names functions and lines, no values, and goes on
working.
"""

import contextlib
import resource
from typing import Final

_NO_DUMP: Final = 1
"""Bytes. One is less than any core file may have, and the one limit at which the kernel also starts no `core_pattern` program (`fs/coredump.c`); at 0 it would."""


def forbid_core_dumps() -> None:
    """Let no signal write this process, or one that it starts, to disk. It cannot be taken back."""
    with contextlib.suppress(ValueError, OSError):  # whoever started us has forbidden even this much
        resource.setrlimit(resource.RLIMIT_CORE, (_NO_DUMP, _NO_DUMP))
