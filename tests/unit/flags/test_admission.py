"""What a FeatureFlag may say, and how it is told what it may not: path, value, rule, fix."""

import math

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pillion.flags.bucketing import MAX_WEIGHT
from pillion.flags.coercion import MAX_STEPS
from pillion.flags.compiler import OPERATORS, compile_rule
from pillion.flags.engine import Definition, Flag
from pillion.flags.kind import BLOCK
from pillion.flags.proof import ARITY
from pillion.kinds.crd import crd_yaml
from pillion.kinds.manifests import read_documents
from pillion.kinds.resource import check_document, check_relations
from pillion.kinds.snapshot import canonical_json

KIND = BLOCK.kinds[0]
KINDS = {KIND.kind: KIND}


def check(spec, name="new-checkout"):
    document = {"apiVersion": "pillion.dev/v1alpha1", "kind": "FeatureFlag", "metadata": {"name": name}, "spec": spec}
    return check_document(document, KINDS)


def flag(targeting=None, **fields):
    spec = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    return spec | ({} if targeting is None else {"targeting": targeting}) | fields


def messages(spec, severity="error"):
    return [v.message for v in check(spec).violations if v.severity == severity]


def compiled(spec, name="new-checkout"):
    checked = check(spec, name)
    assert checked.resource is not None, [v.message for v in checked.violations]
    return KIND.compile(name, checked.resource.spec)


IS_PRO = {"==": [{"var": "plan"}, "pro"]}

GOOD = [
    {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", None]},
    {"if": [IS_PRO, "on", {"in": [{"var": "country"}, ["de", "at"]]}, "off", None]},
    {"fractional": [["on", 10], ["off", 90]]},
    {"fractional": [{"var": "email"}, ["on"], ["off"]]},
    {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]}, ["on", 10], ["off", 90]]},
    {"fractional": [["on", {"-": [{"var": "$flagd.timestamp"}, 5]}], ["off", 90]]},
    {"if": [{"fractional": [[True, 10], [False, 90]]}, "on", "off"]},
    {"if": [{"sem_ver": [{"var": "version"}, ">=", "1.2"]}, "on"]},
    {"var": "variant"},
    {"cat": ["o", {"var": "suffix"}]},
    {"or": [{"var": "variant"}, "off"]},
    {"if": [{"some": [{"var": "tags"}, {"==": [{"var": ""}, "beta"]}]}, "on"]},
    {"if": [{"!": {"missing": ["email"]}}, "on"]},
    {"if": [{"!": [{"var": "email"}]}, "off", "on"]},
    {},
]


@pytest.mark.parametrize("targeting", GOOD)
def test_good_targeting_is_accepted_without_a_word(targeting):
    assert check(flag(targeting)).violations == ()


