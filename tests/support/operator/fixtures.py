"""Fixtures of tests that need a running operator: one per run, started again where a test has ended it.

from tests.support.operator.fixtures import *
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.identities import Pod
from tests.support.operator.running import DEPLOY, QUICK, OperatorProcess, StandIn, account_access, install

__all__ = ["new_sidecar", "operator", "operator_of_session", "secret_reader"]


_STARTED: dict[Path, OperatorProcess] = {}
"""The operator of each cluster. Every module that imports the fixture below has one of its own, and none of them wants to pay for a start."""


@pytest.fixture(scope="session")
def operator_of_session(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator process of this run."""
    if cluster.folder not in _STARTED:
        folder = tmp_path_factory.mktemp("operator")
        install(cluster, folder)
        _STARTED[cluster.folder] = OperatorProcess(asyncio.run(account_access(cluster)), folder, *QUICK)
    yield _STARTED[cluster.folder]
    _STARTED[cluster.folder].stop()


@pytest.fixture
def operator(operator_of_session: OperatorProcess) -> OperatorProcess:
    """A running operator."""
    if not operator_of_session.process.running:
        operator_of_session.start()
    return operator_of_session


@pytest_asyncio.fixture
async def new_sidecar(
    operator: OperatorProcess, new_pod: Callable[..., Awaitable[Pod]], tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[StandIn]]]:
    """Makes stand-ins: `await new_sidecar("shop-1", labels={"app": "shop"})`; they end with the test."""
    async with AsyncExitStack() as stack:

        async def make(
            name: str = "shop-1", *, answer: Any = None, at: OperatorProcess | None = None, **pod: Any
        ) -> StandIn:
            stand_in = StandIn(at or operator, await new_pod(name, **pod), tmp_path, answer)
            return await stack.enter_async_context(stand_in)

        yield make


@pytest_asyncio.fixture
async def secret_reader(kubectl: Any) -> None:
    """Lets the operator read Secrets of this test's namespace."""
    await kubectl("apply", f"--filename={DEPLOY / 'namespaced'}")
