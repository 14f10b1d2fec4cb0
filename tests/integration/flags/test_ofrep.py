"""The official OpenFeature SDK and OFREP provider, unmodified, against the real server."""

import asyncio
import io

import aiohttp
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from tests.support.flags import RULE, STATIC, configure, make
from tests.support.fuzz import assert_survives
from tests.support.serving import running
from tests.support.walk import conforms, walk

FLAGS = {
    "new-checkout": RULE | {"metadata": {"team": "checkout", "stage": 2, "beta": True}},
    "color": {"variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"},
    "limit": {"variants": {"low": 10, "high": 100}, "defaultVariant": "low"},
    "ratio": {"variants": {"whole": 1, "half": 0.5}, "defaultVariant": "whole"},
    "layout": {"variants": {"a": {"columns": 2, "tags": ["x"]}, "b": {}}, "defaultVariant": "a"},
    "split": {
        "variants": {"a": "A", "b": "B", "c": "C"},
        "targeting": {"fractional": [["a", 50], ["b", 30], ["c", 20]]},
    },
    "disabled": STATIC | {"state": "DISABLED"},
    "no-default": {"variants": {"on": True}, "targeting": {"if": [{"var": "x"}, "on"]}},
    "dynamic": {"variants": {"on": True}, "defaultVariant": "on", "targeting": {"var": "variant"}},
    "dotted.key~1": STATIC,
}


@pytest.fixture
async def block():
    block = make()
    await configure(block, FLAGS)
    return block


@pytest.fixture
async def server(block):
    async with running(block.operations(), block.hot_operations()) as server:
        yield server


@pytest.fixture
async def ask(server):
    """Ask a question of the SDK's client, which blocks, off the loop that serves it."""
    provider = OFREPProvider(server.url)
    api.set_provider(provider, "flags-test")
    client = OpenFeatureClient("flags-test", None)

    async def ask(kind, key, default, context=None):
        details = getattr(client, f"get_{kind}_details")
        return await asyncio.to_thread(details, key, default, context)

    yield ask
    provider.session.close()
    api.clear_providers()


async def test_every_type_arrives_as_its_type(ask):
    assert (await ask("boolean", "new-checkout", True)).value is False
    assert (await ask("string", "color", "")).value == "#f00"
    assert (await ask("integer", "limit", 0)).value == 10
    assert (await ask("object", "layout", {})).value == {"columns": 2, "tags": ["x"]}


async def test_a_whole_number_among_fractions_arrives_as_a_float(ask):
    details = await ask("float", "ratio", 0.0)

    assert (details.value, type(details.value), details.error_code) == (1.0, float, None)


async def test_the_context_decides(ask):
    colleague = await ask("boolean", "new-checkout", False, EvaluationContext("u1", {"email": "a@example.com"}))
    customer = await ask("boolean", "new-checkout", True, EvaluationContext("u2", {"email": "z@example.com"}))

    assert (colleague.value, colleague.variant, colleague.reason) == (True, "on", Reason.TARGETING_MATCH)
    assert (customer.value, customer.variant, customer.reason) == (False, "off", Reason.DEFAULT)
    assert colleague.flag_metadata == {"team": "checkout", "stage": 2, "beta": True}


async def test_a_split_is_the_same_for_the_same_subject(ask):
    first = {n: (await ask("string", "split", "", EvaluationContext(f"u{n}"))).variant for n in range(30)}
    again = {n: (await ask("string", "split", "", EvaluationContext(f"u{n}"))).variant for n in range(30)}

    assert first == again
    assert set(first.values()) == {"a", "b", "c"}


@pytest.mark.parametrize(("key", "reason"), [("disabled", Reason.DISABLED), ("no-default", Reason.DEFAULT)])
async def test_without_a_variant_the_code_default_counts_and_nothing_is_an_error(ask, key, reason):
    details = await ask("boolean", key, True)

    assert (details.value, details.variant, details.reason, details.error_code) == (True, None, reason, None)