BAD = [
    ({"end_with": [{"var": "a"}, "x"]}, 'spec.targeting.end_with: is no operator; did you mean "ends_with"?'),
    ({"if": [IS_PRO, {"regx": []}]}, "spec.targeting.if[1].regx: is no operator; use one of"),
    (
        {"$ref": "isStaff"},
        'spec.targeting["$ref"]: "isStaff" refers to an evaluator of a flag set, and a resource is a single flag; write',
    ),
    ({"if": [{"$ref": "isStaff"}, "on"]}, 'spec.targeting.if[0]["$ref"]: "isStaff" refers to an evaluator'),
    ({"if": [IS_PRO, "onn", "off"]}, 'spec.targeting.if[1]: "onn" names none of the flag\'s variants; did you mean "on"?'),
    ({"if": [IS_PRO, "on", "blue"]}, 'spec.targeting.if[2]: "blue" names none of the flag\'s variants; use one of: off, on'),
    ({"if": [IS_PRO, {"if": [IS_PRO, "x", "on"]}]}, 'spec.targeting.if[1].if[1]: "x" names none'),
    ({"if": [IS_PRO, True, False]}, 'spec.targeting.if[1]: true names none of the flag\'s variants; quote it: "off"; YAML'),
    ({"if": [IS_PRO, 1]}, "spec.targeting.if[1]: 1 names none of the flag's variants"),
    ({"if": [IS_PRO, ["on"]]}, "spec.targeting.if[1]: gives a list or an object, which names no variant; give one of"),
    (IS_PRO, 'spec.targeting["=="]: may give false, and there is no variant "false"; decide by it: {"if": [..., "on", "off"]}'),
    ({"and": [IS_PRO, "on"]}, 'spec.targeting.and[0]["=="]: may give false, and there is no variant "false"'),
    ({"+": [1, 2]}, 'spec.targeting["+"]: gives a number, and no variant is named by one'),
    ({"map": [{"var": "a"}, 1]}, "spec.targeting.map: gives a list or an object, which names no variant"),
    ({"==": [1, 1], "!=": [1, 2]}, "spec.targeting: has 2 keys where a rule has exactly one operator; write one operator"),
    ({"if": [{}, "on"]}, "spec.targeting.if[0]: is an empty object where a rule has exactly one operator"),
    ({"if": [{"==": [1]}, "on"]}, 'spec.targeting.if[0]["=="]: has 1 operands, and takes 2; add or remove operands'),
    ({"if": [{"substr": ["a"]}, "on"]}, "spec.targeting.if[0].substr: has 1 operands, and takes 2 to 3"),
    ({"if": []}, "spec.targeting.if: has 0 operands, and takes at least 1"),
    ({"if": [{"sem_ver": [{"var": "v"}, "=>", "1.0.0"]}, "on"]}, 'spec.targeting.if[0].sem_ver[1]: "=>" is no comparison'),
    ({"if": [{"sem_ver": [{"var": "v"}, "=", "1.x"]}, "on"]}, 'spec.targeting.if[0].sem_ver[2]: "1.x" is no version; write'),
    ({"if": [{"sem_ver": ["1.0.0", "="]}, "on"]}, "spec.targeting.if[0].sem_ver: has 2 operands, and takes 3"),
    ({"if": [{"starts_with": [{"var": "v"}, 5]}, "on"]}, 'spec.targeting.if[0].starts_with[1]: 5 must be a text; quote it: "5"'),
    ({"if": [{"in": [{"var": "v"}, 5]}, "on"]}, "spec.targeting.if[0].in[1]: 5 contains nothing; write a list"),
    ({"if": [{"some": ["a", True]}, "on"]}, 'spec.targeting.if[0].some[0]: "a" is no list; write a list, or an attribute'),
    ({"if": [{"var": True}, "on"]}, "spec.targeting.if[0].var: true names no attribute"),
    ({"if": [{"var": "$flagd.time"}, "on"]}, 'spec.targeting.if[0].var: "$flagd.time" does not exist; did you mean'),
    ({"fractional": [["on", 12.5], ["off"]]}, "spec.targeting.fractional[0][1]: 12.5 is no whole number, and then nobody"),
    ({"fractional": [["on"], ["off", True]]}, "spec.targeting.fractional[1][1]: true is no weight; write a whole number"),
    ({"fractional": [["on", "5"]]}, 'spec.targeting.fractional[0][1]: "5" is no weight'),
    ({"fractional": [["on", -1], ["off", 2]]}, "spec.targeting.fractional[0][1]: -1 is negative, and counts as 0; write 0"),
    ({"fractional": [["on", MAX_WEIGHT + 1]]}, "spec.targeting.fractional[0][1]: 2147483648 is over the bound of 2147483647"),
    ({"fractional": [["on", MAX_WEIGHT], ["off"]]}, "spec.targeting.fractional: has weights that add up to 2147483648, over"),
    ({"fractional": [["on", 0], ["off", 0]]}, "spec.targeting.fractional: has weights that add up to 0; give"),
    ({"fractional": [["on", 1, 2]]}, "spec.targeting.fractional[0]: has 3 elements, and takes a variant and a weight; write"),
    ({"fractional": [["on"], []]}, "spec.targeting.fractional[1]: has 0 elements"),
    ({"fractional": [["on"], "off"]}, 'spec.targeting.fractional[1]: "off" is no entry of a split'),
    ({"fractional": [{"var": "email"}]}, "spec.targeting.fractional: has no entries; add some"),
    ({"fractional": [["blue", 1], ["on", 1]]}, 'spec.targeting.fractional[0][0]: "blue" names none of the flag\'s variants'),
    (
        {"if": [IS_PRO, "on", {"fractional": [["on", 12.5], ["off"]]}]},
        "spec.targeting.if[2].fractional[0][1]: 12.5 is no whole number",
    ),
    ("on", 'spec.targeting: "on" must be a map with one operator; write'),
    ({"if": [IS_PRO, "on", math.nan]}, "spec.targeting.if[2]: is nan, which JSON cannot say"),
    ({"if": [{1: 2}, "on"]}, 'spec.targeting.if[0]: 1 is a key that is no text; quote it: "1"'),
    ({"if": [IS_PRO, "\ud800"]}, "spec.targeting.if[1]: holds half of a surrogate pair"),
]  # fmt: skip


