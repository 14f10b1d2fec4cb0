"""Hypothesis strategies: schemas of variables, data that fits them, and templates over them.

They are written against the documentation, not against the implementation: what is drawn as valid data is judged valid by the `jsonschema` library
in a test of its own.
"""

import math

from hypothesis import strategies as st

NAMES = st.sampled_from(["id", "name", "total", "items", "note", "when", "keys", "values", "update", "x"])
TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    [
        "<b>",
        '"><script>',
        "'",
        "&amp;",
        "\r\nBcc: x@example.com",
        "{{ 7*7 }}",
        "\x00",
        "\u2028",
        "-->",
        "javascript:alert(1)",
    ]
)
DATES = st.dates().map(lambda day: day.isoformat())
DATE_TIMES = st.tuples(DATES, st.times(), st.sampled_from(["Z", "+14:00", "-12:00", "+05:30"])).map(
    lambda parts: f"{parts[0]}T{parts[1].replace(microsecond=0).isoformat()}{parts[2]}"
)
URIS = st.sampled_from(["https://shop.example/a?b=c&d=e", "http://x", "mailto:ada@example.com", "tel:+49123"])
EMAILS = st.sampled_from(["ada@example.com", '"a b"@example.com', "x@[192.0.2.1]"])
UUIDS = st.uuids().map(str)
FORMATTED = {"date": DATES, "date-time": DATE_TIMES, "uri": URIS, "email": EMAILS, "uuid": UUIDS}


def _integers(low: int, high: int):
    return st.one_of(st.integers(low, high), st.just(low), st.just(high))


@st.composite
def leaf_schemas(draw):
    kind = draw(st.sampled_from(["string", "string", "integer", "number", "boolean", "format", "enum", "nullable"]))
    match kind:
        case "string":
            low = draw(st.integers(0, 3))
            return {"type": "string", "minLength": low, "maxLength": low + draw(st.integers(0, 40))}
        case "format":
            return {"type": "string", "format": draw(st.sampled_from(sorted(FORMATTED)))}
        case "enum":
            return {
                "type": ["string", "null", "integer"],
                "enum": draw(st.lists(TEXT | st.none() | st.integers(-5, 5), min_size=1, max_size=3)),
            }
        case "nullable":
            return {"type": [draw(st.sampled_from(["string", "integer"])), "null"]}
        case "boolean":
            return {"type": "boolean"}
        case _:
            schema = {"type": kind}
            if draw(st.booleans()):
                low = draw(st.integers(-5, 5))
                schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
                if draw(st.booleans()):
                    schema["maximum"] = low + draw(st.integers(2, 8))
            return schema


@st.composite
def object_schemas(draw, depth: int = 2):
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    properties = {name: draw(schemas(depth - 1)) for name in names}
    schema = {"type": "object", "properties": properties}
    required = draw(st.lists(st.sampled_from(names), unique=True))
    if required:
        schema["required"] = required
    extra = draw(st.sampled_from([None, False, "schema"]))
    if extra is False:
        schema["additionalProperties"] = False
    elif extra == "schema":
        schema["additionalProperties"] = draw(leaf_schemas())
    return schema


@st.composite
def schemas(draw, depth: int = 2):
    kind = draw(st.sampled_from(["leaf", "leaf", "object", "array"] if depth > 0 else ["leaf"]))
    if kind == "object":
        return draw(object_schemas(depth))
    if kind == "array":
        low = draw(st.integers(0, 1))
        return {
            "type": "array",
            "minItems": low,
            "maxItems": low + draw(st.integers(0, 3)),
            "items": draw(schemas(depth - 1)),
        }
    return draw(leaf_schemas())


