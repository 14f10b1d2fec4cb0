"""Every mistake in a NotificationTemplate is refused with its path, its line and the fix."""

import copy

import pytest
import yaml

from pillion.kinds.crd import crd_yaml
from pillion.kinds.resource import check_document
from pillion.notifications.filters import FILTERS
from pillion.notifications.kind import BLOCK, TEMPLATE
from pillion.notifications.shapes import SIGNATURES

KINDS = {TEMPLATE.kind: TEMPLATE}
MANIFEST = yaml.safe_load("""
apiVersion: pillion.dev/v1alpha1
kind: NotificationTemplate
metadata: {name: order-confirmation}
spec:
  variables:
    type: object
    required: [order, customer]
    properties:
      customer:
        type: object
        required: [name]
        properties:
          name: {type: string, maxLength: 100}
          nick: {type: [string, "null"]}
          site: {type: string, format: uri}
      order:
        type: object
        required: [id, total, items, placed]
        properties:
          id: {type: string}
          total: {type: number}
          placed: {type: string, format: date-time}
          note: {type: string}
          count: {type: integer}
          items:
            type: array
            maxItems: 100
            items:
              type: object
              required: [name, price]
              properties: {name: {type: string}, price: {type: number}}
      labels: {type: object, additionalProperties: {type: string}}
  defaultLocale: en
  channels:
    email:
      content:
        en:
          subject: "Order {{ order.id }} confirmed"
          text: |
            Hi {{ customer.name }},
            {% for item in order.items %}
            - {{ item.name }}: {{ item.price | currency("EUR") }}
            {% endfor %}
          html: "<h1>Thanks, {{ customer.name }}</h1>"
        de: {subject: "Bestellung {{ order.id }}", html: "<p>Danke, {{ customer.name }}</p>"}
""")


def manifest(**changes):
    """Give the good manifest with fields below `spec` replaced; a path is written with double underscores."""
    document = copy.deepcopy(MANIFEST)
    for path, value in changes.items():
        *steps, last = path.split("__")
        node = document["spec"]
        for step in steps:
            node = node[step]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return document


def messages(document):
    return [violation.message for violation in check_document(document, KINDS).violations]


def html(text):
    return messages(manifest(channels__email__content__en__html=text))


def test_the_good_manifest_is_accepted():
    checked = check_document(MANIFEST, KINDS)

    assert checked.violations == ()
    assert checked.resource is not None


