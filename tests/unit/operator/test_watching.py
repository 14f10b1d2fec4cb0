"""The watcher's frame, without an API server."""

import asyncio
import getpass

import kopf
from prometheus_client import CollectorRegistry

from pillion_operator.watching import Watcher


async def test_it_starts_where_the_user_has_no_name(monkeypatch):
    """As in a container, whose user is a number."""

    def nobody():
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    class Api:
        async def watcher_credentials(self):
            loop.call_soon_threadsafe(asked.set)
            raise kopf.LoginError("enough")

    watcher = Watcher(Api(), (), lambda _: None, CollectorRegistry())
    watcher.start()
    try:
        async with asyncio.timeout(10):
            await asked.wait()
    finally:
        await watcher.stop()
