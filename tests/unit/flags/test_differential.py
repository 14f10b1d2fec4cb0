"""The compiler against flagd's own Python evaluator, over random rules and contexts.

The oracle is the unmodified package `openfeature-flagd-core` 2.0. It departs from JsonLogic's reference where Python's values leak through (`True`
is an int, `-7 % 3` is 2, `"%.15g"`); docs/flags.md lists these departures. `departs` recognises exactly them, and such a run is not compared.
"""

import logging
import math
import re

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from json_logic import builtins, jsonLogic
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.contrib.tools.flagd.core.targeting import custom_ops
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from pillion.flags.coercion import MAX_STEPS, Exceeded, number_text
from pillion.flags.compiler import OPERATORS, compile_rule
from pillion.flags.engine import Definition, Flag

KEY, NOW = "newCheckout", 1_790_000_000


@pytest.fixture(autouse=True)
def silent():
    """The oracle logs an error for each operand that it does not like."""
    logger = logging.getLogger("openfeature.contrib")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before


class Departs(Exception):  # noqa: N818 - says what happens
    """The oracle is about to do what it does differently from the reference."""


NUMERAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def is_number(value):
    return type(value) in (int, float)


def odd_text(value):
    """Text that the oracle reads as another number than ECMAScript does."""
    if not isinstance(value, str) or NUMERAL.fullmatch(value):
        return False
    return not value.strip() or not math.isnan(builtins.to_number(value)) or value[:2].lower() in ("0x", "0b", "0o")


def odd_number(value):
    """A value that the oracle reads as another number."""
    return odd_text(value) or isinstance(value, list | dict)


def odd_word(value):
    """A value that the oracle writes as another text."""
    if isinstance(value, list):
        return any(item is None or odd_word(item) for item in value)
    return isinstance(value, bool) or (is_number(value) and builtins.to_string(value) != number_text(value))


def odd_key(data, key):
    if isinstance(key, str) or key is None:
        return False
    return not (type(key) is int and isinstance(data, list))


def odd_equality(a, b):
    if isinstance(a, list | dict) or isinstance(b, list | dict):
        other = b if isinstance(a, list | dict) else a
        return not isinstance(other, str | list | dict) or odd_word(a) or odd_word(b)
    if a is None or b is None:
        return a is not b and (is_number(a) or is_number(b) or isinstance(a, bool) or isinstance(b, bool))
    return not (isinstance(a, str) and isinstance(b, str)) and (odd_text(a) or odd_text(b))


def odd_order(a, b):
    if isinstance(a, str) and isinstance(b, str):
        return False
    return (isinstance(a, str) and b is None) or (isinstance(b, str) and a is None) or odd_number(a) or odd_number(b)


def departs(name, data, args):
    """Tell whether this application is one of the documented departures."""
    a, b, c = [*args, None, None, None][:3]
    match name:
        case "===" | "!==":
            containers = isinstance(a, list | dict) or isinstance(b, list | dict)
            return containers or (isinstance(a, bool) is not isinstance(b, bool) and a == b)
        case "==" | "!=":
            return odd_equality(a, b)
        case "<" | "<=" | ">" | ">=":
            return odd_order(a, b) or (len(args) > 2 and (c is None or odd_order(b, c)))
        case "+" | "*" | "min" | "max":
            if any(odd_number(arg) for arg in args):
                return True
            if name in ("+", "*"):
                return False
            return not args or any(isinstance(arg, bool) or math.isnan(builtins.to_number(arg)) for arg in args)
        case "-":
            return odd_number(a) or odd_number(b) or (len(args) > 1 and b is None)
        case "/" | "%":
            if odd_number(a) or odd_number(b):
                return True
            x, y = builtins.to_number(a), builtins.to_number(b)
            return y == 0 or (name == "%" and (x < 0 or y < 0 or not math.isfinite(x) or not math.isfinite(y)))
        case "cat":
            return any(arg is None or odd_word(arg) for arg in args)
        case "substr":
            if odd_word(a) or odd_number(b) or odd_number(c):
                return True
            start = builtins.to_number(b)
            return -1 < start < 0 or any(math.isinf(builtins.to_number(value)) for value in (b, c))
        case "in":
            if isinstance(b, str):
                return odd_word(a)
            if isinstance(a, list | dict):
                return True
            return isinstance(b, list) and any(x == a and isinstance(x, bool) is not isinstance(a, bool) for x in b)
        case "var":
            return odd_key(data, a)
        case "missing":
            return any(odd_key(data, key) for key in (a if isinstance(a, list) else args))
        case "missing_some":
            return odd_number(a) or (isinstance(b, list) and any(odd_key(data, key) for key in b))
        case "sem_ver":
            return any(type(arg) is float and arg == 0 and math.copysign(1, arg) < 0 for arg in args)
        case "fractional":
            weights = [arg[1] for arg in args if isinstance(arg, list) and len(arg) == 2]
            return any(weight is None or (type(weight) is float and weight.is_integer()) for weight in weights)
    return False


