"""Both generations of `fractional`, against vectors computed with flagd's evaluators and against an independent hash."""

import cbor2
import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.flags.bucketing import MAX_WEIGHT, canonical_cbor, cbor_text, hash_pair, hash_text, hash_value, split
from pillion.flags.coercion import MAX_STEPS, Exceeded, Meter
from pillion.flags.compiler import compile_rule

FLAG = "newCheckout"
WEIGHTS = [["a", 50], ["b", 30], ["c", 20]]


def run(rule, context, generation, flag=FLAG):
    compiled = compile_rule(rule, flag, generation)
    compiled.meter.left = MAX_STEPS
    return compiled.program(context)


SHORTHAND_V2 = [
    ("user-1", 0x47D5B536, 28, "a"),
    ("user-2", 0x97E6559F, 59, "b"),
    ("user-4", 0x2881C8F2, 15, "a"),
    ("user-5", 0xD8154B92, 84, "c"),
    ("ürsula@exämple.de", 0x7850C6BE, 46, "a"),
]
SHORTHAND_V3 = [
    ("user-1", "826b6e6577436865636b6f757466757365722d31", 0x432E1BAF, 26, "a"),
    ("user-2", "826b6e6577436865636b6f757466757365722d32", 0x7B0E0702, 48, "a"),
    ("user-4", "826b6e6577436865636b6f757466757365722d34", 0xE4A47971, 89, "c"),
    ("user-5", "826b6e6577436865636b6f757466757365722d35", 0xF88795F4, 97, "c"),
    ("ürsula@exämple.de", "826b6e6577436865636b6f757473c3bc7273756c61406578c3a46d706c652e6465", 0x178677D9, 9, "a"),
]
EXPLICIT_V3 = [
    ("user-1", "66757365722d31", 0x5554EBE0, 33, "a"),
    (7, "07", 0x6882F382, 40, "a"),
    (7.0, "07", 0x6882F382, 40, "a"),
    (-0.0, "00", 0x514E28B7, 31, "a"),
    (1.5, "f93e00", 0x14ADE9B6, 8, "a"),
    (-3, "22", 0xFC81FCB3, 98, "c"),
    (True, "f5", 0x31D7A60B, 19, "a"),
    ({"bb": 1, "a": 2.0}, "a261610262626201", 0x96A548D7, 58, "b"),
]


@pytest.mark.parametrize(("key", "hashed", "bucket", "variant"), SHORTHAND_V2)
def test_v2_shorthand(key, hashed, bucket, variant):
    assert hash_text(FLAG + key) == hashed
    assert split(WEIGHTS, "v2").bucket(hashed) == bucket
    assert run({"fractional": WEIGHTS}, {"targetingKey": key}, "v2") == variant


@pytest.mark.parametrize(("key", "encoded", "hashed", "bucket", "variant"), SHORTHAND_V3)
def test_v3_shorthand(key, encoded, hashed, bucket, variant):
    assert canonical_cbor([FLAG, key], Meter()).hex() == encoded
    assert hash_value([FLAG, key], Meter()) == hashed
    assert split(WEIGHTS, "v3").bucket(hashed) == bucket
    assert run({"fractional": WEIGHTS}, {"targetingKey": key}, "v3") == variant


def test_v2_explicit():
    assert hash_text("user-1") == 0xF8A28763
    assert run({"fractional": [{"var": "email"}, *WEIGHTS]}, {"email": "user-1"}, "v2") == "c"


@pytest.mark.parametrize(("value", "encoded", "hashed", "bucket", "variant"), EXPLICIT_V3)
def test_v3_explicit(value, encoded, hashed, bucket, variant):
    assert canonical_cbor(value, Meter()).hex() == encoded
    assert hash_value(value, Meter()) == hashed
    assert split(WEIGHTS, "v3").bucket(hashed) == bucket
    assert run({"fractional": [{"var": "x"}, *WEIGHTS]}, {"x": value}, "v3") == variant


KEYED = {"targetingKey": "user-1"}
FIRST = {"fractional": [{"var": "x"}, *WEIGHTS]}

