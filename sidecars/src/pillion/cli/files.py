"""Find and read manifest files: the I/O around `kinds.bundle`.

A folder means its `*.yaml`, `*.yml` and `*.json`, not those of folders below it, as `kubectl apply -f` reads it; `-R` reads those below too.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pillion.cli.errors import UsageError
from pillion.kinds.manifests import MAX_BYTES

SUFFIXES: Final = (".yaml", ".yml", ".json")

MAX_FILES: Final = 2_000
"""Most files in one run: beyond this somebody pointed at the wrong folder."""

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""What tells an edited set of files from an unedited one: path, inode, size and modification time of each."""


def find(paths: Sequence[str], *, recursive: bool = False) -> list[Path]:
    """Give the manifest files of *paths* in a stable order.

    Raises:
        UsageError: a path does not exist, or there are too many files.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = path.rglob("*") if recursive else path.iterdir()
            found += sorted(p for p in inside if p.suffix in SUFFIXES and not p.name.startswith(".") and p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{text} does not exist")
    if len(found) > MAX_FILES:
        raise UsageError(f"{len(found)} files, at most {MAX_FILES} are read; name a smaller folder")
    return list(dict.fromkeys(found))


def read(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Give (name, text) of each file; a file that vanished meanwhile is passed over.

    Raises:
        UsageError: a file cannot be read or is no UTF-8.
    """
    texts: list[tuple[str, str]] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
            texts.append((str(file), raw.decode()))
        except FileNotFoundError:
            continue
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is no UTF-8 (byte {error.start}); save it as UTF-8") from None
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    return texts


def fingerprint(paths: Sequence[str], *, recursive: bool = False) -> Fingerprint:
    """Give what changes when any of the files changes, appears or vanishes. Costs one `stat` per file."""
    marks = []
    try:
        for file in find(paths, recursive=recursive):
            try:
                stat = os.stat(file)  # noqa: PTH116 - pathlib costs twice as much, and this runs several times a second
            except FileNotFoundError:
                continue
            marks.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except UsageError:
        return ()
    return tuple(marks)
