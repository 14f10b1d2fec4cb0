"""JsonLogic as ECMAScript has it: what each operator gives, and that nothing can grow without bound.

The cases marked "ref" were run through the reference implementation of JsonLogic (json-logic-js 2.0.5).
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.flags.coercion import (
    MAX_STEPS,
    Exceeded,
    Meter,
    divide,
    number,
    number_text,
    parse_number,
    remainder,
    text,
    truthy,
)
from pillion.flags.compiler import compile_rule
from pillion.flags.program import MAX_DEPTH, MAX_NODES, TooLarge, UnknownOperator
from pillion.flags.versions import compare_versions


def run(rule, context=None):
    compiled = compile_rule(rule, "flag", "v2")
    compiled.meter.left = MAX_STEPS
    return compiled.program({} if context is None else context)


REFERENCE = [
    ({"===": [True, 1]}, {}, False),
    ({"===": [[1], [1]]}, {}, False),
    ({"==": [[1], [1]]}, {}, False),
    ({"==": [None, 0]}, {}, False),
    ({"==": ["", 0]}, {}, True),
    ({"==": ["1_0", 10]}, {}, False),
    ({"==": [" 5 ", 5]}, {}, True),
    ({"==": ["0x10", 16]}, {}, True),
    ({"==": [True, "1"]}, {}, True),
    ({"==": [True, "true"]}, {}, False),
    ({"==": ["1", [1]]}, {}, True),
    ({"==": [{"var": "o"}, "[object Object]"]}, {"o": {}}, True),
    ({">": [None, "a"]}, {}, False),
    ({">": ["5", None]}, {}, True),
    ({"<": ["", 5]}, {}, True),
    ({"<": ["a", "b"]}, {}, True),
    ({"<": ["10", "9"]}, {}, True),
    ({"<": ["10", 9]}, {}, False),
    ({"<": [[1], [2]]}, {}, True),
    ({"<": [[10], [9]]}, {}, True),
    ({"<": [1, 2, 3]}, {}, True),
    ({"<=": [1, None, 3]}, {}, False),
    ({"%": [-7, 3]}, {}, -1),
    ({"%": [5.5, 2]}, {}, 1.5),
    ({"/": [1, 0]}, {}, math.inf),
    ({"/": ["6", "3"]}, {}, 2),
    ({"-": ["5"]}, {}, -5),
    ({"-": [1, 2, 3]}, {}, -1),
    ({"*": [2, "3"]}, {}, 6),
    ({"in": [1, [True]]}, {}, False),
    ({"in": [[1], [[1]]]}, {}, False),
    ({"in": [None, "null"]}, {}, True),
    ({"in": [1, "a1"]}, {}, True),
    ({"in": ["a", None]}, {}, False),
    ({"var": 1}, {"1": "x"}, "x"),
    ({"var": "a.length"}, {"a": "abc"}, 3),
    ({"var": ["a.b", "d"]}, {"a": None}, "d"),
    ({"var": "a.0"}, {"a": ["q"]}, "q"),
    ({"var": "a.0"}, {"a": "qr"}, "q"),
    ({"var": []}, {"a": 1}, {"a": 1}),
    ({"var": None}, {"a": 1}, {"a": 1}),
    ({"cat": ["a", None, "b"]}, {}, "ab"),
    ({"cat": ["a", True]}, {}, "atrue"),
    ({"cat": [{"+": [0.1, 0.2]}]}, {}, "0.30000000000000004"),
    ({"cat": [1e21, 1e-7]}, {}, "1e+211e-7"),
    ({"cat": [[1, None, 2]]}, {}, "1,,2"),
    ({"min": []}, {}, math.inf),
    ({"max": ["3", 2]}, {}, 3),
    ({"min": [1, None]}, {}, 0),
    ({"max": [True]}, {}, 1),
    ({"substr": ["abcdef", -3, -1]}, {}, "de"),
    ({"substr": ["abcdef", 1.7, 2]}, {}, "bc"),
    ({"substr": ["héllo", 1, 1]}, {}, "é"),
    ({"substr": [123, 1]}, {}, "23"),
    ({"!": [[]]}, {}, True),
    ({"!": [{"var": "o"}]}, {"o": {}}, False),
    ({"!!": ["0"]}, {}, True),
    ({"if": []}, {}, None),
    ({"if": [True]}, {}, True),
    ({"if": [True, 1]}, {}, 1),
    ({"if": [False, 1]}, {}, None),
    ({"?:": [True, 1, 2]}, {}, 1),
    ({"all": [[], True]}, {}, False),
    ({"none": [[], True]}, {}, True),
    ({"some": [[], True]}, {}, False),
    ({"all": [{"var": "x"}, True]}, {}, False),
    ({"merge": [1, [2, [3]]]}, {}, [1, 2, [3]]),
    ({"map": [[1, 2], {"*": [{"var": ""}, 2]}]}, {}, [2, 4]),
    ({"reduce": [[1, 2], {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]}, {}, 3),
    ({"reduce": [{"var": "x"}, 1, 5]}, {}, 5),
    ({"missing": ["a", "b"]}, {"a": ""}, ["a", "b"]),
    ({"missing_some": [1, ["a", "b"]]}, {"a": 1}, []),
]


@pytest.mark.parametrize(("rule", "context", "expected"), REFERENCE, ids=[str(case[:2]) for case in REFERENCE])
def test_ref(rule, context, expected):
    got = run(rule, context)

    assert got == expected
    assert type(got) is type(expected) or {type(got), type(expected)} == {int, float}


CHOSEN = [
    # Where the reference and flagd's evaluators part, or where a bound is ours.
    ({"var": ["a", "d"]}, {"a": None}, "d"),
    ({">": [3, 2, 5]}, {}, False),
    ({"+": ["3", None]}, {}, 3),
    ({"+": [True, 1]}, {}, 2),
    ({"<": [1, 2, None]}, {}, False),
    ({"-": [5, None]}, {}, 5),
    ({"substr": ["abc", 1, None]}, {}, "bc"),
    ({"var": "a.01"}, {"a": ["q", "r"]}, None),
    ({"var": "a.-1"}, {"a": ["q"]}, None),
    ({"var": "a.99999999999"}, {"a": ["q"]}, None),
    ({"var": "a.b.c"}, {"a": 7}, None),
    ({"var": {"var": "which"}}, {"which": "a", "a": 1}, 1),
    ({"missing": {"merge": ["a", {"if": [True, "b"]}]}}, {"a": 1}, ["b"]),
    ({"missing": "a"}, {}, ["a"]),
    ({"missing_some": [1, "a"]}, {}, []),
    ({"reduce": [[1, 2], {"+": [{"var": "current"}, {"var": "accumulator"}]}, {"var": "x"}]}, {"x": 10}, 13),
    ({"reduce": [[1]]}, {}, None),
    ({"filter": [[1, 0, 2], {"var": ""}]}, {}, [1, 2]),
    ({"filter": [[1]]}, {}, []),
    ({"map": [[1]]}, {}, [None]),
    ({"all": [[1]]}, {}, False),
    ({"and": []}, {}, None),
    ({"or": []}, {}, None),
    ({"and": [1, "a", 0, 2]}, {}, 0),
    ({"or": [0, "", "b", 2]}, {}, "b"),
    ({"starts_with": ["abc", "a"]}, {}, True),
    ({"starts_with": ["abc"]}, {}, None),
    ({"starts_with": ["abc", "a", "b"]}, {}, None),
    ({"ends_with": [{"var": "x"}, "c"]}, {}, None),
    ({"a": 1, "b": 2}, {}, {"a": 1, "b": 2}),
    ({}, {}, {}),
    ({"*": [2**62, 4]}, {}, float(2**64)),
    ({"+": [{"var": "x"}, 1]}, {"x": 10**400}, math.inf),
    ({"==": [{"var": "x"}, {"var": "x"}]}, {"x": [1]}, True),
    ({"===": [{"var": "x"}, {"var": "x"}]}, {"x": {}}, True),
    ({"==": [1, 1.0]}, {}, True),
    ({"===": [1, 1.0]}, {}, True),
    ({"===": [1]}, {}, False),
]


@pytest.mark.parametrize(("rule", "context", "expected"), CHOSEN, ids=[str(case[:2])[:80] for case in CHOSEN])
def test_chosen(rule, context, expected):
    assert run(rule, context) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, "0.30000000000000004"),
        (1e21, "1e+21"),
        (1.5e21, "1.5e+21"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (-1.25e-9, "-1.25e-9"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-0.0, "0"),
        (2.0, "2"),
        (-2.5, "-2.5"),
        (1e16, "10000000000000000"),
        (12345678901234567.0, "12345678901234568"),
        (0.00001, "0.00001"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (7, "7"),
    ],
)
def test_numbers_are_written_as_ecmascript_writes_them(value, expected):
    assert number_text(value) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back(value):
    assert float(number_text(value)) == value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", 0), (" \n", 0), ("\ufeff7\u00a0", 7), ("+5", 5), ("-3.5e2", -350), (".5", 0.5), ("5.", 5), ("0b11", 3), ("0o17", 15),
        ("Infinity", math.inf), ("-Infinity", -math.inf), ("99999999999999999999", 1e20), ("0x" + "f" * 300, math.inf),
    ],
)  # fmt: skip
def test_numerals(source, expected):
    assert parse_number(source) == expected


@pytest.mark.parametrize(
    "source", ["1_0", "nan", "inf", "infinity", "\u0661", "1e", ".", "-", "0x", "-0x1", "1 2", "abc", "1,5"]
)
def test_no_numerals(source):
    assert math.isnan(parse_number(source))


def test_arithmetic_never_raises():
    for a in (0, 1, -1, 0.5, math.inf, -math.inf, math.nan, 2**63, 1e308):
        for b in (0, -0.0, 1, -3, 0.1, math.inf, math.nan):
            divide(a, b)
            remainder(a, b)
    assert divide(-1, 0) == divide(1, -0.0) == -math.inf
    assert math.isnan(divide(0, 0))
    assert remainder(7, math.inf) == 7


def test_truth():
    assert [value for value in (None, False, 0, 0.0, -0.0, math.nan, "", []) if truthy(value)] == []
    assert all(map(truthy, (True, 1, -0.5, "0", "false", " ", [0], {}, {"a": 1})))


VERSIONS = [
    ("1.2.3", "=", "v1.2.3", True),
    ("V1.2.3", "=", "1.2.3", True),
    ("1", "=", "1.0.0", True),
    (1, "=", "1.0.0", True),
    (1.5, "=", "1.5.0", True),
    ("1.2", "<", "1.2.1", True),
    ("1.2.3", "!=", "1.2.4", True),
    ("1.2.3-alpha", "<", "1.2.3", True),
    ("1.2.3-alpha.2", "<", "1.2.3-alpha.10", True),
    ("1.2.3-1", "<", "1.2.3-alpha", True),
    ("1.2.3-alpha", "<", "1.2.3-alpha.1", True),
    ("1.2.3+build", "=", "1.2.3", True),
    ("1.9.9", "^", "1.2.3", True),
    ("2.0.0", "^", "1.2.3", False),
    ("1.2.9", "~", "1.2.3", True),
    ("1.3.0", "~", "1.2.3", False),
    ("1.2.3", "<=", "1.2.3", True),
    ("1.2.4", ">=", "1.2.3", True),
    ("1.2.4", ">", "1.2.4", False),
    ("1.2.3.4", "=", "1.2.3", None),
    ("myVersion_1", "=", "1.0.0", None),
    ("01.2.3", "=", "1.2.3", None),
    (" 1.2.3", "=", "1.2.3", None),
    ("\u0661.2.3", "=", "1.2.3", None),
    ("1." + "9" * 300 + ".0", "=", "1.2.3", None),
    ("1.2.3", "=>", "1.2.3", None),
    ("1.2.3", None, "1.2.3", None),
    (True, "=", "1.0.0", None),
    (None, "=", "1.0.0", None),
    (["1.0.0"], "=", "1.0.0", None),
]


@pytest.mark.parametrize(("left", "operator", "right", "expected"), VERSIONS)
def test_sem_ver(left, operator, right, expected):
    assert compare_versions(left, operator, right) is expected
    assert run({"sem_ver": [{"var": "v"}, operator, right]}, {"v": left}) is expected
    assert run({"sem_ver": [left, {"var": "op"}, {"var": "v"}]}, {"v": right, "op": operator}) is expected


def test_sem_ver_takes_exactly_three():
    assert run({"sem_ver": ["1.0.0", "="]}) is None
    assert run({"sem_ver": ["1.0.0", "=", "1.0.0", "x"]}) is None


def test_an_unknown_operator_hurts_only_where_it_is_reached():
    rule = {"if": [{"var": "x"}, {"regex": ["a", "b"]}, "off"]}

    assert run(rule) == "off"
    with pytest.raises(UnknownOperator, match='"regex" is no operator'):
        run(rule, {"x": 1})


def nest(levels):
    rule = "on"
    for _ in range(levels):
        rule = {"!": [rule]}
    return rule


def test_a_rule_may_be_as_deep_as_the_bound_and_no_deeper():
    assert run(nest(MAX_DEPTH)) in (True, False)
    with pytest.raises(TooLarge, match="nested deeper"):
        compile_rule(nest(MAX_DEPTH + 1), "flag", "v2")
    with pytest.raises(TooLarge, match="parts"):
        compile_rule({"or": [0] * MAX_NODES}, "flag", "v2")


def doubling(operator, rounds):
    return {"reduce": [list(range(rounds)), {operator: [{"var": "accumulator"}, {"var": "accumulator"}]}, "x"]}


@pytest.mark.parametrize(
    "rule",
    [
        doubling("cat", 64),
        doubling("merge", 64),
        {"cat": [{"reduce": [list(range(64)), [{"var": "accumulator"}, {"var": "accumulator"}], "x"]}]},
        {"map": [{"var": "many"}, {"map": [{"var": "few"}, {"map": [{"var": "few"}, 1]}]}]},
        {
            "in": [
                "z",
                {"reduce": [list(range(17)), {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "xyxyxy"]},
            ]
        },
    ],
    ids=["text that doubles", "list that doubles", "text of a list that doubles", "loops in loops", "long text"],
)
def test_nothing_grows_without_bound(rule):
    few = list(range(300))

    with pytest.raises(Exceeded):
        run(rule, {"many": [{"few": few}] * 300, "few": few})


def test_numbers_do_not_grow_without_bound():
    rule = {"reduce": [{"var": "many"}, {"*": [{"var": "accumulator"}, 10]}, 1]}

    assert run(rule, {"many": [0] * 2000}) == math.inf


def test_a_chain_of_objects_is_let_go_without_recursion():
    rule = {"reduce": [{"var": "many"}, {"var": ""}, 0]}

    got = run(rule, {"many": [1] * 20_000})

    assert got["current"] == 1


def test_long_texts_cost():
    meter = Meter()
    meter.left = 10
    with pytest.raises(Exceeded):
        number("9" * 100_000, meter)
    nested = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(Exceeded, match="nested"):
        text(nested, Meter())


@pytest.mark.parametrize(
    ("rule", "names", "everything", "flagd"),
    [
        ({"==": [{"var": "email"}, "x"]}, {"email"}, False, False),
        ({"var": "user.plan"}, {"user"}, False, False),
        ({"fractional": [["a"], ["b"]]}, {"targetingKey"}, False, False),
        ({"missing": ["a", "b.c"]}, {"a", "b"}, False, False),
        ({"missing_some": [1, ["a", "b.c"]]}, {"a", "b"}, False, False),
        ({"<": [{"var": "$flagd.timestamp"}, 5]}, set(), False, True),
        ({"var": ""}, set(), True, True),
        ({"var": {"var": "which"}}, {"which"}, True, True),
        ({"missing": {"var": "keys"}}, {"keys"}, True, True),
        ({"map": [{"var": "tags"}, {"var": ""}]}, {"tags"}, False, False),
        ({"map": [{"var": "tags"}, {"var": "name"}]}, {"tags"}, False, False),
        ({"var": ["a", {"var": "b"}]}, {"a", "b"}, False, False),
    ],
)
def test_what_a_rule_reads_is_known(rule, names, everything, flagd):
    reads = compile_rule(rule, "flag", "v2").reads

    assert (reads.names, reads.everything, reads.flagd) == (names, everything, flagd)