def values(schema):
    """Give a strategy of data that *schema* admits."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of(*[_of_kind(kind, schema) for kind in kinds])


def _of_kind(kind, schema):
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "string":
            if "format" in schema:
                return FORMATTED[schema["format"]]
            low, high = schema.get("minLength", 0), schema.get("maxLength", 40)
            return TEXT.map(lambda text: (text + "y" * low)[: max(high, low)])
        case "integer":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -(2**63)) + 1)
            return _integers(low, schema.get("maximum", 2**63 - 1))
        case "number":
            low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
            low = math.nextafter(above, math.inf) if above is not None else low if low is not None else -9e18
            high = schema.get("maximum", 9e18)
            whole = st.integers(math.ceil(low), math.floor(high))
            return st.floats(low, high) | (whole if math.ceil(low) <= math.floor(high) else st.nothing())
        case "array":
            return st.lists(values(schema["items"]), min_size=schema["minItems"], max_size=schema["maxItems"])
        case _:
            required = set(schema.get("required", ()))
            declared = {name: values(child) for name, child in schema["properties"].items()}
            fixed = st.fixed_dictionaries(
                {name: child for name, child in declared.items() if name in required},
                optional={name: child for name, child in declared.items() if name not in required},
            )
            extra = schema.get("additionalProperties")
            if not isinstance(extra, dict):
                return fixed
            more = st.dictionaries(st.sampled_from(["foo", "<bar>", "baz"]), values(extra), max_size=2)
            return st.tuples(more, fixed).map(lambda pair: {**pair[0], **pair[1]})


BY_KIND = {
    "string": ["upper", "title", "capitalize", "trim", "truncate(3)", "urlencode", "replace('a', 'bb')", "nl2br", "length", "lower|length"],
    "number": ["abs", "round", "round(2)|abs", "number", "number(2)", "percent", "currency('EUR')", "currency('nonsense')", "int", "round|int|number"],
    "boolean": ["string", "upper"],
    "date": ["date", "date('full')", "upper"],
    "date-time": ["date", "datetime('long')", "datetime('short', 'Asia/Kolkata')", "datetime('full', 'America/St_Johns')"],
}  # fmt: skip
COMPUTED = [
    "{0} * {0} - 3",
    "{0} / 7",
    "{0} // 2 % 5",
    "-{0} + 1.5",
    "{0} * 1e9 * {0}",
    "({0} / 1e-9)|round(2)",
    "({0} / 3)|int * {0}",
    "{0} % 0.3",
]


@st.composite
def sensible(draw, path, schema, depth: int = 3):
    """Draw a statement that uses *path* as a careful writer would; usually it is proven."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    guard = draw(
        st.sampled_from(
            [
                "{0} is defined and {0} is not none",
                "{0} is defined and not ({0} is none)",
                "not ({0} is undefined or {0} is none)",
            ]
        )
    )
    body = ""
    match kinds:
        case ["object"] if depth:
            chosen = draw(st.sampled_from(sorted(schema["properties"])))
            body = draw(sensible(f"{path}.{chosen}", schema["properties"][chosen], depth - 1))
            if isinstance(schema.get("additionalProperties"), dict) and draw(st.booleans()):
                body += f"{{{{ {path}.foo | default('-', true) }}}}{{{{ ({path}|items)|length }}}}"
        case ["array"] if depth:
            item = f"i{depth}"
            body = draw(sensible(item, schema["items"], depth - 1))
            over = draw(st.sampled_from(["{0}", "{0}[:2]", "{0}|reverse", "({0} if {0} else [])"])).format(path)
            body = f"{{% for {item} in {over} %}}{{{{ loop.index }}}}{body}{{% else %}}none{{% endfor %}}{{{{ {path}|length }}}}"
            if draw(st.booleans()):
                body += f"{{% if {path}|first is defined %}}{{% set f = {path}|first %}}{draw(sensible('f', schema['items'], depth - 1))}{{% endif %}}"
        case ["number"] | ["integer"]:
            value = draw(st.sampled_from(["{0}", *COMPUTED])).format(path)
            body = f"{{{{ ({value})|{draw(st.sampled_from(BY_KIND['number']))} }}}}{{{{ {value} }}}}"
        case ["string"] | ["boolean"]:
            usage = draw(st.sampled_from(BY_KIND.get(schema.get("format", ""), BY_KIND[kinds[0]])))
            body = f"{{{{ {path}|{usage} }}}}{{{{ {path} ~ 1 if {path} else {path} ~ '<' }}}}"
        case _:
            body = f"{{{{ {path} }}}}{{% if {path} is number %}}{{{{ {path} + 1 }}}}{{% elif {path} is string %}}{{{{ {path}|upper }}}}{{% endif %}}"
    return f"{{% if {guard.format(path)} %}}{body}{{% endif %}}"


def paths(schema, prefix=""):
    """Give every path to a declared field, with its schema."""
    found = []
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        found.append((path, child))
        if child["type"] == "object":
            found += paths(child, path)
    return found


FILTERS = [
    "upper", "title", "capitalize", "trim", "truncate(5)", "urlencode", "string", "replace('a', 'bb')", "nl2br", "length", "default('d')", "default('d', true)",
    "default(3)", "abs", "int", "round", "round(2)", "number", "number(2)", "percent", "currency('EUR')", "date", "date('full')", "datetime('long')",
    "datetime('short', 'Asia/Kolkata')", "first", "last", "join(', ')", "sum", "sort", "reverse", "items", "map(attribute='name')|join('; ')",
    "map(attribute='total')|sum", "sum(attribute='total')", "sort(attribute='name')",
]  # fmt: skip
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">=", "in", "and", "or"]
TESTS = ["defined", "undefined", "none", "not none", "string", "number", "boolean", "even", "odd", "divisibleby(3)"]


