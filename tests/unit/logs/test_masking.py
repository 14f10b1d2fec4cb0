"""Masking: no value of the rules' corpus survives, JSON stays JSON, and nothing else changes."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.logs.masking import Masker
from pillion.logs.patterns import BUILT_IN, MaskRule, card_spans, compile_pattern, is_anchored, is_plain, luhn
from pillion.logs.records import Shaper

EMAILS = [
    "jane@example.com",
    "o'brien+shop@mail.example.co.uk",
    "müller@exämple.de",
    "user%40example.com",
    "a.b_c%d@sub-1.example.museum",
    "JANE@EXAMPLE.COM",
    "x@xn--80ak6aa92e.xn--p1ai",
]
CARDS = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "340000000000009",
    "3400 000000 00009",
    "6011000000000004",
    "4222222222222",
    "2223003122003222",
]
CUSTOM = [
    MaskRule(name="internal-id", pattern=r"ID-\d{8}"),
    MaskRule(name="token", pattern=r"token=[^&\"\\]+"),
    MaskRule(name="starts", pattern=r"^begin\w+"),
    MaskRule(name="ends", pattern=r"\w+finis$"),
    MaskRule(name="two", pattern=r"left\s+\w+"),
    MaskRule(name="any", pattern=r"<.*>"),
]
RULES = [BUILT_IN["email"], BUILT_IN["creditCard"], *CUSTOM]


def check_digit(digits):
    """Luhn by the book, independent of the code under test."""
    doubled = [int(d) * 2 if i % 2 == 0 else int(d) for i, d in enumerate(reversed(digits))]
    return str(-sum(n // 10 + n % 10 for n in doubled) % 10)


cards = st.text("0123456789", min_size=12, max_size=17).flatmap(
    lambda body: st.sampled_from("23456").map(lambda first: first + body + check_digit(first + body))
)
grouped = st.tuples(cards, st.sampled_from("- "), st.integers(1, 6)).map(
    lambda parts: parts[1].join(parts[0][i : i + parts[2]] for i in range(0, len(parts[0]), parts[2]))
)
values = st.one_of(st.sampled_from(EMAILS + CARDS), cards, grouped)
filler = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="0123456789"), max_size=12)


@given(filler, values, filler)
def test_no_value_survives_in_text(before, value, after):
    masked = Masker(RULES[:2]).text(f"{before} {value} {after}".encode()).decode()

    assert value not in masked
    assert re.search(r"\d{6}|@\w", masked.replace(before, "").replace(after, "")) is None


def escaped(text, choices):
    """Write *text* as a JSON string, escaping characters as *choices* says where JSON leaves a choice."""
    out = []
    for index, char in enumerate(text):
        if choices[index % len(choices)] and ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(json.dumps(char, ensure_ascii=False)[1:-1])
    return '"' + "".join(out) + '"'


@given(filler, values, filler, st.lists(st.booleans(), min_size=1, max_size=7))
def test_no_value_survives_in_json_however_it_is_escaped(before, value, after, choices):
    line = '{"a":' + escaped(f"{before} {value} {after}", choices) + "}\n"

    body = Shaper({}, "json", Masker(RULES[:2])).lines(line.encode()).body

    found = json.loads(body)["a"]
    assert value not in found
    assert found.startswith(before + " ")


@given(cards.filter(lambda c: not c.startswith("0")))
def test_a_number_that_is_a_card_becomes_a_string(card):
    body = Shaper({"pod": "p"}, "json", Masker(RULES)).lines(f'{{"card":{card},"n":1}}\n'.encode()).body

    assert json.loads(body) == {"pod": "p", "card": "[creditCard]", "n": 1}


corpus = st.sampled_from(
    [
        *EMAILS[:2],
        "ID-12345678",
        "ID-1234567",
        "token=abc",
        "token=a&b",
        "beginning",
        "the beginning",
        "finis",
        "trifinis",
        "left over",
        "left\nover",
        "<a><b>",
        "<a\nb>",
        'say "hi"',
        "back\\slash",
        "tab\there",
        ",",
        ":",
        "{}",
        "",
    ]
)
leaf = st.one_of(
    st.lists(corpus, max_size=4).map(" ".join),
    st.lists(corpus, max_size=3).map("".join),
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.none(),
)
documents = st.dictionaries(
    st.one_of(st.sampled_from("abc"), corpus),
    st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ORACLE = [
    (re.compile(r"[A-Za-z0-9.!#$%'*+^_~-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]+"), "[email]"),
    *((re.compile(rule.pattern, re.ASCII), f"[{rule.name}]") for rule in CUSTOM),
]


def masked_by_the_book(value):
    """Apply the rules to every string and number of a decoded document, with the standard library's engine, line by line."""
    if isinstance(value, dict):
        return {masked_by_the_book(k): masked_by_the_book(v) for k, v in value.items()}
    if isinstance(value, list):
        return [masked_by_the_book(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    lines = str(value).split("\n")
    for pattern, replacement in ORACLE:
        lines = [pattern.sub(replacement, line) for line in lines]
    text = "\n".join(lines)
    return value if text == str(value) else text


@given(st.lists(documents, min_size=1, max_size=5), st.booleans(), st.sampled_from([RULES, RULES[:3], RULES[:5]]))
def test_json_is_masked_as_if_each_document_had_been_taken_apart(found, ascii_only, rules):
    lines = "".join(json.dumps(document, ensure_ascii=ascii_only) + "\n" for document in found)
    patterns = {f"[{rule.name}]" for rule in rules}
    everything = ORACLE[:]
    ORACLE[:] = [entry for entry in everything if entry[1] in patterns]
    try:
        expected = [masked_by_the_book(document) for document in found]
    finally:
        ORACLE[:] = everything

    body = Shaper({}, "json", Masker(rules)).lines(lines.encode()).body

    assert [json.loads(line) for line in body.splitlines()] == expected


@given(documents, st.integers(0, 3))
def test_what_does_not_match_keeps_its_bytes(document, indent):
    line = json.dumps(document, separators=((",", ":"), (", ", ": "), (" , ", ":"), (",", " : "))[indent]).encode()

    assert Masker([MaskRule(name="never", pattern="zzz[0-9]zzz")]).exact(line) == line


def test_hits_are_counted():
    masker = Masker(RULES)
    masker.text(b"a@example.com b@example.com ID-12345678 4111 1111 1111 1111")

    assert masker.hits == {"email": 2, "creditCard": 1} | {rule.name: 0 for rule in CUSTOM} | {"internal-id": 1}


@pytest.mark.parametrize(
    ("run", "spans"),
    [
        (b"4111111111111111", [b"4111111111111111"]),
        (b"4111111111111112", []),
        (b"1111111111111117", []),
        (b"12 4111 1111 1111 1111", [b"4111 1111 1111 1111"]),
        (b"4111-1111-1111-1111 12", [b"4111-1111-1111-1111"]),
        (b"94111111111111111", []),
        (b"411111111111111111111111", []),
        (b"4111 1111 1111 1111 5500 0000 0000 0004", [b"4111 1111 1111 1111", b"5500 0000 0000 0004"]),
    ],
)
def test_cards_inside_runs_of_digits(run, spans):
    assert [run[low:high] for low, high in card_spans(run)] == spans


@pytest.mark.parametrize(
    "text", ["trace a4111111111111111f", "id_4111111111111111", "at 1777636800000000000", "2026-05-01 12:00:00"]
)
def test_identifiers_and_times_are_no_cards(text):
    assert Masker(RULES[:2]).text(text.encode()) == text.encode()


@pytest.mark.parametrize("text", ["2222 2222 4111 1111 1111 1111", "card:4111111111111111;", "7 4111111111111111 8"])
def test_cards_are_found_among_other_digits(text):
    assert b"[creditCard]" in Masker(RULES[:2]).text(text.encode())


@given(st.text("0123456789", min_size=1, max_size=20))
def test_luhn_agrees_with_the_book(body):
    assert luhn((body + check_digit(body)).encode())
    assert not luhn((body + str((int(check_digit(body)) + 1) % 10)).encode())


@given(st.binary(max_size=200), st.sampled_from(EMAILS + CARDS), st.integers(0, 60))
def test_a_forced_cut_tears_neither_a_value_nor_a_character(noise, value, offset):
    data = b"." * 400 + b" " + value.encode() + b" " + noise.decode(errors="replace").encode() + b"." * 900
    cut = 390 + offset

    found = Masker(RULES[:2]).safe_cut(data, cut)

    assert 0 < found <= cut
    data[:found].decode()
    assert value.encode() not in Masker(RULES[:2]).text(data[:found]) + Masker(RULES[:2]).text(data[found:])


@pytest.mark.parametrize(
    "pattern", ["(", "a{2000}", "(?=x)", r"(a)\1", "", "a*", "^$", r"\Cx", "x" * 600, "\ud800", "(a{900}){900}"]
)
def test_patterns_that_cannot_be_run_are_refused(pattern):
    with pytest.raises(ValueError):
        compile_pattern(pattern)


def test_a_catastrophic_pattern_is_harmless():
    pattern = compile_pattern(r"(a+)+b")

    assert pattern.search(b"a" * 200_000) is None


@pytest.mark.parametrize(
    ("pattern", "plain", "anchored"),
    [
        (r"ID-\d{8}", True, False),
        (r"[A-Z]{2}\d+(?:-\d+)?", True, False),
        (r"a.b", False, False),
        (r"[^a]", False, True),
        (r"\s", False, False),
        (r"a b", False, False),
        (r"^x", False, True),
        (r"\Bx", False, True),
        (r'"', False, False),
    ],
)
def test_only_patterns_without_quotes_and_spaces_run_over_raw_json(pattern, plain, anchored):
    rule = MaskRule(name="r", pattern=pattern)

    assert (is_plain(rule), is_anchored(rule)) == (plain, anchored)
