"""The seam between the runtime and a block: what a block gets, and what it must offer.

A block's `service.py` exposes `create(context) -> Block`. The runtime then drives every block the same way:

    create → prepare(configuration) → commit → start → … prepare → commit … → drain → stop

`prepare` builds the new engines beside the old ones and may refuse; `commit` swaps them in, synchronously, for all blocks in one step, so that
no request ever sees half a configuration.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry

from pillion.kinds.exchange import ConditionReport
from pillion.runtime.clock import Clock
from pillion.runtime.conditions import Conditions
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.tasks import Tasks

JSON = Any


class SecretMissing(LookupError):  # noqa: N818 - says what happened
    """A Secret or a key of it is not there. The message holds names, never values."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f'Secret "{name}" has no key "{key}"' if key else f'Secret "{name}" does not exist')
        self.name = name
        self.key = key


class Secrets:
    """Secret values of one configuration. Its repr shows names only."""

    def __init__(self, values: Mapping[str, Mapping[str, bytes]]) -> None:
        self._values = {name: dict(keys) for name, keys in values.items()}

    def value(self, name: str, key: str) -> bytes:
        """Give one value.

        Raises:
            SecretMissing: the Secret or the key does not exist.
        """
        if name not in self._values:
            raise SecretMissing(name, "")
        if key not in self._values[name]:
            raise SecretMissing(name, key)
        return self._values[name][key]

    def whole(self, name: str) -> Mapping[str, bytes]:
        """Give all values of one Secret.

        Raises:
            SecretMissing: the Secret does not exist.
        """
        if name not in self._values:
            raise SecretMissing(name, "")
        return dict(self._values[name])

    def __repr__(self) -> str:
        return f"Secrets({sorted(self._values)})"


class BlockConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What one block reads of a snapshot.

    Args:
        namespace: the namespace of the pod.
        settings: the block's compiled section of the SidecarProfile; None where the profile has none.
        resources: compiled resources by kind and name, as the kinds' `compile` gave them.
        secrets: values of the Secrets that they refer to.
        profile: the name of the SidecarProfile that *settings* came from; empty where there is none.
    """

    namespace: str
    settings: JSON
    resources: Mapping[str, Mapping[str, JSON]]
    secrets: Secrets
    profile: str = ""


class Unready(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that is applied but cannot work yet; the operator shows it as `Ready=False` with this reason.

    Args:
        kind: the kind of the resource.
        name: its name.
        reason: one CamelCase word, as in `SecretMissing`.
        message: what is wrong and the fix.
    """

    kind: str
    name: str
    reason: str
    message: str


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that is built and waits for its swap.

    Args:
        commit: swaps it in; must neither await nor fail.
        unready: resources that are applied but cannot work yet.
    """

    commit: Callable[[], None]
    unready: tuple[Unready, ...] = ()


class Refused(ValueError):  # noqa: N818 - says what happened
    """A block cannot run this configuration; the sidecar keeps its last good one. The message names the resource, the field and the fix."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this sidecar is, for logs, traces and metrics."""

    namespace: str = "default"
    pod: str = ""
    node: str = ""
    labels: Mapping[str, str] = {}


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime lends a block.

    Args:
        block: the block's name.
        data_dir: a folder of the block's own that survives a restart of the container; it exists.
        clock: the time.
        identity: who this sidecar is.
        metrics: where the block registers its collectors.
        conditions: where the block says what is wrong.
        tasks: where it spawns background tasks; the runtime stops them.
        leaving: set when the process begins to end, before requests in flight are waited for: answers without an end must come to theirs.
    """

    block: str
    data_dir: Path
    clock: Clock
    identity: Identity
    metrics: CollectorRegistry
    conditions: Conditions
    tasks: Tasks
    leaving: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Block(Protocol):
    """One running building block."""

    def operations(self) -> Sequence[Operation]:
        """Give its routes; the same for the whole life of the process."""
        ...

    def hot_operations(self) -> Sequence[HotOperation]:
        """Give its routes of the hot lane."""
        ...

    async def prepare(self, configuration: BlockConfiguration) -> Prepared:
        """Build what *configuration* asks for beside what runs now.

        Raises:
            Refused: it cannot be run; nothing has changed.
        """
        ...

    async def start(self) -> None:
        """Open stores and spawn background tasks; called once, after the first commit."""
        ...

    async def drain(self) -> None:
        """Stop taking in work where possible and finish what is in flight; bounded by the runtime's grace period."""
        ...

    async def stop(self) -> None:
        """Release everything; called once, after `drain`. Durable state must be on disk when this returns."""
        ...

    def statistics(self) -> JSON:
        """Give what it is doing now, as one frozen value that encodes to JSON."""
        ...

    def observed(self) -> Mapping[tuple[str, str], Mapping[str, JSON]]:
        """Give figures per (kind, name) of resource for the operator's status, as in `{("RateLimitPolicy", "shop"): {"allowed": 17}}`."""
        ...

    def reports(self) -> Iterable[ConditionReport]:
        """Give what is not as it normally is with its resources, for their status.

        Looked at every few seconds, and sent when it has changed: so it is cheap, and says the same words as long as the same is the case.
        """
        ...