@st.composite
def expressions(draw, names, depth: int = 2):
    kind = draw(
        st.sampled_from(
            ["name", "name", "name", "constant", "filter", "filter", "binary", "choice", "test", "not", "index"]
            if depth
            else ["name"]
        )
    )
    inner = expressions(names, depth - 1) if depth else st.nothing()
    match kind:
        case "name":
            return draw(st.sampled_from(names))
        case "constant":
            return draw(
                st.sampled_from(["1", "0", "2.5", "'<c>'", "none", "true", "[1, 2]", "-3", "'x' * 3", "loop.index"])
            )
        case "filter":
            return f"({draw(inner)})|{draw(st.sampled_from(FILTERS))}"
        case "binary":
            return f"({draw(inner)} {draw(st.sampled_from(OPERATORS))} {draw(inner)})"
        case "choice":
            return f"({draw(inner)} if {draw(inner)} else {draw(inner)})"
        case "test":
            return f"({draw(inner)} is {draw(st.sampled_from(TESTS))})"
        case "not":
            return f"(not {draw(inner)})"
        case _:
            return f"({draw(inner)})" + draw(st.sampled_from(["[0]", "[-1]", "[:2]", ".name", "['items']", ".x"]))


SLOPPY = [
    "{{{{ {0} }}}}",
    "{{% if {0} %}}x{{% endif %}}",
    "{{% if {0} is defined %}}{{{{ {0} }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{% endif %}}{{{{ {0} }}}}",
    "{{% if {0} is defined or {1} is defined %}}{{{{ {0} }}}}{{% endif %}}",
    "{{% if not ({0} is undefined and {1} is undefined) %}}{{{{ {0} }}}}{{% endif %}}",
    "{{% for i in range(1) %}}{{% if {0} is defined %}}{{% endif %}}{{% endfor %}}{{{{ {0} }}}}",
    "{{% for i in range(2) if {0} is defined %}}{{% endfor %}}{{{{ {0} }}}}",
    "{{% if {0} is undefined %}}{{{{ {0} }}}}{{% endif %}}",
    "{{% if {0} is defined and {0} is none %}}{{{{ {0} ~ '' }}}}{{% else %}}{{{{ {0} }}}}{{% endif %}}",
    "{{{{ {0} if {1} is defined else {0} }}}}",
    "{{{{ ({0} if {0} is defined else {1}) }}}}",
    "{{{{ {0} is defined and {0} < 3 }}}}",
    "{{{{ {0} is defined and {1} is defined and {0} < {1} }}}}",
    "{{{{ {0} | default(0) + 1 }}}}",
    "{{{{ {0} | default(0, true) + 1 }}}}",
    "{{% if {0} is defined and {0} is not none %}}{{{{ {0} + 1 }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{{{ {0} | first }}}}{{% endif %}}",
    "{{% for i in {0} | default([]) %}}{{{{ i }}}}{{% endfor %}}",
    "{{{{ 1 / ({0} | default(1)) }}}}",
    "{{{{ 7 % ({0} | default(1, true)) }}}}",
    "{{{{ ({0} | default([])) | first }}}}",
    "{{{{ ({0} | default([]))[0] }}}}",
    "{{% if {0} is defined %}}{{{{ {0} | last }}}}{{{{ {0}[-1] }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{{{ {0} | sum }}}}{{{{ {0} | join }}}}{{{{ {0} | sort | join }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{{{ {0} | map(attribute='name') | join }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{{{ {0} | sum(attribute='total') }}}}{{% endif %}}",
    "{{% if {0} is defined %}}{{% for n in range({0}) %}}x{{% endfor %}}{{% endif %}}",
    "{{% if {0} is defined %}}{{% set s = {0} %}}{{% endif %}}{{{{ s }}}}",
    "{{% if {0} is defined %}}{{% set s = {0} %}}{{% else %}}{{% set s = {1} %}}{{% endif %}}{{{{ s }}}}",
    "{{% if {0} is string or {0} is number %}}{{{{ {0} }}}}{{{{ {0} ~ 'x' }}}}{{% endif %}}",
    "{{% if {0} is not string %}}{{{{ {0} + 1 }}}}{{% endif %}}",
    "{{{{ ({0} or {1}) ~ '' }}}}",
    "{{{{ {0} in {1} }}}}{{{{ 'x' in {0} }}}}",
    "{{{{ {0} | date }}}}{{{{ {0} | datetime }}}}",
]  # fmt: skip
"""What a hasty writer would try: most of it is wrong for most schemas, and it depends on the data whether anybody notices."""


@st.composite
def sloppy(draw, names):
    """Draw a hasty statement."""
    return draw(st.sampled_from(SLOPPY)).format(draw(st.sampled_from(names)), draw(st.sampled_from(names)))