@pytest.mark.parametrize(("targeting", "message"), BAD, ids=[str(case[1])[:60] for case in BAD])
def test_bad_targeting_is_refused_with_path_value_rule_and_fix(targeting, message):
    found = check(flag(targeting)).violations

    assert any(v.message.startswith(message) for v in found), [v.message for v in found]
    assert all(v.fix for v in found)


WARNED = [
    ({"fractional": [["on", None], ["off", 5]]}, "spec.targeting.fractional[0][1]: null counts as 1; write the weight"),
    ({"fractional": ["everybody", ["on"]]}, 'spec.targeting.fractional[0]: "everybody" is the same for everybody, so all'),
    ({"if": [True, "on", IS_PRO, "off"]}, "spec.targeting.if[2]: is never reached: the condition spec.targeting.if[0] always"),
    ({"if": [False, "on", "off"]}, "spec.targeting.if[1]: is never reached: its condition spec.targeting.if[0] never holds"),
    ({"if": [IS_PRO, "on", IS_PRO, "off"]}, "spec.targeting.if[3]: is never reached: spec.targeting.if[2] is the same condition"),
]  # fmt: skip


@pytest.mark.parametrize(("targeting", "message"), WARNED, ids=[case[1][:50] for case in WARNED])
def test_doubtful_targeting_is_accepted_with_a_warning(targeting, message):
    checked = check(flag(targeting))

    assert checked.resource is not None
    assert [v.severity for v in checked.violations] == ["warning"]
    assert checked.violations[0].message.startswith(message), checked.violations[0].message


def test_a_condition_alone_is_fine_where_variants_are_named_true_and_false():
    spec = flag(IS_PRO, variants={"true": "new", "false": "old"}, defaultVariant="false")

    assert check(spec).violations == ()


