"""What goes over the wire, read back by readers that are not ours: msgspec's models and a structured field parser."""

import http_sf
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from pillion.ratelimit.answers import Answers, structured_string
from pillion.ratelimit.compiled import CompiledLimit, CompiledPolicy, CompiledRule, Condition, KeyPart
from pillion.ratelimit.counters import Counters
from pillion.ratelimit.engine import Engine
from pillion.ratelimit.messages import Verdict

SECOND = 10**9
NOW = 1_750_000_000 * SECOND


def limit(requests=5, per=SECOND, burst=None, algorithm="gcra"):
    return CompiledLimit(algorithm=algorithm, requests=requests, per_ns=per, burst=burst or requests)


def rule(*limits, name="r", percent=100):
    return CompiledRule(name=name, match=(), key=(KeyPart(attribute="user"),), limits=limits, percent=percent)


class Asked:
    """An engine and its answers."""

    def __init__(self, *rules, name="shop", **fields):
        self.engine = Engine({name: CompiledPolicy(rules=rules, **fields)}, Counters(1000))
        self.engine.adopt()
        self.answers = Answers(self.engine.limits)

    def __call__(self, cost=1, now=NOW, user="a", **attributes):
        decision = self.engine.check(None, {"user": user, **attributes}, cost, now)
        body = msgspec.json.decode(self.answers.body(decision, cost), type=Verdict)
        return decision, body, fields(self.answers.headers(decision))


def fields(lines):
    assert not lines or lines.endswith("\r\n")
    return dict(line.split(": ", 1) for line in lines.split("\r\n") if line)


def items(value):
    return dict(http_sf.parse(value.encode(), tltype="list"))


