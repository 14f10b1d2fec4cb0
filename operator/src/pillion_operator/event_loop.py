"""The event loops of the operator's threads: uvloop where it is installed, else asyncio's own."""

import asyncio


def new() -> asyncio.AbstractEventLoop:
    """Make an event loop, not yet running."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
