"""The watcher's frame, without an API server."""

import kopf
from prometheus_client import CollectorRegistry

from pillion_operator.watching import Watcher


async def test_it_says_who_it_is(monkeypatch):
    """Else kopf would ask for the name of the user, and in a container the user is a number: the watch would end at once, as often as it is started."""
    told = {}

    async def operator(**arguments):
        told.update(arguments)

    monkeypatch.setattr(kopf, "operator", operator)

    await Watcher(object(), (), lambda _: None, CollectorRegistry())._watch()

    assert told["identity"]
