"""The list of blocks, and the kinds that follow from it. A new block is a new folder and one line here.

The modules of the blocks are imported on demand and by name, so that this module (and with it the operator and the runtime) depends on none of them.
"""

from functools import cache
from importlib import import_module
from typing import Any, Final

from pillion.kinds.definition import BlockDefinition, Kind
from pillion.kinds.profile import profile_kind

BLOCKS: Final = (
    "ratelimit",
    "webhooks",
    "notifications",
    "flags",
    "health",
    "logs",
)
"""Folder names under `pillion`, in the order in which they are started."""


@cache
def definition(block: str) -> BlockDefinition:
    """Give what *block* declares in its `kind.py`.

    Raises:
        ModuleNotFoundError: there is no such block.
    """
    found = import_module(f"pillion.{block}.kind").BLOCK
    if not isinstance(found, BlockDefinition) or found.name != block:
        raise TypeError(f"pillion.{block}.kind.BLOCK must be the BlockDefinition of {block}")
    return found


@cache
def definitions() -> tuple[BlockDefinition, ...]:
    """Give the declarations of all blocks, in start order."""
    return tuple(definition(block) for block in BLOCKS)


@cache
def kinds() -> dict[str, Kind[Any]]:
    """Give every kind by its name, SidecarProfile included."""
    found = {kind.kind: kind for block in definitions() for kind in block.kinds}
    profile = profile_kind(definitions())
    return found | {profile.kind: profile}


@cache
def block_of(kind: str) -> str:
    """Give the block that owns *kind*; the empty string for SidecarProfile, which belongs to all."""
    return next((block.name for block in definitions() for owned in block.kinds if owned.kind == kind), "")
