"""Rendering: what templates can say, what they cannot, and the bounds that hold even for a template that nobody checked."""

import pytest

from pillion.notifications.budget import MAX_PIECE, MAX_TEXT
from pillion.notifications.content import RenderError, Source
from pillion.notifications.engine import MAX_SUBJECT, render, render_part

DATA = {
    "order": {
        "id": "A-1",
        "items": [{"name": "Tea", "price": 3}, {"name": "Cup", "price": 2.5}],
        "keys": "k",
        "total": 5.5,
    },
    "name": "Ada <b>",
    "day": "2026-01-31",
    "moment": "2026-03-29T00:30:00Z",
    "none": None,
}


def text(template, locale="en", **more):
    return render_part("text", template, locale, {**DATA, **more})


def test_a_field_wins_over_a_method_of_the_same_name():
    assert text("{{ order.keys }} {% for i in order.items %}{{ i.name }};{% endfor %}") == "k Tea;Cup;"


@pytest.mark.parametrize(
    ("template", "locale", "expected"),
    [
        ("{{ 1234.5 | number }}", "en", "1,234.5"),
        ("{{ 1234.5 | number(2) }}", "de", "1.234,50"),
        ("{{ 1234567 | number(0) }}", "en-IN", "12,34,567"),
        ("{{ 1234.5 | currency('EUR') }}", "de-DE", "1.234,50\xa0€"),
        ("{{ 1234.5 | currency('EUR') }}", "de-AT", "€\xa01.234,50"),
        ("{{ 1234.6 | currency('JPY') }}", "ja", "￥1,235"),
        ("{{ 0.25 | percent }}", "de", "25\xa0%"),
        ("{{ day | date }}", "en", "Jan 31, 2026"),
        ("{{ day | date('long') }}", "de", "31. Januar 2026"),
        ("{{ moment | datetime('short', 'Europe/Berlin') }}", "de", "29.03.26, 01:30"),
        ("{{ '2026-03-29T01:30:00Z' | datetime('short', 'Europe/Berlin') }}", "de", "29.03.26, 03:30"),
        ("{{ '0001-01-01T00:00:00+14:00' | datetime }}", "de", "0001-01-01T00:00:00+14:00"),
        ("{{ 1.5 | currency('EUR') }}", "qq-ZZ", "€1.50"),
        ("{{ 10.0 }} {{ 0.1 + 0.2 }} {{ none }} {{ true }}", "en", "10 0.30000000000000004  true"),
        ("{{ [0.1, 0.2, 0.3] | sum }} {{ [1, 2] | sum }}", "en", "0.6 3"),
        (
            "{{ 'a b' | title }} {{ 'AbC' | lower }} {{ 'abc' | truncate(2) }} {{ 'a&b' | urlencode }}",
            "en",
            "A B abc a… a%26b",
        ),
        ("{{ [3, 1, 2] | sort | join('-') }} {{ [1, 2] | reverse | first }}", "en", "1-2-3 2"),
        ("{{ order.items | sort(attribute='name') | map(attribute='name') | join }}", "en", "CupTea"),
        ("{{ 2.5 | round }} {{ 2.567 | round(2) }} {{ -3.7 | int }} {{ -3 | abs }}", "en", "2 2.57 -3 3"),
    ],
)
def test_filters_write_what_the_locale_asks_for(template, locale, expected):
    assert text(template, locale) == expected


def test_values_are_escaped_in_html_and_nowhere_else():
    source = Source(subject="{{ name }}", text="{{ name }}", html="<i>{{ name }}</i>{{ name | nl2br }}")

    rendered = render(source, "en", DATA)

    assert (rendered.subject, rendered.text, rendered.html) == (
        "Ada <b>", "Ada <b>", "<i>Ada &lt;b&gt;</i>Ada &lt;b&gt;"
    )  # fmt: skip


def test_line_breaks_become_br_after_escaping():
    assert render_part("html", "{{ t | nl2br }}", "en", {"t": "a<\r\nb"}) == "a&lt;<br>\nb"


def test_a_missing_text_part_is_made_from_the_html_part():
    assert render(Source(subject="s", html="<p>Hi <b>{{ name }}</b></p>"), "en", DATA).text == "Hi Ada <b>"


