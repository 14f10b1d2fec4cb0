"""Fixtures of the server's tests."""

import pytest
import structlog


@pytest.fixture(scope="module")
def quiet():
    """No log lines: the failures that these tests provoke by the hundred are meant."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: object) -> None:
    raise structlog.DropEvent
