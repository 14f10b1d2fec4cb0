"""What is known of namespaces follows the watch, a list, or a question; only what is ours is kept."""

import json

import pytest

from pillion_operator.api import ApiError
from pillion_operator.namespaces import Namespace, Namespaces

ASKS = {"pillion.dev/inject": "true"}


def document(name, labels=None, annotations=None, **metadata):
    return {"metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}, **metadata}}


class FakeApi:
    def __init__(self, *documents):
        self.documents = {one["metadata"]["name"]: one for one in documents}
        self.asked = []

    async def request(self, _method, path, **_):
        self.asked.append(path)
        if path == "/api/v1/namespaces":
            return json.dumps({"items": list(self.documents.values())}).encode()
        try:
            return json.dumps(self.documents[path.rpartition("/")[2]]).encode()
        except KeyError:
            raise ApiError(404, "NotFound", "no") from None


def test_only_our_labels_and_annotations_are_kept():
    namespaces = Namespaces(FakeApi(), 60.0)
    namespaces.told("ADDED", document("shop", {**ASKS, "team": "x"}, {"pillion.dev/port": "3701", "other": "y"}))

    assert namespaces.get("shop") == Namespace(labels=ASKS, annotations={"pillion.dev/port": "3701"})


def test_a_change_of_what_asks_is_announced_and_nothing_else():
    told = []
    namespaces = Namespaces(FakeApi(), 60.0, lambda: told.append(namespaces.asking()))
    namespaces.told(None, document("a"))
    namespaces.told("MODIFIED", document("a", ASKS))
    namespaces.told("MODIFIED", document("a", ASKS, {"pillion.dev/port": "3701"}))
    namespaces.told("MODIFIED", document("a", ASKS, deletionTimestamp="2026-01-01T00:00:00Z"))
    namespaces.told("DELETED", document("a", ASKS))

    assert told == [["a"], []]
    assert namespaces.get("a") is None


async def test_one_that_is_not_known_is_asked_for_once():
    api = FakeApi(document("shop", ASKS))
    namespaces = Namespaces(api, 60.0)

    assert (await namespaces.find("shop")).asks
    assert (await namespaces.find("shop")).asks
    assert api.asked == ["/api/v1/namespaces/shop"]


async def test_one_that_does_not_exist_is_empty_and_not_remembered():
    namespaces = Namespaces(FakeApi(), 60.0)

    assert await namespaces.find("none") == Namespace()
    assert namespaces.get("none") is None


async def test_names_cannot_leave_their_place_in_the_path():
    api = FakeApi()
    await Namespaces(api, 60.0).find("../pods?x=")

    assert api.asked == ["/api/v1/namespaces/..%2Fpods%3Fx%3D"]


async def test_the_list_mends_what_the_watch_did_not_tell():
    namespaces = Namespaces(FakeApi(document("new", ASKS)), 60.0)
    namespaces.told("ADDED", document("gone", ASKS))

    await namespaces.refresh()

    assert namespaces.asking() == ["new"]


async def test_an_api_server_that_is_away_is_said_not_guessed():
    class Away:
        async def request(self, *_, **__):
            raise ApiError(0, "Unreachable", "refused")

    with pytest.raises(ApiError):
        await Namespaces(Away(), 60.0).find("shop")
