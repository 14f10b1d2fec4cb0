"""The block without a server: what each route answers, and what a swap keeps."""

import json
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.support.flags import RULE, STATIC, configure, make, prepare
from tests.support.serving import FixedClock

from pillion.flags.kind import FEATURE_FLAG
from pillion.flags.routes import ExplainRequest
from pillion.runtime.block import BlockConfiguration, Refused, Secrets
from pillion.runtime.operation import Call
from pillion.runtime.problems import Problem

NOW = 1_800_000_000


@pytest.fixture
def clock():
    return FixedClock(NOW * 1_000_000_000)


@pytest.fixture
def block(clock):
    return make(clock=clock)


def ask(block, key, context=None, body=None):
    if body is None:
        body = b"" if context is None else json.dumps({"context": context}).encode()
    answer = block.evaluate(key, "", body)
    return answer.status, json.loads(answer.body)


def evaluations(block, key):
    return sum(sum(counts) for flag, counts in block._counted() if flag.definition.key == key)


def call(body=b"", *, path=None, query=None, headers=None):
    request = SimpleNamespace(match_info=path or {}, query=query or {}, headers=headers or {})
    return Call(body=body, request=request, request_id="r")


async def bulk(block, context=None, tag=""):
    body = b"" if context is None else json.dumps({"context": context}).encode()
    answer = await block.evaluate_all(call(body, headers={"If-None-Match": tag}))
    if answer.body is None:
        return answer.status, None, answer.headers["ETag"]
    raw = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
    return answer.status, json.loads(raw), answer.headers.get("ETag")


async def test_a_single_evaluation_answers_as_ofrep_says(block):
    await configure(block, {"checkout": RULE | {"metadata": {"team": "shop"}}})

    assert ask(block, "checkout", {"email": "a@example.com"}) == (
        200,
        {"key": "checkout", "reason": "TARGETING_MATCH", "variant": "on", "value": True, "metadata": {"team": "shop"}},
    )
    assert ask(block, "checkout", {"email": "z@example.com"})[1]["reason"] == "DEFAULT"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"context":{}}', b'{"context":null}', b'{"extra":1}'])
async def test_no_context_is_an_empty_context(block, body):
    await configure(block, {"checkout": RULE})

    assert ask(block, "checkout", body=body)[1]["variant"] == "off"


async def test_an_unknown_flag_is_404(block):
    status, body = ask(block, 'no"such', {})

    assert (status, body["key"], body["errorCode"]) == (404, 'no"such', "FLAG_NOT_FOUND")
    assert body["errorDetails"] == 'there is no flag "no"such"; GET /v1/flags lists them'


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"null", b"1", b'"x"', b'{"context":[]}', b'{"context":"x"}', b"\xff", b'{"context":{"a":"\xff"}}', b'{"context":{"a":NaN}}',
        b'{"context":{"a":1e999}}', b'{"context":' + b'{"a":' * 5000, b'{"a":1}{', b"[" * 5000, b'{"context":{"a":' + b"9" * 5000 + b"}}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["static", "rule", "none"])
async def test_a_body_that_is_no_context_is_400(block, body, key):
    await configure(block, {"static": STATIC, "rule": RULE})

    status, answer = ask(block, key, body=body)

    assert (status, answer["key"], answer["errorCode"]) == (400, key, "INVALID_CONTEXT")
    assert answer["errorDetails"]
    assert (await block.evaluate_all(call(body))).status == 400


async def test_a_flag_that_fails_is_400_with_its_error(block):
    await configure(block, {"dynamic": STATIC | {"targeting": {"var": "variant"}}})

    assert ask(block, "dynamic", {"variant": "blue"}) == (
        400,
        {
            "key": "dynamic",
            "errorCode": "GENERAL",
            "errorDetails": 'targeting resolved to "blue", which is none of the flag\'s variants',
        },
    )
    assert ask(block, "dynamic", {"variant": "on"})[0] == 200


DISABLED = STATIC | {"state": "DISABLED"}
NO_DEFAULT = {"variants": {"on": True}, "targeting": {"if": [{"var": "x"}, "on"]}}


async def test_without_a_variant_there_is_no_value_and_null_is_a_setting(block):
    await configure(block, {"off": DISABLED, "none": NO_DEFAULT})
    lenient = [ask(block, "off"), ask(block, "none")]
    await configure(block, {"off": DISABLED, "none": NO_DEFAULT}, {"nullVariant": False})
    strict = [ask(block, "off"), ask(block, "none")]

    assert lenient == [
        (200, {"key": "off", "reason": "DISABLED", "variant": None, "metadata": {}}),
        (200, {"key": "none", "reason": "DEFAULT", "variant": None, "metadata": {}}),
    ]
    assert strict == [
        (200, {"key": "off", "reason": "DISABLED", "metadata": {}}),
        (200, {"key": "none", "reason": "DEFAULT", "metadata": {}}),
    ]