GOOD = [
    "{{ customer.name | upper }} {{ order.total | number(2) }} {{ order.placed | datetime('long', 'Europe/Berlin') }}",
    "{% for i in order.items %}{{ loop.index }}. {{ i.name }} {{ i['price'] * 2 }}{% else %}none{% endfor %}",
    "{{ order.note | default('-') }} {{ customer.nick | default('Ada', true) }}",
    "{% if order.note is defined and order.note %}{{ order.note }}{% endif %}",
    "{% if customer.nick is defined and customer.nick is not none %}{{ customer.nick }}{% endif %}",
    "{% if order.note is undefined %}no{% else %}{{ order.note }}{% endif %}",
    "{% if not (order.note is undefined or customer.nick is undefined) %}{{ order.note }}{{ customer.nick or 'x' }}{% endif %}",
    "{% if labels is defined %}{% for name, value in labels | items %}{{ name }}={{ value }} {% endfor %}{% endif %}",
    "{{ order.items | map(attribute='name') | join(', ') }} {{ order.items | sum(attribute='price') | currency('EUR') }}",
    "{% for i in order['items'][:3] %}{{ i.name[:10] }}{% endfor %}",
    "{% if order.items[0] is defined %}{{ order.items[0].name }}{% endif %}",
    "{% set half = order.total / 2 %}{{ half | round(2) }}{% with a = order.id ~ '!' %}{{ a }}{% endwith %}",
    "<a href=\"https://shop.example/{{ order.id | urlencode }}\" title='{{ customer.name }}'>x</a>",
    '{% if customer.site is defined %}<a href="{{ customer.site }}">site</a>{% endif %}',
    '<td style="width: {{ order.total }}%" {% if order.total > 3 %}class="big"{% endif %}>{{ customer.name | nl2br }}</td>',
    "<!-- fixed --><style>p { color: red }</style><br/><img src='https://x/y.png' alt=\"{{ order.id }}\">",
    "{% for n in range(3) %}*{% endfor %}{{ 'x' if order.id == 'A' and order.total >= 3 else 'y' }}",
    "{% if order.count is defined and order.count is even %}even{% elif order.total in [1, 2] %}few{% endif %}",
    "{# a comment #}{% raw %}{{ this is text }}{% endraw %}",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_holds_for_all_data_is_accepted(text):
    assert html(text) == []


BAD = {
    # names
    "{{ order.totl }}": 'line 1: "order.totl" is not declared in spec.variables; did you mean "total"?',
    "a\nb\n{{ ordr.id }}": 'line 3: "ordr" is not declared in spec.variables; did you mean "order"?',
    "{{ loop.index }}": '"loop" is not declared',
    "{% for i in order.items %}{{ loop.idx }}{% endfor %}": 'did you mean "index"?',
    "{% for i in order.items %}{{ i.nam }}{% endfor %}": '"i.nam" is not declared in spec.variables; did you mean "name"?',
    "{% for i in order.items %}{% endfor %}{{ i.name }}": '"i" is not declared',
    "{{ self }}{{ cycler }}": '"self" is not declared',
    # what may be absent or null
    "{{ order.note }}": '"order.note" may be absent; guard it with {% if order.note is defined %}',
    "{% if order.note %}x{% endif %}": "may be absent",
    "{% if order.note is defined %}{% endif %}{{ order.note }}": "may be absent",
    "{% if order.note is defined or order.total > 1 %}{{ order.note }}{% endif %}": "may be absent",
    "{% if customer.nick is defined %}{{ customer.nick }}{% endif %}": '"customer.nick" may be null',
    "{{ labels.foo }}": '"labels" may be absent',
    "{{ order.items[0].name }}": '"order.items[0]" may be absent',
    "{{ (order.items | first).name }}": '"order.items | first" may be absent',
    "{% if order.total > 1 %}{% set q = 1 %}{% endif %}{{ q }}": '"q" may be absent',
    "{{ order.id if order.total > 1 }}": "may be absent",
    # types
    "{{ order }}": '"order" may be of type object, which cannot be printed; use one of its fields',
    "{{ order.items }}": "type array, which cannot be printed; loop over it",
    "{{ order.id | currency('EUR') }}": "type string, which cannot be used with currency; use a number",
    "{{ order.total | date }}": "cannot be used with date",
    "{{ order.id | date }}": "is not declared as a date or date-time; declare it with format: date-time",
    "{{ order.id * 3 }}": "cannot be computed with",
    "{{ order.id + 1 }}": "cannot be computed with",
    "{{ order.total < order.id }}": "cannot be ordered",
    "{% for c in order.id %}{% endfor %}": "cannot be looped over",
    "{{ order.id.length }}": 'cannot have a field "length"',
    "{{ order.total / order.total }}": '"order.total" may be zero, and is divided by',
    "{{ order.total // (1 - 1) }}": "may be zero",
    "{{ order.id ~ order.items }}": "cannot be joined",
    "{{ order[order.id] }}": "is read with a computed key",
    "{{ customer.name | nl2br | upper }}": "make nl2br the last filter",
    # filters, tests, calls, constructs
    "{{ order.id | safe }}": '"safe" is no filter',
    "{{ order.id | uppr }}": '"uppr" is no filter; did you mean "upper"?',
    "{% if order.id is strng %}{% endif %}": '"strng" is no test; did you mean "string"?',
    "{{ order.total | round(99) }}": 'does not understand its argument "digits"; write a whole number from 0 to 10',
    "{{ order.total | currency }}": 'needs the argument "code"; write it as currency(code)',
    "{{ order.placed | datetime('long', 'Mars/Base') }}": "write an IANA zone",
    "{{ order.id | upper(1) }}": "takes at most 0 arguments",
    "{{ order.items.append(1) }}": "calls are not supported, except range(…)",
    "{{ order.id.upper() }}": "use the filter: {{ … | upper }}",
    "{{ ''.__class__.__mro__ }}": "cannot have a field",
    "{{ order.__class__ }}": '"order.__class__" is not declared',
    "{% import 'x' as y %}": "import is not supported in a notification; write the text out here",
    "{% from 'x' import y %}": "from … import is not supported",
    "{% include 'x' %}": "include is not supported",
    "{% extends 'x' %}": "extends is not supported",
    "{% block a %}{% endblock %}": "block is not supported",
    "{% macro m() %}{% endmacro %}": "macro is not supported",
    "{% call x() %}{% endcall %}": "call is not supported",
    "{% filter upper %}x{% endfilter %}": "filter is not supported",
    "{% set x %}a{% endset %}": "set … endset is not supported",
    "{% autoescape false %}x{% endautoescape %}": "autoescape is not supported",
    "{{ 2 ** 99 }}": "** is not supported in a notification; multiply instead",
    "{{ {'a': 1} }}": "{…} is not supported",
    "{% trans %}x{% endtrans %}": "{% trans %} is not supported",
    "{% for i in order.items recursive %}{% endfor %}": "recursive loops are not supported",
    "{{ order.id": "has a syntax error",
    "{% if order.id %}": "has a syntax error",
    "{{ (((((((((((((((((((((((((((((((((((((((((((((1" + "+1" * 60 + ")" * 45 + " }}": "nested",
    # bounds
    "{% for a in order.items %}{% for b in order.items %}{% for c in order.items %}{% endfor %}{% endfor %}{% endfor %}": "may take 1010100 loop steps, at most 10000",
    "{% for n in range(99999) %}{% endfor %}": "may take 99999 loop steps",
    "{% if order.count is defined %}{% for n in range(order.count) %}{% endfor %}{% endif %}": "range has no bound that is known in advance",
    "{% for a in order.items %}"
    + "{{ a.name }}{{ a.price }}" * 900
    + "{% endfor %}": "may evaluate 360002 expressions, at most 300000",
    "{{ 99999999999999999999 }}": "more than 18 digits",
    "{% set a = order.total %}" + "{% set a = a * a %}" * 5 + "{{ a }}": "more than 512 bits",
    # markup
    "<a href={{ order.id }}>x</a>": 'attribute without quotes, where a space would end it; write href="…"',
    '<a href="{{ order.id }}">x</a>': 'begins the link in "href", where "javascript:" would be code; declare it with "format: uri"',
    "<script>{{ order.id }}</script>": "stands inside <script>",
    "<style>{{ order.id }}</style>": "stands inside <style>",
    '<p onclick="{{ order.id }}">x</p>': 'attribute "onclick", which holds code',
    '<p style="{{ order.id }}">x</p>': 'attribute "style", which holds styles',
    "<p {{ order.id }}>x</p>": "inside a tag but in no attribute's value",
    "<{{ order.id }}>": "inside a tag but in no attribute's value",
    "<!-- {{ order.id }} -->": "stands inside a comment",
    "<p {% if order.total > 3 %}class='{% endif %}>": "has a branch that ends inside an attribute in single quotes",
    '<p class="{{ order.id }}': "ends inside an attribute in double quotes; close the markup",
    "{% for i in order.items %}<p class='{% endfor %}": "has a branch that ends",
}


@pytest.mark.parametrize("text", BAD)
def test_what_could_fail_is_refused_with_its_place_and_the_fix(text):
    found = html(text)

    assert found, "it was accepted"
    assert all(message.startswith("spec.channels.email.content.en.html: line ") for message in found)
    assert any(BAD[text] in message for message in found), found


BAD_FIELDS = [
    ({"defaultLocale": "fr"}, 'spec.defaultLocale: "fr" has no translation; add one under that locale'),
    (
        {"channels__email__content__en_US": {"subject": "x", "text": "y"}},
        'spec.channels.email.content.en_US: "en_US" is no language tag; write it as in en, de-AT',
    ),
    ({"channels__email__content__qq": {"subject": "x", "text": "y"}}, "which is no language that CLDR knows"),
    (
        {"channels__email__content__fr": {"subject": "x"}},
        "spec.channels.email.content.fr: an e-mail needs a text or an html part; add one",
    ),
    ({"channels__email__content__fr": {"text": "x"}}, "spec.channels.email.content.fr.subject: is missing"),
    ({"channels__email__content__en__subject": "a\nb"}, "spec.channels.email.content.en.subject: has a line break"),
    (
        {"channels__email__content__en__subject": "{{ order.x }}"},
        'spec.channels.email.content.en.subject: line 1: "order.x" is not declared',
    ),
    ({"channels__email__content__en__text": "{{ order.note }}"}, "spec.channels.email.content.en.text: line 1"),
    (
        {"channels__email__content__en__text": "\ud800"},
        "spec.channels.email.content.en.text: holds half of a character",
    ),
    ({"channels__email__content__en__body": "x"}, "spec.channels.email.content.en.body: is no field of this object"),
    ({"channels__sms": {}}, "spec.channels.sms: is no field of this object"),
    ({"channels__email__content": {}}, "spec.channels.email.content: needs at least 1 entries"),
    ({"variables": "x"}, 'spec.variables: "x" is no schema'),
    ({"variables": {"type": "array"}}, "spec.variables.type: must be object"),
    (
        {"variables__properties__order__type": "objekt"},
        'spec.variables.properties.order.type: "objekt" is no JSON type; did you mean "object"?',
    ),
    ({"variables__properties__order__pattern": "x"}, "spec.variables.properties.order.pattern: is not supported"),
    (
        {"variables__properties__order__$ref": "#/x"},
        'spec.variables.properties.order["$ref"]: is not supported in the schema of variables; write the variables out',
    ),
    ({"variables__properties__order__default": {}}, "a default is not filled in"),
    ({"variables__properties__order__anyOf": []}, "give one type, or a list of types"),
    (
        {"variables__required": ["order", "custmer"]},
        'spec.variables.required[1]: "custmer" is not declared under properties; did you mean "customer"?',
    ),
    ({"variables__properties__x": {}}, "spec.variables.properties.x.type: is missing"),
    (
        {"variables__properties__x": {"type": "string", "minLength": 5, "maxLength": 3}},
        "allows no value: minLength is above maxLength",
    ),
    (
        {"variables__properties__x": {"type": "integer", "minimum": 5, "exclusiveMaximum": 5}},
        "allows no value: its minimum is above its maximum",
    ),
    ({"variables__properties__x": {"type": "string", "maximum": 5}}, "says nothing about type string"),
    ({"variables__properties__x": {"type": "string", "maxLength": -1}}, "must be a whole number of 0 or more"),
    (
        {"variables__properties__x": {"type": "string", "format": "datetime"}},
        'is no known format; did you mean "date-time"?',
    ),
    ({"variables__properties__x": {"type": "string", "enum": []}}, "must be a list of 1 to 200 values"),
    ({"variables__properties__x": {"type": "string", "enum": [1]}}, "is no scalar of type string"),
    ({"variables__properties__x": {"type": "number", "maximum": 1e30}}, "must be a number of at most 18 digits"),
]


@pytest.mark.parametrize(("changes", "expected"), BAD_FIELDS, ids=[message[:60] for _, message in BAD_FIELDS])
def test_a_wrong_field_is_refused_with_its_path(changes, expected):
    found = messages(manifest(**changes))

    assert any(expected in message for message in found), found


def test_a_schema_of_great_depth_is_refused():
    schema = {"type": "string"}
    for _ in range(30):
        schema = {"type": "object", "properties": {"a": schema}}

    assert any("makes the schema too large" in message for message in messages(manifest(variables=schema)))


def test_two_mistakes_are_told_at_once():
    found = messages(
        manifest(channels__email__content__en__html="{{ a }}{{ b }}", channels__email__content__de__subject="{{ c }}")
    )

    assert len(found) == 3


def test_a_template_without_variables_needs_no_schema():
    document = manifest(variables=..., channels__email__content={"en": {"subject": "Hi", "text": "There"}})

    assert messages(document) == []


def test_compilation_gives_what_the_sidecar_reads():
    resource = check_document(MANIFEST, KINDS).resource
    compiled = TEMPLATE.compile("order-confirmation", resource.spec)

    assert compiled["defaultLocale"] == "en"
    assert compiled["email"]["de"] == {
        "subject": "Bestellung {{ order.id }}",
        "text": "",
        "html": "<p>Danke, {{ customer.name }}</p>",
    }
    assert compiled["variables"] == MANIFEST["spec"]["variables"]


def test_the_status_names_channels_and_locales():
    resource = check_document(MANIFEST, KINDS).resource

    assert TEMPLATE.summarize(resource.spec) == {"channels": "email", "locales": "de,en"}


def test_the_crd_is_structural_and_says_what_kubectl_shows():
    document = yaml.safe_load(crd_yaml(BLOCK.kinds[0]))
    version = document["spec"]["versions"][0]

    assert [column["name"] for column in version["additionalPrinterColumns"]][:4] == [
        "Channels",
        "Locales",
        "Sent",
        "Failed",
    ]
    assert document["spec"]["names"]["shortNames"] == ["ntpl"]


def test_every_filter_has_a_signature_and_the_other_way_round():
    assert set(FILTERS) == set(SIGNATURES) | {"default", "d"}