EDGES = [
    pytest.param(FIRST, KEYED, "a", None, id="first operand null: v2 falls back to the shorthand"),
    pytest.param(FIRST, {**KEYED, "x": 7}, None, "a", id="first operand a number"),
    pytest.param(FIRST, {**KEYED, "x": True}, None, "a", id="first operand a boolean"),
    pytest.param(FIRST, {"x": ""}, "a", "a", id="first operand empty: hash 0 in v2, 0x60 in v3"),
    pytest.param(FIRST, {**KEYED, "x": {"a": 1}}, None, "c", id="first operand an object"),
    pytest.param({"fractional": [["a", None], ["b", 0]]}, KEYED, "a", "a", id="weight null is 1"),
    pytest.param({"fractional": [["a", 50.0], ["b", 0]]}, KEYED, "a", "a", id="whole floats are weights"),
    pytest.param({"fractional": [["a", 12.5], ["b", 1]]}, KEYED, None, None, id="weight with a fraction"),
    pytest.param({"fractional": [["a", True], ["b", 1]]}, KEYED, None, None, id="weight boolean"),
    pytest.param({"fractional": [["a", "5"], ["b", 1]]}, KEYED, None, None, id="weight a text"),
    pytest.param({"fractional": [["a", 1, "x"], ["b", 0]]}, KEYED, "a", None, id="entry of three: Go ignores the rest"),
    pytest.param({"fractional": [["a", -5], ["b", 1]]}, KEYED, "b", "b", id="negative weights are 0"),
    pytest.param({"fractional": [["a", 0], ["b", 0]]}, KEYED, None, None, id="sum 0"),
    pytest.param({"fractional": [["a", MAX_WEIGHT], ["b", 1]]}, KEYED, None, None, id="sum over the bound"),
    pytest.param({"fractional": [["a", MAX_WEIGHT + 1]]}, KEYED, None, None, id="weight over the bound"),
    pytest.param({"fractional": [["a", MAX_WEIGHT]]}, KEYED, "a", "a", id="weight at the bound"),
    pytest.param({"fractional": [[True, 1]]}, KEYED, True, True, id="variant a boolean: a condition"),
    pytest.param({"fractional": [[[1], 1]]}, KEYED, None, [1], id="variant a list"),
    pytest.param({"fractional": [["a"], []]}, KEYED, None, None, id="entry empty"),
    pytest.param({"fractional": [["a"], "b"]}, KEYED, None, None, id="entry no list"),
    pytest.param({"fractional": []}, KEYED, None, None, id="no operands"),
    pytest.param({"fractional": "a"}, KEYED, None, None, id="operand no list"),
    pytest.param({"fractional": [["a"]]}, {}, None, None, id="no targeting key"),
    pytest.param({"fractional": [["a"]]}, {"targetingKey": ""}, None, None, id="targeting key empty"),
    pytest.param({"fractional": [["a"]]}, {"targetingKey": None}, None, None, id="targeting key null"),
    pytest.param({"fractional": [["a"]]}, {"targetingKey": 7}, None, None, id="targeting key a number"),
    pytest.param(
        {"fractional": [{"var": "x"}, ["b"]]}, {**KEYED, "x": ["a"]}, "a", "a", id="first operand a list: an entry"
    ),
    pytest.param({"fractional": [["a", {"var": "w"}], ["b", 50]]}, {**KEYED, "w": 0}, "b", "b", id="computed weight"),
    pytest.param({"fractional": [[{"var": "v"}]]}, {**KEYED, "v": "z"}, "z", "z", id="computed variant"),
]


@pytest.mark.parametrize(("rule", "context", "v2", "v3"), EDGES)
def test_edges(rule, context, v2, v3):
    assert (run(rule, context, "v2"), run(rule, context, "v3")) == (v2, v3)


def test_the_shorthand_in_a_loop_sees_what_the_item_brings():
    rule = {"map": [{"var": "people"}, {"fractional": [["a", 50], ["b", 50]]}]}
    people = [{"targetingKey": f"user-{n}"} for n in range(20)]

    got = run(rule, {"people": [*people, 7]}, "v2")

    assert got == [run({"fractional": [["a", 50], ["b", 50]]}, person, "v2", flag="") for person in people] + [None]


weights = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


@given(weights, st.integers(0, 2**32 - 1))
def test_a_bucket_belongs_to_the_entry_whose_share_it_lies_in(given_weights, hashed):
    chosen = split([[index, weight] for index, weight in enumerate(given_weights)], "v2")

    position = hashed * sum(given_weights) // 2**32
    owners = [index for index, weight in enumerate(given_weights) for _ in range(weight)]
    assert chosen.bucket(hashed) == position
    assert chosen.choose(hashed) == owners[position]


def test_a_split_gives_each_entry_its_share():
    got = [run({"fractional": WEIGHTS}, {"targetingKey": f"u{n}"}, "v2") for n in range(20_000)]

    shares = {name: got.count(name) / len(got) for name in "abc"}
    assert shares == {name: pytest.approx(share, abs=0.015) for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2))}


values = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.dictionaries(st.text(max_size=4), inner | st.none() | st.lists(inner, max_size=2), max_size=3),
    max_leaves=6,
)


def reference(value):
    if isinstance(value, dict):
        return {name: reference(item) for name, item in value.items()}
    if isinstance(value, list):
        return [reference(item) for item in value]
    if isinstance(value, float) and value == value // 1 and -(2**63) <= value <= 2**64 - 1:
        return int(value)
    return value


@given(values)
def test_v3_hashes_canonical_cbor(value):
    assert hash_value(value, Meter()) == mmh3.hash(cbor2.dumps(reference(value), canonical=True), signed=False)


@given(st.text() | st.integers(0, 70_000).map("x".__mul__) | st.integers(0, 300).map("ö".__mul__))
def test_texts_are_encoded_as_the_encoder_encodes_them(value):
    assert cbor_text(value) == cbor2.dumps(value, canonical=True)
    assert hash_pair(cbor_text(FLAG), value) == mmh3.hash(cbor2.dumps([FLAG, value], canonical=True), signed=False)


def test_what_cannot_be_bucketed_by_has_no_hash():
    assert hash_value(None, Meter()) is None
    assert hash_value("\ud800", Meter()) is None
    assert hash_value({"a": "\ud800"}, Meter()) is None
    assert hash_pair(b"\x60", "\ud800") is None
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(Exceeded, match="nested deeper"):
        hash_value(deep, Meter())