@st.composite
def candidates(draw, schema):
    """Draw statements over *schema*: a careful one, hasty ones, and a wild one that is almost always wrong."""
    known = paths(schema)
    names = [path for path, _ in known]
    careful = draw(sensible(*draw(st.sampled_from(known))))
    return [careful, *draw(st.lists(sloppy(names), min_size=3, max_size=3)), draw(statements(names, 1))]


@st.composite
def statements(draw, names, depth):
    kind = draw(
        st.sampled_from(["print", "print", "guard", "guard", "if", "for", "set", "with"] if depth else ["print"])
    )
    body = statements(names, depth - 1) if depth else st.nothing()
    match kind:
        case "print":
            return f"[{{{{ {draw(expressions(names))} }}}}]"
        case "guard":
            name = draw(st.sampled_from(names))
            test = draw(
                st.sampled_from(
                    ["is defined", "is string", "is number", "is defined and {0} is not none", "is defined and {0}"]
                )
            ).format(name)
            return f"{{% if {name} {test} %}}{draw(body)}[{{{{ {name} }}}}]{{% else %}}{draw(body)}{{% endif %}}"
        case "if":
            return f"{{% if {draw(expressions(names))} %}}{draw(body)}{{% elif {draw(expressions(names))} %}}{draw(body)}{{% endif %}}"
        case "for":
            over = draw(st.sampled_from([*names, "range(3)", f"({draw(st.sampled_from(names))})|items"]))
            target = "k, v" if over.endswith("items") else "i"
            inner = [*names, "i", "i.name", "i.total", "k", "v", "loop.last"]
            test = f" if {draw(expressions(inner, 1))}" if draw(st.booleans()) else ""
            return (
                f"{{% for {target} in {over}{test} %}}{draw(statements(inner, depth - 1))}{{% else %}}e{{% endfor %}}"
            )
        case "set":
            return f"{{% set s = {draw(expressions(names))} %}}{draw(statements([*names, 's'], depth - 1))}"
        case _:
            return f"{{% with s = {draw(expressions(names))} %}}{draw(statements([*names, 's'], depth - 1))}{{% endwith %}}"


RICH = {
    "type": "object",
    "required": ["s", "n", "i", "l", "o", "p", "z", "b", "d"],
    "properties": {
        "s": {"type": "string"},
        "so": {"type": "string"},
        "sn": {"type": ["string", "null"]},
        "son": {"type": ["string", "null"]},
        "n": {"type": "number"},
        "no": {"type": "number"},
        "i": {"type": "integer"},
        "ion": {"type": ["integer", "null"]},
        "p": {"type": "integer", "exclusiveMinimum": 0, "maximum": 5},
        "po": {"type": "integer", "minimum": 1, "maximum": 5},
        "z": {"type": "integer", "minimum": 0, "maximum": 5},
        "b": {"type": "boolean"},
        "d": {"type": "string", "format": "date-time"},
        "m": {"type": ["string", "number", "null"]},
        "l": {"type": "array", "maxItems": 3, "items": {"type": "number"}},
        "lo": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
        "l1": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
        "lr": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "total": {"type": "number"}},
            },
        },
        "o": {
            "type": "object",
            "required": ["s"],
            "properties": {"s": {"type": "string"}, "so": {"type": "string"}, "no": {"type": "number"}},
        },
        "oo": {
            "type": "object",
            "required": ["s"],
            "properties": {"s": {"type": "string"}},
            "additionalProperties": {"type": "string"},
        },
    },
}
"""One field of every sort."""

_CORNERS = {
    "string": ["", "x", "<b>"],
    "number": [0, 0.5, -2, 3],
    "integer": [0, 1, -7],
    "boolean": [True, False],
    "null": [None],
}


def corner(schema, chance):
    """Give data at a corner of *schema*: present or absent, null or not, empty or full, zero or not. *chance* is a `random.Random`."""
    kind = chance.choice(schema["type"]) if isinstance(schema["type"], list) else schema["type"]
    match kind:
        case "object":
            required = schema.get("required", ())
            kept = {
                name: child for name, child in schema["properties"].items() if name in required or chance.random() < 0.5
            }
            return {name: corner(child, chance) for name, child in kept.items()}
        case "array":
            low, high = schema.get("minItems", 0), schema["maxItems"]
            return [corner(schema["items"], chance) for _ in range(chance.choice([low, high]))]
        case "string" if schema.get("format"):
            return chance.choice(["2026-01-31T12:30:00Z", "0001-01-01T00:00:00+14:00"])
        case _:
            low = schema.get("minimum", schema.get("exclusiveMinimum", -8) + 1)
            allowed = [
                value
                for value in _CORNERS[kind]
                if kind in ("string", "boolean", "null") or low <= value <= schema.get("maximum", 9)
            ]
            return chance.choice(allowed)