async def test_if_one_variant_has_a_fraction_all_are_floats(block):
    await configure(
        block,
        {
            "ratio": {"variants": {"one": 1, "half": 0.5}, "defaultVariant": "one"},
            "count": {"variants": {"one": 1.0}, "defaultVariant": "one"},
        },
    )

    assert b'"value":1.0,' in block.evaluate("ratio", "", b"").body
    assert b'"value":1,' in block.evaluate("count", "", b"").body


async def test_metadata_of_the_set_is_everywhere_and_a_flags_own_wins(block):
    flags = {"a": STATIC | {"metadata": {"version": "9", "team": "x"}}, "b": STATIC}
    await configure(block, flags, {"metadata": {"flagSetId": "shop", "version": "7"}})

    assert ask(block, "a")[1]["metadata"] == {"flagSetId": "shop", "version": "9", "team": "x"}
    assert ask(block, "b")[1]["metadata"] == {"flagSetId": "shop", "version": "7"}
    assert (await bulk(block))[1]["metadata"] == {"flagSetId": "shop", "version": "7"}


async def test_an_unmet_requirement_is_named(block):
    flags = {
        "checkout": STATIC
        | {"defaultVariant": "off", "targeting": {"if": [True, "on"]}, "requires": [{"flag": "pay", "variant": "on"}]},
        "pay": RULE,
    }
    await configure(block, flags)

    unmet = ask(block, "checkout", {})[1]
    assert (unmet["reason"], unmet["variant"], unmet["metadata"]) == ("DEFAULT", "off", {"unmetRequirement": "pay"})
    assert ask(block, "checkout", {"email": "a@example.com"})[1]["metadata"] == {}


async def test_the_generation_of_buckets_is_chosen_for_the_set(block):
    flags = {
        "newCheckout": {
            "variants": {"a": 1, "b": 2, "c": 3},
            "targeting": {"fractional": [["a", 50], ["b", 30], ["c", 20]]},
        }
    }
    context = {"targetingKey": "user-2"}

    await configure(block, flags)
    v2 = ask(block, "newCheckout", context)[1]["variant"]
    await configure(block, flags, {"fractional": "v3"})
    v3 = ask(block, "newCheckout", context)[1]["variant"]

    assert (v2, v3) == ("b", "a")


async def test_a_bulk_evaluation_answers_every_flag_in_the_order_of_keys(block):
    await configure(block, {"b": RULE, "a": STATIC, "c": DISABLED, "d": STATIC | {"targeting": {"var": "x"}}})

    status, body, tag = await bulk(block, {"email": "a@example.com", "x": "blue"})

    assert status == 200
    assert [(flag["key"], flag.get("reason"), flag.get("errorCode")) for flag in body["flags"]] == [
        ("a", "STATIC", None),
        ("b", "TARGETING_MATCH", None),
        ("c", "DISABLED", None),
        ("d", None, "GENERAL"),
    ]
    assert "metadata" not in body
    assert tag.startswith('"')
    single = [ask(block, key, {"email": "a@example.com", "x": "blue"})[1] for key in "abcd"]
    assert body["flags"] == single


async def test_without_flags_a_bulk_answer_is_empty(block):
    assert (await bulk(block))[:2] == (200, {"flags": []})


async def test_the_entity_tag_covers_what_answers_depend_on(block, clock):
    timed = STATIC | {
        "defaultVariant": "off",
        "targeting": {"if": [{"<": [{"var": "$flagd.timestamp"}, NOW + 10]}, "on"]},
    }
    await configure(block, {"rule": RULE, "timed": timed})
    context = {"email": "a@example.com", "page": 1}
    _, first, tag = await bulk(block, context)

    assert (await bulk(block, context, tag))[:2] == (304, None)
    assert (await bulk(block, context, f'W/{tag}, "other"'))[0] == 304
    assert (await bulk(block, context, "*"))[0] == 304
    assert (await bulk(block, context | {"page": 2}, tag))[0] == 304, "no rule reads it"
    assert (await bulk(block, {"email": "z@example.com"}, tag))[0] == 200
    assert (await bulk(block, {}, tag))[0] == 200

    clock.wall += 5_000_000_000
    assert (await bulk(block, context, tag))[0] == 304, "time alone changes nothing"
    clock.wall += 5_000_000_000
    status, later, _ = await bulk(block, context, tag)
    assert (status, later["flags"] != first["flags"]) == (200, True)
    clock.wall -= 10_000_000_000

    await configure(block, {"rule": RULE | {"metadata": {"a": 1}}, "timed": timed})
    assert (await bulk(block, context, tag))[0] == 200


