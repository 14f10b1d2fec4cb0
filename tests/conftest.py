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

_ROOT = Path(__file__).parent
_seconds: defaultdict[str, float] = defaultdict(float)
_counts: defaultdict[str, int] = defaultdict(int)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each part on one worker, so that its session fixtures (a control plane, a Redis) are started once."""
    for item in items:
        part = _part(str(item.path))
        if part.startswith(("cluster", "node", "chart")):
            item.add_marker(pytest.mark.xdist_group(part.split("/")[0]))
        else:
            item.add_marker(pytest.mark.xdist_group(item.path.name + part))


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
