"""The flag block with a configuration, as the runtime would hand it over: for a server in a test, or in a process of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from pillion.flags.kind import FEATURE_FLAG
from pillion.flags.service import FlagBlock, create
from pillion.kinds.manifests import read_documents
from pillion.kinds.resource import check_document
from pillion.kinds.snapshot import canonical_json
from pillion.runtime.block import BlockConfiguration, Context, Identity, Prepared, Secrets
from pillion.runtime.clock import Clock, SystemClock
from pillion.runtime.conditions import Conditions
from pillion.runtime.operation import HotOperation, Operation
from pillion.runtime.tasks import Tasks

STATIC = {"variants": {"on": True, "off": False}, "defaultVariant": "on"}
RULE = STATIC | {
    "defaultVariant": "off",
    "targeting": {"if": [{"in": [{"var": "email"}, ["a@example.com", "b@example.com"]]}, "on", None]},
}
SPLIT = STATIC | {"targeting": {"fractional": [["on", 10], ["off", 90]]}}


def make(*, clock: Clock | None = None, metrics: CollectorRegistry | None = None) -> FlagBlock:
    """Make the block, without a configuration."""
    conditions = Conditions()
    return create(
        Context(
            block="flags",
            data_dir=Path(),
            clock=clock or SystemClock(),
            identity=Identity(),
            metrics=metrics or CollectorRegistry(),
            conditions=conditions,
            tasks=Tasks("flags", conditions),
        )
    )


def compiled(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Check and compile specs by name, through the JSON that travels."""
    found = {}
    for name, spec in specs.items():
        document = {
            "apiVersion": "pillion.dev/v1alpha1",
            "kind": "FeatureFlag",
            "metadata": {"name": name},
            "spec": spec,
        }
        checked = check_document(document, {FEATURE_FLAG.kind: FEATURE_FLAG})
        assert checked.resource is not None, [violation.message for violation in checked.violations]
        found[name] = msgspec.json.decode(canonical_json(FEATURE_FLAG.compile(name, checked.resource.spec)))
    return found


def specs_of(manifests: str) -> dict[str, Any]:
    """Give the specs of a YAML text by name."""
    return {document.value["metadata"]["name"]: document.value["spec"] for document in read_documents(manifests)}


async def prepare(
    block: FlagBlock, specs: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any] | None = None
) -> Prepared:
    """Prepare flags, by the very functions that the sidecar uses."""
    resources = {FEATURE_FLAG.kind: compiled(specs)}
    return await block.prepare(
        BlockConfiguration(namespace="default", settings=settings, resources=resources, secrets=Secrets({}))
    )


async def configure(
    block: FlagBlock, specs: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any] | None = None
) -> None:
    """Prepare flags and commit them."""
    (await prepare(block, specs, settings)).commit()


async def build() -> tuple[Sequence[Operation], Sequence[HotOperation]]:
    """Give the routes of a block with three flags and ninety-seven more, for `ServerProcess`."""
    block = make()
    more = {f"flag-{number}": (STATIC, RULE, SPLIT)[number % 3] for number in range(97)}
    await configure(block, {"static": STATIC, "rule": RULE, "split": SPLIT} | more)
    return block.operations(), block.hot_operations()