async def test_an_entity_tag_of_rules_that_may_read_anything_covers_everything(block):
    await configure(block, {"dynamic": STATIC | {"targeting": {"if": [{"var": {"var": "which"}}, "on", "off"]}}})
    _, _, tag = await bulk(block, {"which": "a", "a": 1})

    assert (await bulk(block, {"which": "a", "a": 1, "$flagd": {}}, tag))[0] == 304
    assert (await bulk(block, {"which": "a", "a": 0}, tag))[0] == 200
    assert (await bulk(block, {"which": "a", "a": True}, tag))[0] == 200


async def test_deep_contexts_are_refused_and_not_fatal(block):
    await configure(block, {"dynamic": STATIC | {"targeting": {"if": [{"var": {"var": "which"}}, "on", "off"]}}})
    for depth in range(100, 1100, 100):
        body = b'{"context":{"which":"a","a":' + b"[" * depth + b"]" * depth + b"}}"
        assert block.evaluate("dynamic", "", body).status in (200, 400)
        assert (await block.evaluate_all(call(body))).status in (200, 400)


async def test_an_edit_swaps_at_once_and_counts_go_on(block):
    await configure(block, {"a": RULE, "b": STATIC})
    ask(block, "a", {"email": "a@example.com"})
    ask(block, "b")
    prepared = await prepare(block, {"a": RULE | {"defaultVariant": "on"}, "b": STATIC})
    ask(block, "a", {"email": "a@example.com"})
    ask(block, "b")
    assert ask(block, "a", {})[1]["variant"] == "off", "prepared is not committed"

    prepared.commit()

    assert ask(block, "a", {})[1]["variant"] == "on"
    assert evaluations(block, "a") == 3, "the default variant has changed, the match has not"
    assert evaluations(block, "b") == 2
    await configure(block, {"b": STATIC})
    assert ask(block, "a", {})[0] == 404


async def test_a_key_that_is_taken_is_unready_and_the_first_serves(block):
    prepared = await prepare(block, {"b": STATIC | {"key": "x"}, "a": RULE | {"key": "x"}})
    prepared.commit()

    assert [(u.name, u.reason) for u in prepared.unready] == [("b", "KeyTaken")]
    assert ask(block, "x")[1]["reason"] == "DEFAULT"


async def test_what_cannot_be_read_is_refused_by_name(block):
    resources = {FEATURE_FLAG.kind: {"broken": {"variants": {}}}}
    with pytest.raises(Refused, match="FeatureFlag broken cannot be read"):
        await block.prepare(
            BlockConfiguration(namespace="default", settings=None, resources=resources, secrets=Secrets({}))
        )


async def test_many_flags_leave_others_their_turn(block):
    import asyncio

    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await configure(block, {f"f{n}": RULE for n in range(1000)})
    task.cancel()

    assert turns >= 5


async def test_an_explanation_tells_every_step(block):
    rule = {"if": [{"==": [{"var": "plan"}, "pro"]}, {"fractional": [["on", 50], ["off", 50]]}, None]}
    await configure(block, {"newCheckout": STATIC | {"targeting": rule}})
    body = ExplainRequest(context={"plan": "pro", "targetingKey": "user-1", "page": 1})

    told = (await block.explain(call(body, path={"key": "newCheckout"}))).body

    assert (told.reason, told.variant, told.value, told.fractional) == ("TARGETING_MATCH", "on", True, "v2")
    assert told.attributes == {"plan": "pro", "targetingKey": "user-1"}
    assert told.timestamp == NOW
    assert [(step.path, step.result) for step in told.steps] == [
        ('targeting.if[0]["=="][0].var', '"pro"'),
        ('targeting.if[0]["=="]', "true"),
        ("targeting.if[1].fractional", '"on"'),
        ("targeting.if", '"on"'),
    ]
    bucket = told.steps[2].bucket
    assert (bucket.hash, bucket.total, bucket.bucket) == ("0x47d5b536", 100, 28)
    assert told.revision == block.statistics()["revision"]
    assert evaluations(block, "newCheckout") == 0, "an explanation is no evaluation"
    assert block.observed() == {}
    msgspec.json.encode(told)


