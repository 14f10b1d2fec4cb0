"""Chunks and lines: whatever is done to a chunk as a whole gives what doing it line by line gives, counts included."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillion.logs.masking import Masker
from pillion.logs.patterns import BUILT_IN, MaskRule
from pillion.logs.records import Shaper

FIELDS = {"pod": "shop-1", "source": "app"}
WORDS = MaskRule(name="words", pattern=r"secret\s+\w+")
ORDER = MaskRule(name="order", pattern=r"\bORD-\d{4}\b")
SETS = [
    (),
    (BUILT_IN["email"],),
    (BUILT_IN["email"], BUILT_IN["creditCard"]),
    (BUILT_IN["creditCard"], ORDER),
    (BUILT_IN["email"], ORDER, WORDS),
    (MaskRule(name="head", pattern="^x"), BUILT_IN["email"]),
]

values = st.sampled_from(
    [
        "ada@example.com",
        "ada%40example.com",
        "@",
        "100 %",
        "4111111111111111",
        "4111 1111 1111 1111",
        "n4111111111111111",
        "ORD-1234",
        "xORD-1234",
        "secret tea",
        "secret\ttea",
        "\nada@example.com",
        "\n4111111111111111",
        "\\nada@example.com",
        "\\",
        '"',
        "a/b@example.com",
        "a/4111111111111111",
        "\u00e9t\u00e9@example.com",
        "\x01",
        "x",
        "",
    ]
)
texts = st.lists(values, max_size=3).flatmap(
    lambda some: st.sampled_from(["", " ", "/"]).map(lambda gap: gap.join(some))
)


def written(text, style):
    """Write a JSON string as different encoders do."""
    quoted = json.dumps(text, ensure_ascii=style != "utf-8")
    if style == "slashes":
        return quoted.replace("/", "\\/")
    if style == "hidden" and text:
        return '"' + "".join(f"\\u{ord(char):04X}" for char in text) + '"'
    return quoted


strings = st.builds(written, texts, st.sampled_from(["ascii", "utf-8", "slashes", "hidden"]))
members = st.one_of(strings, st.sampled_from(["1", "-2.5e3", "4111111111111111", "{}", "[]", "null", '{"a":[{}]}']))
documents = st.lists(members, max_size=3).map(
    lambda some: "{" + ",".join(f'"k{i}":{m}' for i, m in enumerate(some)) + "}"
)
broken = st.sampled_from(
    ["", " ", "{", "}", "{}{}", '{"a":', '1},{"b":2}', '{"a":"\\"}', "{\\}", '{"a":1} ', "\r", '{"a":1}\r', "[{}]"]
)
noise = st.one_of(broken, texts.map(lambda text: text.replace("\n", " ")), st.text('{}\\"@/u04 ', max_size=12))
lines = st.one_of(documents, documents, documents, noise)


@settings(max_examples=200)
@given(
    st.lists(lines, max_size=24),
    st.sampled_from(SETS),
    st.sampled_from(["json", "text"]),
    st.sampled_from([FIELDS, {}]),
)
def test_a_chunk_becomes_what_its_lines_become(found, rules, line_format, fields):
    data = [line.encode() + b"\n" for line in found]
    whole, single = Masker(rules), Masker(rules)

    chunk = Shaper(fields, line_format, whole).lines(b"".join(data))
    shaper = Shaper(fields, line_format, single)
    parts = [shaper.lines(line) for line in data]

    assert chunk.body == b"".join(part.body for part in parts)
    assert chunk.lines == sum(part.lines for part in parts)
    assert whole.hits == single.hits


@settings(max_examples=200)
@given(st.lists(documents, min_size=1, max_size=12), st.sampled_from(SETS))
def test_masking_many_lines_is_taking_each_of_them_apart(found, rules):
    """The exact way undoes escapes and looks at each string by itself; the fast way must hide as much, and change nothing else."""
    whole, single = Masker(rules), Masker(rules)
    chunk = Shaper({}, "json", whole).lines("".join(line + "\n" for line in found).encode()).body

    assert chunk == b"".join(single.exact(line.encode()) + b"\n" for line in found)
    assert whole.hits == single.hits


@pytest.mark.parametrize("dirt", ["", "Traceback (most recent call last):", '{"n":', '{"card":4111111111111111}'])
def test_one_odd_line_does_not_send_the_others_down_the_slow_road(dirt, monkeypatch):
    slow = []
    line = Shaper._line
    monkeypatch.setattr(Shaper, "_line", lambda self, data: (slow.append(data), line(self, data))[1])
    found = [b'{"n":%d}' % number for number in range(1000)]
    found[617] = dirt.encode()

    records = Shaper(FIELDS, "json", Masker(SETS[2])).lines(b"\n".join(found) + b"\n")

    assert records.lines == 1000 - (not dirt)
    assert len(slow) <= 8


@pytest.mark.parametrize("density", [1, 10, 1000])
def test_signs_are_looked_for_by_line_or_all_at_once_alike(density):
    found = [b"user%d%s" % (n, b"@example.com" if n % density == 0 else b" nobody") for n in range(2000)]
    masker = Masker([BUILT_IN["email"]])

    masked = masker.text(b"\n".join(found)).split(b"\n")

    assert masked == [b"[email]" if n % density == 0 else b"user%d nobody" % n for n in range(2000)]
    assert masker.hits == {"email": 2000 // density}