@given(st.integers(1, 10**9), st.integers(1, 10**10), st.integers(1, 10**9), st.lists(st.integers(1, 3), max_size=5))
def test_every_decision_can_be_read_and_says_what_was_decided(requests, per, burst, costs):
    ask = Asked(rule(limit(requests, per, burst)))
    for cost in costs:
        decision, body, headers = ask(cost)
        counted = ask.engine.limits[0]

        assert (body.allowed, body.policy, body.rule) == (decision.allowed, "shop", "r")
        assert (body.limit, body.remaining) == (counted.burst, decision.remaining)
        assert 0 <= body.reset_after - decision.reset_ns / SECOND <= 0.001
        if body.retry_after is not None:
            assert 0 <= body.retry_after - decision.retry_ns / SECOND <= 0.001
        (policy,), (state,) = items(headers["RateLimit-Policy"]).items(), items(headers["RateLimit"]).items()
        assert policy[0] == state[0] == "shop/r"
        assert policy[1] == {"q": requests} | ({"w": per // SECOND} if per % SECOND == 0 else {})
        assert state[1]["r"] == decision.remaining


def test_the_time_of_the_next_request_is_told_in_whole_seconds_rounded_up():
    ask = Asked(rule(limit(2, 3 * SECOND)))

    headers = [ask()[2]["RateLimit"] for _ in range(2)]

    assert headers == ['"shop/r";r=1;t=2', '"shop/r";r=0;t=2']


def test_a_full_limit_tells_no_time():
    decision = (ask := Asked(rule(limit()))).engine.check(None, {"user": "a"}, 1, NOW, peek=True)

    assert ask.answers.headers(decision) == 'RateLimit-Policy: "shop/r";q=5;w=1\r\nRateLimit: "shop/r";r=5\r\n'


def test_all_limits_that_were_consulted_are_listed():
    ask = Asked(rule(limit(5), limit(50, 3600 * SECOND, algorithm="fixedWindow")), rule(limit(9), name="other"))

    _, _, headers = ask()

    assert items(headers["RateLimit-Policy"]) == {
        "shop/r/5-per-1s": {"q": 5, "w": 1},
        "shop/r/50-per-1h": {"q": 50, "w": 3600},
        "shop/other": {"q": 9, "w": 1},
    }
    assert items(headers["RateLimit"]) == {"shop/r/5-per-1s": {"r": 4, "t": 1}}


def refusal(ask, cost=1, **attributes):
    decision = ask.engine.check(None, {"user": "a", **attributes}, cost, NOW)
    told = ask.answers.refusal(decision, cost)
    document = msgspec.json.decode(told.body)
    members = {key: document[key] for key in msgspec.json.decode(ask.answers.body(decision, cost)) if key != "detail"}
    return told.status, document, fields(told.headers), msgspec.convert(members, Verdict)


def test_a_refusal_is_a_problem_that_carries_the_decision():
    ask = Asked(rule(limit(1, 90 * SECOND)))
    ask()

    status, document, headers, verdict = refusal(ask)

    assert (status, document["status"]) == (429, 429)
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert document["violated-policies"] == list(items(headers["RateLimit-Policy"]))
    assert headers["Retry-After"] == "90"
    assert (verdict.allowed, verdict.retry_after) == (False, 90.0)
    assert "try again in 90 s" in document["detail"]


def test_retry_after_is_never_before_more_quota():
    ask = Asked(rule(limit(7, 10 * SECOND, burst=3)))
    ask(cost=3)

    _, _, headers, verdict = refusal(ask, cost=2)

    assert int(headers["Retry-After"]) >= items(headers["RateLimit"])["shop/r"]["t"]
    assert int(headers["Retry-After"]) >= verdict.retry_after


@pytest.mark.parametrize(("algorithm", "fix"), [("gcra", "raise the burst"), ("fixedWindow", "raise the limit")])
def test_a_cost_that_never_passes_is_refused_for_good(algorithm, fix):
    ask = Asked(rule(limit(5, algorithm=algorithm)))

    _, body, _ = ask(cost=6)
    status, document, headers, verdict = refusal(ask, cost=6)

    assert (body.allowed, body.retry_after, body.remaining) == (False, None, 5)
    assert "cost of 6 is above the 5" in body.detail
    assert fix in body.detail
    assert (status, document["detail"], verdict.retry_after) == (429, body.detail, None)
    assert "Retry-After" not in headers


def test_a_deny_list_is_no_quota():
    ask = Asked(rule(limit()), deny=(Condition(attribute="ip", test="exact", value="x"),))

    _, body, headers = ask(ip="x")
    status, document, told, _ = refusal(ask, ip="x")

    assert (body.allowed, body.policy, body.rule, body.retry_after) == (False, "shop", None, None)
    assert headers == told == {}
    assert (status, document["status"], document["type"]) == (403, 403, "https://pillion.dev/problems/denied")


def test_nothing_that_applies_is_allowed_without_a_policy():
    decision, body, headers = Asked(rule(limit()), name="x")(user="a", cost=1)
    assert decision.allowed
    ask = Asked()

    _, body, headers = ask()

    assert (body.allowed, body.policy, body.limit, body.remaining, headers) == (True, None, None, None, {})


def test_a_shadow_is_told_in_the_body_and_the_enforced_limit_in_the_header():
    ask = Asked(rule(limit(5), name="real"), rule(limit(1), name="trial", percent=0))
    ask()

    _, body, headers = ask()

    assert (body.allowed, body.shadow, body.rule, body.remaining, body.retry_after) == (True, True, "trial", 0, 1.0)
    assert list(items(headers["RateLimit-Policy"])) == ["shop/real"]
    assert items(headers["RateLimit"])["shop/real"]["r"] == 3


def test_a_lonely_shadow_has_no_header():
    ask = Asked(rule(limit(1), percent=0))
    ask()

    _, body, headers = ask()

    assert (body.allowed, body.shadow, headers) == (True, True, {})


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_strings_are_escaped_as_structured_fields_want(text):
    assert http_sf.parse(structured_string(text).encode(), tltype="item")[0] == text


@pytest.mark.parametrize("text", ["ä", "a\r\nb", "\x7f"])
def test_what_cannot_stand_in_a_field_is_refused(text):
    with pytest.raises(ValueError, match="structured field"):
        structured_string(text)
