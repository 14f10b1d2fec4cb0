"""A real API server for the tests of this folder: one per run, a namespace per test.

Programs that are missing are built before the first test, where no test's time limit runs. With several workers (`pytest -n`) all tests of this folder go to
one worker if pytest distributes by group (`--dist loadgroup`); otherwise each worker has a control plane of its own.
"""

import sys
from collections.abc import Iterator

import pytest
from tests.support.cluster import sources
from tests.support.cluster.cluster import Cluster, ClusterUnavailableError, open_cluster, provision
from tests.support.cluster.fixtures import (  # noqa: F401 - pytest finds fixtures by their names here
    api,
    control_plane,
    kubectl,
    namespace,
    new_namespace,
    new_pod,
    token_for,
)

SOURCE = pytest.StashKey[sources.Source]()
REPORT = "pillion_cluster"


def pytest_report_header() -> str:
    return sources.choose().describe()


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(
        "cluster" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        return
    source = sources.choose()
    session.config.stash[SOURCE] = source
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        # The standard error of a worker is the terminal's; its standard output belongs to the protocol of the workers.
        provision(source, lambda line: print(f"pillion tests: {line}", file=sys.stderr, flush=True))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes over what a worker has to say at the end."""
    for line in getattr(node, "workeroutput", {}).get(REPORT, ()):
        _report(node.config, line)  # type: ignore[attr-defined] # xdist's WorkerController is untyped


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, ()):
        terminalreporter.write_line(line)


LINES = pytest.StashKey[list[str]]()


def _report(config: pytest.Config, line: str) -> None:
    config.stash.setdefault(LINES, []).append(line)
    if hasattr(config, "workeroutput"):
        config.workeroutput[REPORT] = config.stash[LINES]


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The API server of this run, with the product's CRDs."""
    try:
        with open_cluster(lambda line: print(line, file=sys.stderr), pytestconfig.stash.get(SOURCE, None)) as opened:
            opened.apply_crds()
            _report(pytestconfig, f"{opened.source.describe()}, ready in {opened.started_in:.1f} s")
            yield opened
            if opened.control_plane:
                memory = opened.control_plane.apiserver.resident_bytes() / 1e6
                _report(pytestconfig, f"API server: {memory:.0f} MB resident at the end")
    except ClusterUnavailableError as unavailable:
        pytest.skip(f"no API server: {unavailable}")
