"""The rate limit block with a configuration, as the runtime would hand it over: for a server in a test, or in a process of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from pillion.kinds.manifests import read_documents
from pillion.kinds.resource import check_document
from pillion.ratelimit.kind import RATE_LIMIT_POLICY
from pillion.ratelimit.service import create
from pillion.runtime.block import Block, BlockConfiguration, Context, Identity, Secrets
from pillion.runtime.clock import Clock, SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.tasks import Tasks

MANY = """
apiVersion: pillion.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: bench}
spec:
  rules:
  - name: per-user
    key: [user]
    limits: [{requests: 1000000, per: 1s}]
"""
"""One rule per user that never bites: what a benchmark measures is the way of a request that passes."""


def make(*, clock: Clock | None = None, metrics: CollectorRegistry | None = None) -> Block:
    """Make the block, without a configuration."""
    conditions = Conditions()
    return create(
        Context(
            block="ratelimit",
            data_dir=Path(),
            clock=clock or SystemClock(),
            identity=Identity(),
            metrics=metrics or CollectorRegistry(),
            conditions=conditions,
            tasks=Tasks("ratelimit", conditions),
        )
    )


async def configure(block: Block, manifests: str, settings: Mapping[str, Any] | None = None) -> None:
    """Check, compile and commit *manifests*, by the very functions that the sidecar uses."""
    policies = {}
    for document in read_documents(manifests):
        checked = check_document(document.value, {RATE_LIMIT_POLICY.kind: RATE_LIMIT_POLICY})
        assert checked.resource is not None, [violation.message for violation in checked.violations]
        name = checked.resource.name
        policies[name] = msgspec.json.decode(
            msgspec.json.encode(RATE_LIMIT_POLICY.compile(name, checked.resource.spec))
        )
    configuration = BlockConfiguration(
        namespace="default", settings=settings, resources={RATE_LIMIT_POLICY.kind: policies}, secrets=Secrets({})
    )
    (await block.prepare(configuration)).commit()


async def build() -> tuple[Sequence[Operation], Sequence[HotOperation]]:
    """Give the routes of a block with the policy `MANY`, for `ServerProcess`."""
    block = make()
    await configure(block, MANY)
    return block.operations(), block.hot_operations()