def test_a_subject_is_one_line_and_not_longer_than_its_bound():
    source = Source(subject="Order for\n {{ name }}", text="x")

    assert (
        render(source, "en", {"name": "Ada\r\nBcc: eve@example.com\x00\u2028"}).subject
        == "Order for Ada Bcc: eve@example.com"
    )
    assert len(render(source, "en", {"name": "x" * 999}).subject) == MAX_SUBJECT


def test_control_characters_do_not_reach_the_body():
    assert render(Source(subject="s", text="{{ t }}"), "en", {"t": "a\x00\x07\tb\r\nc\rd"}).text == "a\tb\nc\nd"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ order.totl }}", "line 1: the data has no 'totl'"),
        ("\n{{ missing }}", "line 2: 'missing' is undefined"),
        ("{{ missing.deeper }}", "'missing' is undefined"),
        ("{{ 1 / 0 }}", "divides by zero"),
        ("{{ order }}", "an object has no text"),
        ("{{ order.items | upper }}", "a list has no text"),
        ("{{ 'x' * 99 }}", "computes with numbers"),
        ("{{ '%99999999d' % 1 }}", "computes with numbers"),
        ("{% for c in name %}{% endfor %}", "only a list can be looped over"),
    ],
)
def test_what_cannot_be_rendered_names_part_line_and_reason(template, reason):
    with pytest.raises(RenderError) as caught:
        text(template)

    assert reason in str(caught.value)
    assert str(caught.value).startswith("text")


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ name['__class__'] }}",
    "{{ order.items.__class__.__mro__ }}",
    "{{ range.__globals__ }}",
    "{{ loop.__init__ }}{% for i in order.items %}{{ loop.__init__ }}{% endfor %}",
    "{% for i in order.items %}{{ loop._iterable }}{% endfor %}",
    "{{ self._TemplateReference__context }}",
    "{{ order.get }}",
    "{{ name.format }}",
    "{{ (order.items | map(attribute='__class__')) | join }}",
    "{{ order | items | map(attribute='__class__') | join }}",
    "{{ 1.5.hex }}",
    "{{ lipsum }}{{ cycler }}{{ namespace }}{{ joiner }}{{ dict }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_no_attribute_of_a_python_object_can_be_reached(template):
    with pytest.raises(RenderError):
        text(template)


BOMBS = {
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}": "loop steps",
    "{% for a in range(99999999) %}{% endfor %}": "range is longer",
    "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}": "more than 131072 characters",
    "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a + a %}" * 40 + "{{ a }}": "more than 131072 characters",
    "{% set a = 9999999999 %}" + "{% set a = a * a %}" * 40 + "{{ a }}": "bits",
    "{% for a in range(9000) %}{{ big }}{% endfor %}": "longer than",
    "{{ big | replace('x', big) }}": "more than 131072 characters",
    "{% set l = range(9000) | sort %}" + "{{ l | sum }}" * 3: "loop steps",
    "{% for a in range(9000) %}{% set y = big | upper %}{% endfor %}": "more than 8000000 characters",
    "{% for a in range(9000) %}{% set y = big ~ a %}{% endfor %}": "more than 8000000 characters",
    "{% for a in range(9000) %}{% set y = (big | length) %}{% endfor %}": "more than 8000000 characters",
}


@pytest.mark.parametrize("template", BOMBS, ids=lambda template: template[:40])
def test_a_bomb_is_cut_by_its_bound(template):
    with pytest.raises(RenderError, match=BOMBS[template]):
        text(template, big="x" * 1000)


def test_output_up_to_the_bound_is_rendered():
    assert len(text("{{ t }}", t="x" * MAX_TEXT)) == MAX_TEXT
    with pytest.raises(RenderError, match="longer than"):
        text("{{ t }}y", t="x" * MAX_TEXT)


def test_a_text_on_the_way_up_to_its_bound_is_made():
    assert len(text("{{ t | lower }}", t="X" * MAX_PIECE)) == MAX_PIECE
    with pytest.raises(RenderError, match="on the way"):
        text("{{ t | lower }}", t="X" * (MAX_PIECE + 1))


def test_blocks_leave_no_empty_lines():
    assert text("a\n{% if true %}\n  b\n{% endif %}\nc") == "a\n  b\nc"