ORACLE = {
    **builtins.BUILTINS,
    "fractional": custom_ops.fractional,
    "sem_ver": custom_ops.sem_ver,
    "starts_with": custom_ops.starts_with,
    "ends_with": custom_ops.ends_with,
}


def guarded(name, apply):
    def run(data, *args):
        if departs(name, data, args):
            raise Departs
        result = apply(data, *args)
        if type(result) is int and abs(result) > 2**63:
            raise Departs  # whole numbers beyond become floats
        return result

    return run


GUARDED = {name: guarded(name, apply) for name, apply in ORACLE.items()}


def same(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if is_number(a) and is_number(b):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


NAMES = ("a", "b", "c", "email", "plan", "targetingKey", "tags", "nested")
words = st.sampled_from(
    (
        "",
        "a",
        "b",
        "on",
        "off",
        "x@example.com",
        "@example.com",
        "pro",
        "1",
        "2.5",
        " 7 ",
        "-3",
        "1.2.3",
        "v1.2",
        "2.0.0-rc.1",
    )
) | st.text("abö€𝄞 .@-1", max_size=6)
numbers = st.integers(-20, 20) | st.sampled_from((0.5, 1.5, -2.25, 2.0, 100, 1e6, 2**31 - 1, NOW))
scalars = st.none() | st.booleans() | words | numbers
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
contexts = st.dictionaries(st.sampled_from(NAMES), values, max_size=6)
paths = st.sampled_from(
    (*NAMES, "nested.a", "nested.b.a", "tags.0", "tags.length", "email.1", "$flagd.flagKey", "", "zz", "tags.1.a")
)
versions = st.sampled_from(("1.2.3", "v1.2", "2", "2.0.0-rc.1", "2.0.0", "1.2.3+b", "1.2.3.4", "x", "")) | scalars
weights = st.integers(0, 100) | st.sampled_from((-5, 2**31 - 1, True, 12.5, None, "5"))


def call(name, *operands):
    return st.tuples(*operands).map(lambda args: {name: list(args)})


def rules(depth, inside=paths, *, in_loop=False):
    """Rules of at most *depth* levels; *inside* gives the paths that make sense where they stand."""
    var = inside.map(lambda path: {"var": path}) | st.tuples(inside, scalars).map(lambda pair: {"var": list(pair)})
    leaves = scalars | var
    if depth == 0:
        return leaves
    below = rules(depth - 1, inside, in_loop=in_loop)
    item_paths = st.sampled_from(
        ("a", "b", "nested.a", "length", "0", "zz", "targetingKey", *(() if in_loop else ("",)))
    )
    body = rules(depth - 1, item_paths, in_loop=in_loop)
    # The oracle hands the same object to each round of `reduce`, so a body may not ask for all of it.
    step = rules(depth - 1, st.sampled_from(("current", "accumulator", "current.a")), in_loop=True)
    lists = st.sampled_from(("tags", "nested", "a")).map(lambda path: {"var": path}) | st.lists(below, max_size=3)
    entry = st.tuples(below, weights).map(list) | below.map(lambda v: [v]) | st.tuples(scalars, weights).map(list)
    entries = st.lists(entry, min_size=1, max_size=4)
    return st.one_of(
        leaves,
        st.sampled_from(("==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "%", "/", "-")).flatmap(
            lambda name: call(name, below, below)
        ),
        st.sampled_from(("<", "<=", ">", ">=", "substr")).flatmap(lambda name: call(name, below, below, below)),
        call("-", below),
        st.sampled_from(("!", "!!")).flatmap(lambda name: below.map(lambda operand: {name: [operand]})),
        st.sampled_from(("if", "?:", "and", "or", "+", "*", "min", "max", "cat", "merge", "missing")).flatmap(
            lambda name: st.lists(below, max_size=5).map(lambda operands: {name: operands})
        ),
        st.lists(inside, max_size=3).map(lambda keys: {"missing": keys}),
        st.tuples(st.integers(0, 3), st.lists(inside, max_size=3)).map(lambda pair: {"missing_some": list(pair)}),
        call("substr", below, st.integers(-4, 4)),
        st.sampled_from(("map", "filter", "all", "some", "none")).flatmap(lambda name: call(name, lists, body)),
        call("reduce", lists, step, scalars),
        st.sampled_from(("starts_with", "ends_with")).flatmap(lambda name: call(name, below, below)),
        call(
            "sem_ver",
            versions | below,
            st.sampled_from(("=", "!=", "<", "<=", ">", ">=", "^", "~", "=>", None)),
            versions,
        ),
        entries.map(lambda found: {"fractional": found}),
        st.tuples(below, entries).map(lambda pair: {"fractional": [pair[0], *pair[1]]}),
    )


def ask_oracle(rule, context):
    data = {**context, "$flagd": {"flagKey": KEY, "timestamp": NOW}, "targetingKey": context.get("targetingKey")}
    return jsonLogic(rule, data, GUARDED)


def ask_ours(rule, context):
    compiled = compile_rule(rule, KEY, "v3")
    compiled.meter.left = MAX_STEPS
    return compiled.program(
        {**context, "$flagd": {"flagKey": KEY, "timestamp": NOW}, "targetingKey": context.get("targetingKey")}
    )


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(rules(3), contexts)
def test_a_rule_gives_what_flagd_gives(rule, context):
    try:
        expected = ask_oracle(rule, context)
    except Departs:
        event("departs")
        expected = None
        compared = False
    except (ZeroDivisionError, AttributeError, OverflowError, TypeError, ValueError) as error:
        event(f"the oracle raises {type(error).__name__}")
        compared = False
    else:
        compared = True
    try:
        got = ask_ours(rule, context)
    except Exceeded:
        got = Exceeded

    if compared:
        event("compared")
        assert same(got, expected), (got, expected)


def test_every_operator_of_flagd_is_known():
    control = {"if", "?:", "and", "or", "map", "filter", "reduce", "all", "some", "none"}

    assert set(OPERATORS) == (set(ORACLE) | control) - {"log"}


definitions = st.builds(
    lambda targeting, default: {
        "state": "ENABLED",
        "variants": {"on": "yes", "off": "no", "true": "t", "false": "f", "1": "one", "a": "A"},
        "defaultVariant": default,
        "targeting": targeting,
    },
    st.one_of(*(call("if", rules(2), st.sampled_from(("on", "off", None, True, 1, "zz")), rules(2)) for _ in range(2))),
    st.sampled_from(("on", "off", None)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(definitions, contexts)
def test_a_flag_resolves_as_in_flagd(definition, context):
    key = context.get("targetingKey")
    assume(key is None or isinstance(key, str))
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    core = FlagdCore()
    core.set_flags({"flags": {KEY: dict(definition)}})
    try:
        result = ask_oracle(definition["targeting"], context)
        assume(not isinstance(result, float))  # the oracle looks for a variant "1.0", the others for "1"
        details = core.resolve_string_value(KEY, "code default", EvaluationContext(key, attributes))
        expected = (str(details.reason), details.variant, details.value, "")
    except (Departs, ZeroDivisionError, AttributeError, OverflowError, TypeError, ValueError):
        assume(False)
    except OpenFeatureError as error:
        expected = ("ERROR", None, "code default", str(error.error_code.value))
    flag = Flag(
        Definition(
            key=KEY,
            variants=definition["variants"],
            default_variant=definition["defaultVariant"],
            targeting=definition["targeting"],
        ),
        "v3",
    )
    got = flag.evaluate(context, NOW)

    value = "code default" if got.variant is None else got.value
    assert (got.reason, got.variant, value, got.error_code) == expected