async def test_an_explanation_may_look_at_another_time_and_at_requirements(block):
    flags = {
        "sale": STATIC
        | {
            "defaultVariant": "off",
            "targeting": {"if": [True, "on"]},
            "schedule": {"from": "2027-01-01T00:00:00Z"},
            "requires": [{"flag": "pay", "variant": "on"}],
        },
        "pay": RULE,
    }
    await configure(block, flags)

    async def told(email, timestamp):
        body = ExplainRequest(context={"email": email}, timestamp=timestamp)
        return (await block.explain(call(body, path={"key": "sale"}))).body

    before, after = 1_798_761_599, 1_798_761_600
    assert (await told("a@example.com", before)).variant == "off"
    assert (await told("a@example.com", after)).variant == "on"
    unmet = await told("z@example.com", after)
    assert (unmet.variant, unmet.requires[0].met, unmet.requires[0].variant) == ("off", False, "off")


async def test_an_explanation_is_bounded_and_of_known_flags(block):
    rule = {"if": [{"some": [{"var": "many"}, {"==": [{"var": ""}, -1]}]}, "on", "off"]}
    await configure(block, {"loop": STATIC | {"targeting": rule}})
    body = ExplainRequest(context={"many": list(range(5000)), "deep": [[[]]]})

    told = (await block.explain(call(body, path={"key": "loop"}))).body

    assert len(told.steps) == 500
    assert told.truncated
    assert told.variant == "off"
    with pytest.raises(Problem) as caught:
        await block.explain(call(body, path={"key": "nope"}))
    assert caught.value.status == 404


async def test_the_list_tells_what_flags_read_and_how_they_answered(block):
    await configure(block, {"b": RULE | {"expires": "2026-01-01", "owner": "team"}, "a": STATIC, "c": DISABLED})
    ask(block, "b", {"email": "a@example.com"})
    ask(block, "b")
    ask(block, "b")

    listed = (await block.list_flags(call(None))).body

    assert [flag.key for flag in listed.flags] == ["a", "b", "c"]
    flag = listed.flags[1]
    assert (flag.type, flag.variants, flag.default_variant, flag.reads) == ("boolean", ("off", "on"), "off", ("email",))
    assert (flag.expires, flag.expired, flag.metadata) == ("2026-01-01T00:00:00Z", True, {"owner": "team"})
    assert {(one.variant, one.reason): one.count for one in flag.evaluations} == {
        ("on", "TARGETING_MATCH"): 1,
        ("off", "DEFAULT"): 2,
    }
    assert (listed.total, listed.next) == (3, "")


async def test_the_list_comes_in_pages(block):
    await configure(block, dict.fromkeys("abcde", STATIC))

    pages, after = [], ""
    while True:
        page = (await block.list_flags(call(None, query={"limit": "2", "after": after}))).body
        pages.append([flag.key for flag in page.flags])
        after = page.next
        if not after:
            break

    assert pages == [["a", "b"], ["c", "d"], ["e"]]


async def test_metrics_are_bounded_by_what_is_defined(clock):
    registry = CollectorRegistry()
    block = make(clock=clock, metrics=registry)
    await configure(block, {"a": RULE, "b": DISABLED, "old": STATIC | {"expires": "2020-01-01"}})
    ask(block, "a", {"email": "a@example.com"})
    ask(block, "b")
    for number in range(5):
        ask(block, f"made-up-{number}")
    ask(block, "a", body=b"{")
    _, _, tag = await bulk(block, {})
    await bulk(block, {}, tag)

    text = generate_latest(registry).decode()

    for line in (
        'pillion_flags_evaluations_total{flag="a",reason="TARGETING_MATCH",variant="on"} 1.0',
        'pillion_flags_evaluations_total{flag="b",reason="DISABLED",variant=""} 2.0',
        'pillion_flags_defined{state="enabled"} 2.0',
        'pillion_flags_defined{state="disabled"} 1.0',
        "pillion_flags_expired 1.0",
        'pillion_flags_bulk_requests_total{result="evaluated"} 1.0',
        'pillion_flags_bulk_requests_total{result="unmodified"} 1.0',
        'pillion_flags_refused_requests_total{error="flag_not_found"} 5.0',
        'pillion_flags_refused_requests_total{error="invalid_context"} 1.0',
    ):
        assert line in text
    assert "made-up" not in text
    assert block.statistics()["notFound"] == 5


async def test_a_flag_past_its_date_is_told(block):
    await configure(block, {"old": STATIC | {"expires": "2026-12-01"}, "young": STATIC | {"expires": "2099-01-01"}})

    (told,) = block.reports()

    assert (told.kind, told.name, told.type, told.status, told.degrades) == (
        "FeatureFlag",
        "old",
        "Expired",
        True,
        False,
    )
    assert told.message.startswith("expired on 2026-12-01; remove the flag")
