"""Event loops of these tests: uvloop, as the sidecar runs; what talks to hostile receivers runs on asyncio's own as well, because transports differ."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(item):
    """Say on which loops a test runs."""
    loops = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_hostile.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops
