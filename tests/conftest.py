"""What all tests share: hypothesis without deadlines (machines are shared and noisy), and a summary that says where the time went."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("PILLION_TEST_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("default")

_OWN_PLANE = frozenset({"test_chart_release.py", "test_docs.py", "test_gitops.py"})
"""Tests that start a control plane of their own, and may use another worker than those that share one; together, because two of them take port 443."""

_ROOT = Path(__file__).parent
_seconds: defaultdict[str, float] = defaultdict(float)
_counts: defaultdict[str, int] = defaultdict(int)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep each part on one worker, so that its session fixtures (a control plane, a Redis) are started once; elsewhere each file.

    A scheduler and not the mark `xdist_group`, which pytest 9.2 ignores without a word (pytest-dev/pytest-xdist#1386).
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # ships none

    class ByPart(LoadScopeScheduling):  # type: ignore[misc] # see above
        def _split_scope(self, nodeid: str) -> str:
            file, _, _ = nodeid.partition("::")
            whole = _part(file).split("/")[0]
            if whole == "cluster" and Path(file).name in _OWN_PLANE:
                return "cluster, planes of their own"
            return whole if whole in {"cluster", "node", "chart"} else file

    return ByPart(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    part = _part(report.fspath)
    _seconds[part] += report.duration
    _counts[part] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _seconds or hasattr(terminalreporter.config, "workerinput"):
        return
    terminalreporter.section("where the time went")
    for part, seconds in sorted(_seconds.items(), key=lambda pair: -pair[1]):
        terminalreporter.write_line(f"{seconds:8.1f} s  {_counts[part]:5d} tests  {part}")


def _part(path: str) -> str:
    try:
        relative = (
            Path(path).resolve().relative_to(_ROOT) if Path(path).is_absolute() else Path(path).relative_to("tests")
        )
    except ValueError:
        return path
    return "/".join(relative.parts[:-1]) or "."