async def test_an_unknown_flag_is_known_to_be_unknown(ask):
    details = await ask("boolean", "nope", True)

    assert (details.value, details.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert 'no flag "nope"' in details.error_message


async def test_a_flag_that_fails_says_so(ask):
    details = await ask("boolean", "dynamic", False, EvaluationContext("u", {"variant": "blue"}))

    assert (details.value, details.error_code) == (False, ErrorCode.GENERAL)
    assert '"blue", which is none' in details.error_message


async def test_the_wrong_type_is_the_clients_to_tell(ask):
    assert (await ask("string", "limit", "x")).error_code == ErrorCode.TYPE_MISMATCH


async def test_keys_may_hold_what_urls_may(ask):
    assert (await ask("boolean", "dotted.key~1", False)).value is True


async def test_an_edit_changes_the_next_answer(ask, block):
    before = await ask("string", "color", "")
    await configure(block, FLAGS | {"color": FLAGS["color"] | {"defaultVariant": "blue"}})

    after = await ask("string", "color", "")

    assert (before.value, after.value) == ("#f00", "#00f")


async def test_no_answer_is_lost_or_mixed_while_flags_are_edited(block, server):
    """Both variants and their metadata change together; an answer must be wholly of one edit."""

    def edit(n):
        return {"probe": {"variants": {"v": n}, "defaultVariant": "v", "metadata": {"edit": n}}}

    async def edits():
        for n in range(1, 60):
            await configure(block, edit(n))
            await asyncio.sleep(0)

    seen = []

    async def read(session):
        while not editing.done():
            async with session.post("/ofrep/v1/evaluate/flags/probe", json={}) as response:
                seen.append((response.status, await response.json()))

    await configure(block, edit(0))
    async with aiohttp.ClientSession(server.url) as session:
        editing = asyncio.create_task(edits())
        await asyncio.gather(editing, *(read(session) for _ in range(4)))

    assert {status for status, _ in seen} == {200}
    assert all(body["value"] == body["metadata"]["edit"] for _, body in seen)


async def test_bulk_answers_and_revalidates(server):
    async with aiohttp.ClientSession(server.url) as session:
        for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/"):
            async with session.post(
                path, json={"context": {"targetingKey": "u", "email": "a@example.com"}}
            ) as response:
                body, tag = await response.json(), response.headers["ETag"]
            assert [flag["key"] for flag in body["flags"]] == sorted(FLAGS)
            headers = {"If-None-Match": tag}
            async with session.post(
                path, json={"context": {"targetingKey": "u", "email": "a@example.com"}}, headers=headers
            ) as response:
                assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", tag)
            async with session.post(path, json={"context": {"targetingKey": "v"}}, headers=headers) as response:
                assert response.status == 200
            async with session.post(path) as response:
                assert response.status == 200


async def test_a_key_that_urls_must_encode_reaches_its_flag(server, block):
    await configure(block, {"groesse": STATIC | {"key": "größe"}})
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post("/ofrep/v1/evaluate/flags/größe", json={}) as response,
    ):
        assert (await response.json())["key"] == "größe"


async def test_a_body_over_the_bound_is_413(server):
    async with aiohttp.ClientSession(server.url) as session:
        for path in ("/ofrep/v1/evaluate/flags/color", "/ofrep/v1/evaluate/flags"):
            big = b'{"context":{"a":"' + b"x" * (1 << 20) + b'"}}'
            async with session.post(
                path, data=io.BytesIO(big), headers={"Content-Type": "application/json"}
            ) as response:
                assert response.status == 413


async def test_every_kind_of_answer_is_as_described(server):
    described = server.openapi["paths"]
    asked = [("/ofrep/v1/evaluate/flags/{key}", key) for key in (*FLAGS, "nope")]
    asked += [("/ofrep/v1/evaluate/flags", ""), ("/v1/flags/{key}:explain", "split")]
    wrong = []
    async with aiohttp.ClientSession(server.url) as session:
        for path, key in asked:
            context = {"targetingKey": "u", "variant": "blue"}
            async with session.post(path.replace("{key}", key), json={"context": context}) as response:
                body = await response.read()
                problem = conforms(
                    server.openapi, described[path]["post"], response.status, response.content_type, body
                )
                wrong += [f"{path} {key}: {problem}"] if problem else []
    assert wrong == []


async def test_explain_and_list_over_http(server):
    async with aiohttp.ClientSession(server.url) as session:
        async with session.post(
            "/v1/flags/new-checkout:explain", json={"context": {"email": "a@example.com"}}
        ) as response:
            told = await response.json()
        async with session.post("/v1/flags/new-checkout:explain") as response:
            assert (await response.json())["variant"] == "off"
        async with session.get("/v1/flags?limit=3") as response:
            listed = await response.json()
        async with session.get("/v1/flags?limit=x") as response:
            assert response.status == 400
    assert (told["variant"], told["steps"][-1]) == ("on", {"path": "targeting.if", "result": '"on"'})
    assert ([flag["key"] for flag in listed["flags"]], listed["next"]) == (
        ["color", "disabled", "dotted.key~1"],
        "dotted.key~1",
    )


async def test_the_description_is_true_and_survives_what_is_malformed(server):
    statuses = await walk(server, server.openapi)
    assert {name: status for name, status in statuses.items() if status >= 500} == {}

    sent = await asyncio.to_thread(assert_survives, server.url, server.openapi, seconds=4.0, examples=15)

    assert all(sent[name] > 20 for name in ("evaluateFlag", "evaluateFlags", "explainFlag"))
