"""Flags: which outcome an evaluation leads to, and that it always leads to one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.flags.coercion import MAX_STEPS
from pillion.flags.engine import MAX_CHAIN, Definition, Flag, Requirement, Ruleset, build_flags
from pillion.flags.program import MAX_DEPTH

NOW = 1_800_000_000


def definition(key="flag", **fields):
    return Definition(key=key, **{"variants": {"on": True, "off": False}, "default_variant": "off", **fields})


def evaluate(context=None, now=NOW, **fields):
    return Flag(definition(**fields), "v2").evaluate(context or {}, now)


def answer(outcome):
    return (outcome.reason, outcome.variant, outcome.value, outcome.error_code)


def test_disabled_wins_and_leaves_the_code_default():
    assert answer(evaluate(state="DISABLED", targeting={"if": [True, "on"]})) == ("DISABLED", None, msgspec.UNSET, "")


@pytest.mark.parametrize("targeting", [None, {}])
def test_without_targeting_the_answer_is_static(targeting):
    assert answer(evaluate(targeting=targeting)) == ("STATIC", "off", False, "")


@pytest.mark.parametrize("targeting", [None, {}, {"if": [False, "on"]}])
def test_without_a_default_variant_the_code_default_counts(targeting):
    assert answer(evaluate(targeting=targeting, default_variant=None)) == ("DEFAULT", None, msgspec.UNSET, "")


def test_a_null_result_gives_the_default_variant():
    assert answer(evaluate(targeting={"if": [{"var": "x"}, "on", None]})) == ("DEFAULT", "off", False, "")


def test_a_result_names_a_variant():
    assert answer(evaluate({"x": 1}, targeting={"if": [{"var": "x"}, "on"]})) == ("TARGETING_MATCH", "on", True, "")


def test_a_split_is_a_targeting_match_too():
    outcome = evaluate({"targetingKey": "user-1"}, targeting={"fractional": [["on", 1], ["off", 0]]})

    assert answer(outcome) == ("TARGETING_MATCH", "on", True, "")


@pytest.mark.parametrize(
    ("result", "variant"), [(True, "true"), (False, "false"), (1, "1"), (1.0, "1"), (2.5, "2.5"), (-0.0, "0")]
)
def test_booleans_and_numbers_name_variants_by_their_text(result, variant):
    variants = {"true": "a", "false": "b", "1": "c", "2.5": "d", "0": "e"}

    outcome = evaluate({"x": result}, targeting={"var": "x"}, variants=variants, default_variant=None)

    assert (outcome.reason, outcome.variant) == ("TARGETING_MATCH", variant)


@pytest.mark.parametrize(
    ("result", "told"), [("blue", '"blue"'), (True, "true"), (7, "7"), ([1], "a list"), ({"a": 1}, "an object")]
)
def test_any_other_result_is_an_error_that_names_it(result, told):
    outcome = evaluate({"x": result}, targeting={"var": "x"})

    assert answer(outcome) == ("ERROR", None, msgspec.UNSET, "GENERAL")
    assert outcome.error_details == f"targeting resolved to {told}, which is none of the flag's variants"


def test_an_unknown_operator_is_a_parse_error():
    outcome = evaluate(targeting={"regex": ["a"]})

    assert (outcome.error_code, outcome.error_details) == ("PARSE_ERROR", '"regex" is no operator')


def test_a_rule_that_is_too_deep_is_a_parse_error():
    rule = "on"
    for _ in range(MAX_DEPTH + 1):
        rule = {"if": [True, rule]}

    outcome = evaluate(targeting=rule)

    assert (outcome.reason, outcome.error_code) == ("ERROR", "PARSE_ERROR")
    assert "nested deeper" in outcome.error_details


def test_a_rule_that_does_too_much_is_an_error_and_the_next_evaluation_is_not():
    rule = {"if": [{"some": [{"var": "many"}, {"some": [{"var": "few"}, False]}]}, "on", "off"]}
    flag = Flag(definition(targeting=rule), "v2")

    few = list(range(1000))
    over = flag.evaluate({"many": [{"few": few}] * 1000}, NOW)
    under = flag.evaluate({"many": [{"few": few}]}, NOW)

    assert over.error_code == "GENERAL"
    assert str(MAX_STEPS) in over.error_details
    assert under.variant == "off"


def test_an_unknown_default_variant_is_an_error():
    assert answer(evaluate(default_variant="blue")) == ("ERROR", None, msgspec.UNSET, "GENERAL")


def test_a_rule_sees_its_flag_and_the_time_whatever_the_caller_sends():
    targeting = {
        "if": [{"and": [{"==": [{"var": "$flagd.flagKey"}, "flag"]}, {"==": [{"var": "$flagd.timestamp"}, NOW]}]}, "on"]
    }
    context = {"$flagd": {"flagKey": "forged", "timestamp": 0}}

    assert evaluate(context, targeting=targeting).variant == "on"
    assert context == {"$flagd": {"flagKey": "forged", "timestamp": 0}}


def test_a_flag_knows_whether_time_changes_its_answer():
    flag = Flag(definition(targeting={"if": [{"<": [{"var": "$flagd.timestamp"}, 5]}, "on"]}), "v2")

    assert flag.reads_time
    assert flag.evaluate({}, 4).variant == "on"
    assert flag.evaluate({}, 5).variant == "off"


def build(*definitions, generation="v2", known=None):
    return {flag.definition.key: flag for flag in build_flags(definitions, generation, known)}


ON = {"if": [True, "on"]}
BY_PLAN = {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}


def test_targeting_counts_only_when_the_requirement_is_met():
    flags = build(
        definition("checkout", targeting=ON, requires=(Requirement("payments", "on"),)),
        definition("payments", targeting=BY_PLAN),
    )

    met = flags["checkout"].evaluate({"plan": "pro"}, NOW)
    unmet = flags["checkout"].evaluate({"plan": "free"}, NOW)

    assert (met.reason, met.variant, met.unmet) == ("TARGETING_MATCH", "on", "")
    assert (unmet.reason, unmet.variant, unmet.unmet) == ("DEFAULT", "off", "payments")
    assert flags["checkout"].reads.names == {"plan"}


@pytest.mark.parametrize(
    "other",
    [
        [],
        [definition("payments", state="DISABLED")],
        [definition("payments", default_variant=None)],
        [definition("payments", targeting={"if": [True, "zz"]})],
    ],
    ids=["missing", "disabled", "no variant", "error"],
)
def test_a_flag_that_gives_no_variant_meets_no_requirement(other):
    flags = build(definition("checkout", targeting=ON, requires=(Requirement("payments", "on"),)), *other)

    assert flags["checkout"].evaluate({}, NOW).unmet == "payments"


def test_a_split_of_a_required_flag_buckets_by_its_own_key():
    split = {"fractional": [["on", 50], ["off", 50]]}
    alone = build(definition("payments", targeting=split))["payments"]
    flags = build(
        definition("checkout", targeting=ON, requires=(Requirement("payments", "on"),)),
        definition("payments", targeting=split),
    )

    for number in range(50):
        context = {"targetingKey": f"user-{number}"}
        assert flags["checkout"].evaluate(context, NOW).variant == alone.evaluate(context, NOW).variant


def test_a_circle_of_requirements_is_unmet_and_harmless():
    flags = build(
        definition("a", targeting=ON, requires=(Requirement("b", "on"),)),
        definition("b", targeting=ON, requires=(Requirement("c", "on"),)),
        definition("c", targeting=ON, requires=(Requirement("a", "on"),)),
    )

    assert [flags[key].evaluate({}, NOW).variant for key in "abc"] == ["off", "off", "off"]


def test_requirements_that_fan_out_too_far_are_an_error():
    keys = [f"f{level}" for level in range(12)]
    definitions = [
        definition(key, targeting=ON, requires=tuple(Requirement(below, "on") for below in [keys[i + 1]] * 2))
        for i, key in enumerate(keys[:-1])
    ]

    flags = build(*definitions, definition(keys[-1], targeting=ON))

    assert flags["f0"].chain > MAX_CHAIN
    assert flags["f0"].evaluate({}, NOW).error_code == "PARSE_ERROR"
    assert flags["f8"].evaluate({}, NOW).variant == "on"


requirements = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefgh"), max_size=3), min_size=1, max_size=6
)


@given(requirements)
def test_flags_are_built_after_what_they_require(needs):
    definitions = [
        definition(key, targeting=ON, requires=tuple(Requirement(other, "on") for other in others))
        for key, others in needs.items()
    ]

    order = [flag.definition.key for flag in build_flags(definitions, "v2")]

    def reachable(start, seen):
        for other in needs.get(start, ()):
            if other not in seen:
                seen.add(other)
                reachable(other, seen)
        return seen

    assert sorted(order) == sorted(needs)
    for key, others in needs.items():
        for other in others:
            if other in needs and key not in reachable(other, set()):
                assert order.index(other) < order.index(key)


def test_unchanged_flags_are_taken_over_and_changed_ones_are_not():
    before = build(definition("a"), definition("b", targeting=ON, requires=(Requirement("a", "off"),)), definition("c"))

    after = build(
        definition("a", variants={"on": 1, "off": 0}),
        definition("b", targeting=ON, requires=(Requirement("a", "off"),)),
        definition("c"),
        known=before,
    )

    assert after["a"] is not before["a"]
    assert after["b"] is not before["b"]
    assert after["b"].required == (after["a"],)
    assert after["c"] is before["c"]


def test_a_ruleset_depends_on_what_its_flags_read_and_nothing_else():
    flags = build(definition("a", targeting=BY_PLAN), definition("b"))
    ruleset = Ruleset(flags, {}, "v2", "r")

    assert ruleset.attributes({"plan": "pro", "email": "x", "$flagd": 1}) == {"plan": "pro"}

    everything = Ruleset(build(definition("a", targeting={"var": {"var": "x"}})), {}, "v2", "r")
    assert everything.attributes({"plan": "pro", "$flagd": 1}) == {"plan": "pro"}


names = st.sampled_from(
    ("var", "if", "==", "in", "cat", "fractional", "map", "reduce", "sem_ver", "+", "!", "merge", "nope", "a")
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=3), inner, max_size=2),
    max_leaves=20,
)


@given(anything, st.dictionaries(st.text(max_size=4), anything, max_size=4), st.sampled_from(("v2", "v3")))
def test_an_evaluation_never_raises_and_never_fails_inside(targeting, context, generation):
    outcome = Flag(definition(targeting=targeting), generation).evaluate(context, NOW)

    assert outcome.reason in ("STATIC", "DEFAULT", "TARGETING_MATCH", "ERROR")
    assert bool(outcome.error_code) is (outcome.reason == "ERROR")
    assert "targeting failed" not in outcome.error_details


@given(anything, st.dictionaries(st.text(max_size=4), anything, max_size=4))
def test_an_evaluation_changes_nothing_and_repeats(targeting, context):
    flag = Flag(definition(targeting=targeting), "v2")
    before = repr((targeting, context))

    first, second = flag.evaluate(context, NOW), flag.evaluate(context, NOW)

    assert repr((targeting, context)) == before
    assert answer(first) == answer(second)
    assert first.error_details == second.error_details
