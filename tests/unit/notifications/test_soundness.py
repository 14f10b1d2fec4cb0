"""What the check of a template promises: a proven template renders with all data that its schema admits."""

import random
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from tests.support.notifications.strategies import RICH, SLOPPY, candidates, corner, object_schemas, paths, values

from pillion.kinds.violations import FieldPath
from pillion.notifications.analysis import analyse
from pillion.notifications.content import RenderError, Source
from pillion.notifications.engine import environment, render, render_part
from pillion.notifications.proof import prove
from pillion.notifications.samples import SAMPLES, sample
from pillion.notifications.sandbox import Forbidden
from pillion.notifications.validation import validate
from pillion.notifications.variables import parse

RELAXED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def is_proven(template, variables):
    try:
        tree = environment(html=True).parse_checked(template)
    except Forbidden:
        return False
    return not analyse(tree, variables, html=True).findings


@pytest.mark.slow
@RELAXED
@given(st.data())
def test_a_proven_template_renders_with_all_data_that_its_schema_admits(data):
    schema = data.draw(object_schemas())
    variables = parse(schema)
    proven = [one for one in data.draw(candidates(schema)) if is_proven(one, variables)]
    assume(proven)
    for _ in range(4):
        drawn = data.draw(values(schema))
        for template in proven:
            assert render_part("html", template, "de-AT", drawn) is not None


def test_what_hasty_writers_write_is_refused_or_renders_at_every_corner():
    """Every hasty statement over every pair of fields; at least some of both verdicts, and no proof that data refutes."""
    variables = parse(RICH)
    chance = random.Random(7)
    corners = [corner(RICH, chance) for _ in range(30)]
    names = [path for path, _ in paths(RICH)]
    proven = refused = 0
    for statement in SLOPPY:
        for index, name in enumerate(names):
            for other in {names[(index * 7 + 3) % len(names)], "so", "n"} if "{1}" in statement else {name}:
                template = statement.format(name, other)
                if not is_proven(template, variables):
                    refused += 1
                    continue
                proven += 1
                for data in corners:
                    try:
                        render_part("html", template, "en", data)
                    except RenderError as error:
                        pytest.fail(f"{template} was proven, but {data} gives {error}")
    assert proven > 200
    assert refused > 400


@RELAXED
@given(st.data())
def test_valid_data_as_the_tests_draw_it_is_valid_for_the_jsonschema_library_too(data):
    """The strategy of the other tests is judged by an independent oracle."""
    schema = data.draw(object_schemas())

    Draft202012Validator(schema).validate(data.draw(values(schema)))


@RELAXED
@given(st.data())
def test_validation_agrees_with_the_jsonschema_library(data):
    """Data of one schema is judged by another: fields match in part, so both verdicts come up."""
    schema, other = data.draw(object_schemas(1)), data.draw(object_schemas(1))
    value = data.draw(values(data.draw(st.sampled_from([schema, other]))))
    checker = FormatChecker(formats=["date", "uuid"])
    expected = Draft202012Validator(_plain(schema), format_checker=checker).is_valid(value)

    assert (validate(value, parse(_plain(schema))) == []) == expected


def _plain(schema):
    """Leave out the formats for which the library has no checker without further packages."""
    if isinstance(schema, dict):
        return {k: _plain(v) for k, v in schema.items() if not (k == "format" and v in ("uri", "email", "date-time"))}
    return schema


@RELAXED
@given(object_schemas())
def test_samples_are_valid_data_and_the_same_every_time(schema):
    for which in SAMPLES:
        made = sample(parse(schema), which)

        assert made == sample(parse(schema), which)
        assert validate(made, parse(schema)) == []
        Draft202012Validator(schema).validate(made)


class _Structure(HTMLParser):
    """What a browser would make of a document, its texts and attribute values left out."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_endtag(self, tag):
        self.found.append("/" + tag)

    def handle_comment(self, data):
        self.found.append(("comment", data))

    def handle_decl(self, decl):
        self.found.append(("declaration", decl))

    def handle_pi(self, data):
        self.found.append(("instruction", data))


def structure(html):
    reader = _Structure()
    reader.feed(html)
    reader.close()
    return reader.found


PAGE = """<!DOCTYPE html><html><body class="{{ a }}"><!-- fixed --><h1 title='{{ b }}'>{{ a }}</h1>
<a href="https://shop.example/{{ a | urlencode }}?q={{ b }}">{{ b | upper }}</a><a href="{{ link }}">{{ a ~ b }}</a>
{% for one in list %}<li data-x="{{ one }}" {% if loop.first %}class="first"{% endif %}>{{ one | nl2br }}</li>{% endfor %}
<p>{{ a | default("x") | truncate(7) }}{{ b | replace("a", "<i>") }}{{ list | join("<br>") }}</p></body></html>"""
PAGE_SCHEMA = {
    "type": "object",
    "required": ["a", "b", "link", "list"],
    "properties": {
        "a": {"type": "string"},
        "b": {"type": "string"},
        "link": {"type": "string", "format": "uri"},
        "list": {"type": "array", "maxItems": 5, "items": {"type": "string"}},
    },
}
HOSTILE = st.text(max_size=40) | st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            '"',
            "'",
            "&",
            "=",
            " ",
            "onload",
            "script",
            "/",
            "-->",
            "javascript:",
            "\n",
            "`",
            "{{",
            "&lt;",
            "&#60",
            "x",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_value_changes_the_structure_of_the_html(a, b, item):
    """Oracle: the standard library's HTML parser sees the same tags, attributes and comments as with harmless values."""
    assert list(prove({"en": Source(subject="s", html=PAGE)}, parse(PAGE_SCHEMA), FieldPath("c"))) == []
    link = "https://shop.example/?a=1&b='2'"
    breaks = item.replace("\r\n", "\n").replace("\r", "\n").count("\n")

    rendered = render_part("html", PAGE, "en", {"a": a, "b": b, "link": link, "list": [item]})

    expected = render_part("html", PAGE, "en", {"a": "x", "b": "x", "link": link, "list": ["\n" * breaks]})
    assert structure(rendered) == structure(expected)


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_a_subject_is_one_line_whatever_the_data(value):
    source = Source(subject="Hello {{ name }}\r\n", text="x")

    subject = render(source, "en", {"name": value}).subject

    assert len(subject.splitlines()) <= 1
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029" for c in subject)
