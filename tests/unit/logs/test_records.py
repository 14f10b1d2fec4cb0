"""Records: whatever goes in, valid JSON objects come out, one per line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.logs.masking import Masker
from pillion.logs.records import Shaper, count_objects

FIELDS = {"pod": "shop-1", "namespace": "default", "source": "app"}


def shape(data, line_format="json", fields=FIELDS, rules=()):
    return Shaper(fields, line_format, Masker(rules)).lines(data)


def parsed(records):
    lines = records.body.splitlines()
    assert len(lines) == records.lines
    return [json.loads(line) for line in lines]


def test_fields_are_put_before_those_of_the_line():
    assert shape(b'{"a": 1}\n{"b":[]}\n').body == (
        b'{"pod":"shop-1","namespace":"default","source":"app","a": 1}\n'
        b'{"pod":"shop-1","namespace":"default","source":"app","b":[]}\n'
    )


def test_empty_fields_are_left_out():
    assert shape(b'{"a":1}\n', fields={"pod": "", "source": "x"}).body == b'{"source":"x","a":1}\n'
    assert shape(b'{"a":1}\n', fields={"pod": ""}).body == b'{"a":1}\n'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{}", {}),
        (b"{ }", {}),
        (b'  {"a":1}  ', {"a": 1}),
        (b'{"a":1}\r', {"a": 1}),
        (b"plain text", {"message": "plain text"}),
        (b"[1]", {"message": "[1]"}),
        (b'{"a":1', {"message": '{"a":1'}),
        (b'{"a":1}{"b":2}', {"message": '{"a":1}{"b":2}'}),
        (b'{"a":NaN}', {"message": '{"a":NaN}'}),
        (b'"quoted"', {"message": '"quoted"'}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b"\x00\x01", {"message": "\x00\x01"}),
        (b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", {"message": '{"a":' + "[" * 3000 + "]" * 3000 + "}"}),
    ],
)
def test_every_line_becomes_one_object(line, expected):
    for data in (line + b"\n", b'{"x":1}\n' + line + b"\n", line + b'\n{"x":1}\n'):
        records = parsed(shape(data, fields={}))
        assert expected in records
        assert len(records) == data.count(b"\n")


def test_blank_lines_are_dropped():
    assert parsed(shape(b'\n{"a":1}\n  \n\r\n', fields={})) == [{"a": 1}]
    assert parsed(shape(b"\nx\n\n \n", "text", fields={})) == [{"message": "x"}]


def test_text_lines_are_wrapped():
    assert parsed(shape('say "hi" \\ \tü\r\nnext\n'.encode(), "text")) == [
        FIELDS | {"message": 'say "hi" \\ \tü'},
        FIELDS | {"message": "next"},
    ]


def test_pieces_of_a_long_line_are_marked():
    shaper = Shaper({"source": "app"}, "json", Masker([]))

    assert json.loads(shaper.piece(b'{"a":"xx', "start").body) == {
        "source": "app",
        "split": "start",
        "message": '{"a":"xx',
    }
    assert json.loads(shaper.piece(b'xx"}\n', "end").body) == {"source": "app", "split": "end", "message": 'xx"}'}


json_line = st.dictionaries(
    st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=8), st.just({})), max_size=3
).map(lambda document: json.dumps(document).encode())
tricky = st.sampled_from(
    [b"{", b"}", b"{}", b"{}{}", b'{"a":', b"1}", b'{"a":{}', b',"b":1}', b'{"a":[{}', b"{}]}", b'"', b"", b" ", b"\r"]
)
any_line = st.one_of(json_line, tricky, st.lists(tricky, max_size=3).map(b"".join), st.binary(max_size=20))


@given(st.lists(any_line.map(lambda line: line.replace(b"\n", b"")), max_size=8), st.sampled_from(["json", "text"]))
def test_any_bytes_give_valid_records_one_per_line(lines, line_format):
    """The oracle looks at each line alone; the code looks at the whole chunk first."""
    data = b"".join(line + b"\n" for line in lines)
    kept = [line.removesuffix(b"\r") for line in lines if line.strip()]

    found = parsed(shape(data, line_format, fields={"source": "s"}))

    assert len(found) == len(kept)
    for line, record in zip(kept, found, strict=True):
        text = line.decode("utf-8", "replace")
        try:
            document = json.loads(text.strip(), parse_constant=lambda _word: 1 / 0)
        except (ValueError, ZeroDivisionError):
            document = None
        if line_format == "json" and isinstance(document, dict):
            assert record == {"source": "s"} | document
        else:
            assert record == {"source": "s", "message": text}


@given(st.lists(json_line, max_size=5))
def test_clean_lines_are_counted(lines):
    assert count_objects(b"\n".join(lines)) == len(lines)


@pytest.mark.parametrize("line", [b"x", b"[]", b'{"a":1}{}', b'{"a":"\xff"}', b"{" * 5000])
def test_the_first_bad_line_is_named(line):
    with pytest.raises(ValueError, match="line 3 is no JSON object"):
        count_objects(b'{"a":1}\n\n' + line + b"\n{}\n")