SPECS = [
    (flag(variants={}), "spec.variants: needs at least 1 entries"),
    (flag(variants={"on": None}, defaultVariant="on"), "spec.variants.on: null is of no type that a variant may have"),
    (
        flag(variants={"on": [1], "off": [2]}),
        "spec.variants.on: [1] is of no type that a variant may have; write a boolean",
    ),
    (
        flag(variants={"on": True, "off": "no"}),
        'spec.variants.off: "no" is of type string, while "on" is of type boolean',
    ),
    (
        flag(variants={"on": 1, "off": False}),
        'spec.variants.off: false is of type boolean, while "on" is of type number',
    ),
    (flag(variants={"": True, "off": False}), 'spec.variants: "" is no name of 1 to 253 characters'),
    (flag(variants={"on": {"a": math.inf}, "off": {}}), "spec.variants.on.a: is inf, which JSON cannot say"),
    (flag(defaultVariant="offf"), 'spec.defaultVariant: "offf" names none of the variants; did you mean "off"?'),
    (flag(state="ENABLE"), 'spec.state: "ENABLE" is not one of the allowed values; did you mean "ENABLED"?'),
    (flag(metadata={"team": ["a"]}), 'spec.metadata.team: ["a"] is no text, number or boolean'),
    (flag(metadata={"team": None}), "spec.metadata.team: null is no text, number or boolean"),
    (flag(key="a/b"), 'spec.key: "a/b" does not match'),
    (
        flag(schedule={"from": "2026-12-01T00:00:00Z"}),
        "spec.schedule: says when targeting counts, and there is no targeting",
    ),
    (
        flag(requires=[{"flag": "a", "variant": "on"}]),
        "spec.requires: says when targeting counts, and there is no targeting",
    ),
    (flag(IS_PRO, schedule={}), "spec.schedule: needs a beginning or an end; add from, until or both"),
    (
        flag(IS_PRO, schedule={"from": "2027-01-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}),
        'spec.schedule.until: "2026-12-01T00:00:00Z" must lie after from; swap them or correct the year',
    ),
    (
        flag(GOOD[0], schedule={"from": "2026-13-01T00:00:00Z"}),
        'spec.schedule.from: "2026-13-01T00:00:00Z" is no moment',
    ),
    (flag(expires="2027-02-30"), 'spec.expires: "2027-02-30" is no moment of the calendar'),
    (flag(expires="soon"), 'spec.expires: "soon"'),
    (flag(rollout={}), "spec.rollout: is no field of this object"),
]


@pytest.mark.parametrize(("spec", "message"), SPECS, ids=[case[1][:60] for case in SPECS])
def test_bad_specs_are_refused(spec, message):
    assert any(text.startswith(message) for text in messages(spec)), messages(spec)


def test_yaml_booleans_are_recognised_in_files_and_behind_the_api_server():
    """Unquoted `on` is `true` in files; behind `kubectl` even the key has become the text "true"."""
    text = "variants: {on: true, off: false}\ndefaultVariant: 'on'"
    (document,) = read_documents(
        f"apiVersion: pillion.dev/v1alpha1\nkind: FeatureFlag\nmetadata: {{name: x}}\nspec:\n  {text.replace(chr(10), chr(10) + '  ')}"
    )

    in_files = check_document(document.value, KINDS).violations[0]
    behind = check(flag(variants={"true": True, "false": False}, defaultVariant="on")).violations[0]

    assert in_files.message.startswith("spec.variants: true is a key that is no string; quote it")
    assert behind.message == (
        'spec.variants: ["false", "true"] has no "on", which defaultVariant names; '
        'quote it among the variants: "on"; YAML reads unquoted on, off, yes and no as true and false'
    )


def test_a_whole_number_that_clients_round_is_warned_about():
    assert "beyond 2^53" in messages(flag(variants={"on": 2**60, "off": 1}), "warning")[0]


def nested(levels, key="a"):
    value = {}
    for _ in range(levels):
        value = {key: value}
    return value


def test_depth_and_size_are_bounded():
    deep = "on"
    for _ in range(200):
        deep = {"if": [IS_PRO, deep]}

    assert "nested" in messages(flag(deep))[0]
    assert "parts" in messages(flag({"or": [{"var": "a"}] * 6000}))[0]
    assert "nested deeper than 32 levels" in messages(flag(variants={"on": nested(40), "off": {}}))[0]
    assert "nested too deeply" in messages(flag(variants={"on": nested(400), "off": {}}))[0]


def test_every_operator_has_an_arity():
    assert set(ARITY) == OPERATORS


def test_the_compiled_form_is_what_the_engine_reads():
    spec = flag(
        {"if": [IS_PRO, "on"]}, owner="team-checkout", expires="2027-03-01", metadata={"stage": 2.0}, key="checkout.new"
    )

    found = compiled(spec)

    assert found == {
        "key": "checkout.new",
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"if": [IS_PRO, "on"]},
        "metadata": {"owner": "team-checkout", "stage": 2},
        "requires": [],
        "expires": 1803859200,
    }
    assert msgspec.convert(found, Definition).key == "checkout.new"
    assert compiled(flag(), "by-name")["key"] == "by-name"


def test_the_api_servers_round_trip_changes_nothing():
    """It writes 1.0 as 1; a file keeps 1.0. Both must give the same revision."""
    written = flag({"fractional": [["on", 50.0], ["off", 50]]}, variants={"on": 1.0, "off": 2.0}, metadata={"n": 3.0})
    stored = flag({"fractional": [["on", 50], ["off", 50]]}, variants={"on": 1, "off": 2}, metadata={"n": 3})

    assert canonical_json(compiled(written)) == canonical_json(compiled(stored))
    assert b'"on":1,' not in canonical_json(compiled(flag(variants={"on": 1, "off": 0.5})))
    assert b'"on":1.0' in canonical_json(compiled(flag(variants={"on": 1, "off": 0.5})))


def test_a_schedule_is_a_condition_on_the_time():
    spec = flag({"if": [True, "on"]}, schedule={"from": "2026-12-01T00:00:00Z", "until": "2027-01-01T01:00:00+01:00"})
    begin, end = 1796083200, 1798761600

    served = Flag(msgspec.convert(compiled(spec), Definition), "v2")

    assert [served.evaluate({}, now).variant for now in (begin - 1, begin, end - 1, end)] == ["off", "on", "on", "off"]
    for one in ({"from": "2026-12-01T00:00:00Z"}, {"until": "2026-12-01T00:00:00Z"}):
        served = Flag(msgspec.convert(compiled(flag({"if": [True, "on"]}, schedule=one)), Definition), "v2")
        assert {served.evaluate({}, begin - 1).variant, served.evaluate({}, begin).variant} == {"on", "off"}


def relations(**specs):
    resources = [check(spec, name).resource for name, spec in specs.items()]
    assert None not in resources
    return [(key[2], violation.message) for key, violation in check_relations(resources, KINDS)]


ON = {"if": [True, "on"]}


def needs(*others, **fields):
    return flag(ON, requires=[{"flag": other, "variant": "on"} for other in others], **fields)


def test_a_key_belongs_to_one_flag_and_the_later_name_is_refused():
    assert relations(b=flag(key="x"), a=flag(key="x"), x=flag()) == [
        ("b", 'spec.key: "x" is the key of FeatureFlag a too; give each flag a key of its own'),
        ("x", 'metadata.name: "x" is the key of FeatureFlag a too; give each flag a key of its own'),
    ]
    assert relations(a=flag(key="x", suspend=True), b=flag(key="x")) == []


def test_requirements_must_exist():
    assert relations(a=needs("payment"), payments=flag()) == [
        ("a", 'spec.requires[0].flag: "payment" is no flag here; did you mean "payments"?')
    ]
    assert relations(a=flag(ON, requires=[{"flag": "b", "variant": "onn"}]), b=flag()) == [
        ("a", 'spec.requires[0].variant: "onn" is no variant of b; did you mean "on"?')
    ]
    assert relations(a=needs("b"), b=needs("c"), c=flag(), d=needs("c")) == []


def test_a_circle_is_named_to_everyone_in_it():
    assert relations(a=needs("b"), b=needs("c"), c=needs("a"), d=needs("a")) == [
        ("a", 'spec.requires[0].flag: "b" closes a circle: a → b → c → a; remove one of the requirements'),
        ("b", 'spec.requires[0].flag: "c" closes a circle: b → c → a → b; remove one of the requirements'),
        ("c", 'spec.requires[0].flag: "a" closes a circle: c → a → b → c; remove one of the requirements'),
    ]
    assert relations(a=needs("a"))[0][1].startswith('spec.requires[0].flag: "a" closes a circle: a → a')


def test_requirements_that_fan_out_too_far_are_refused():
    chain = {f"f{n}": needs(f"f{n + 1}", f"f{n + 1}") for n in range(12)} | {"f12": flag()}

    assert (
        "f0",
        "spec.requires: leads to more than 256 evaluations of other flags; shorten the chain of requirements",
    ) in relations(**chain)


def test_the_crd_is_structural_and_keeps_what_is_free_form():
    spec = yaml.safe_load(crd_yaml(KIND))["spec"]
    fields = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    assert spec["names"]["shortNames"] == ["ff"]
    assert [column["name"] for column in spec["versions"][0]["additionalPrinterColumns"]][:2] == ["State", "Default"]
    assert fields["targeting"]["x-kubernetes-preserve-unknown-fields"] is True
    assert fields["targeting"]["type"] == "object"
    assert fields["variants"]["additionalProperties"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert fields["state"]["default"] == "ENABLED"
    assert fields["schedule"]["properties"].keys() == {"from", "until"}


def test_the_settings_of_the_set_stand_in_the_profile():
    section = BLOCK.section
    settings = msgspec.convert({"fractional": "v3", "metadata": {"flagSetId": "shop"}}, section.model)

    assert section.compile(settings) == {"fractional": "v3", "metadata": {"flagSetId": "shop"}, "nullVariant": True}
    bad = msgspec.convert({"metadata": {"a": {"b": 1}}}, section.model)
    assert [v.path for v in section.check(bad, "spec.flags")] == ["spec.flags.metadata.a"]


operators = st.sampled_from([*sorted(OPERATORS), "$ref", "nope"])
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(("on", "off", "blue", "email", "1.2.3", ""))
)
rules = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(operators, st.lists(inner, max_size=4) | inner, min_size=1, max_size=1)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=25,
)
contexts = st.dictionaries(st.sampled_from(("email", "on", "targetingKey")), leaves, max_size=3)


@given(st.dictionaries(operators, st.lists(rules, max_size=4), min_size=1, max_size=1), st.lists(contexts, max_size=4))
def test_what_admission_accepts_never_fails_to_parse(targeting, given_contexts):
    """Soundness: an accepted rule has no unknown operator, and results that are written in it name variants."""
    if check(flag(targeting)).resource is None:
        return
    program = compile_rule(targeting, "flag", "v2")
    for context in given_contexts:
        program.meter.left = MAX_STEPS
        result = program.program({**context, "$flagd": {"flagKey": "flag", "timestamp": 1}})
        if isinstance(result, bool) or result == "blue":
            # It came out of an attribute, or out of an operator that computes it: never out of a branch as written.
            assert any(op in str(targeting) for op in ("var", "reduce", "substr", "cat"))


@given(rules)
def test_admission_answers_whatever_it_is_given(targeting):
    for violation in check(flag(targeting)).violations:
        assert violation.path.startswith("spec")
        assert violation.fix
