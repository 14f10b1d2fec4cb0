"""The resource: what is refused and with which words, what is compiled, and that the schema is what the sidecar enforces."""

import json

import msgspec
import pytest

from pillion.kinds.crd import crd
from pillion.kinds.manifests import read_documents
from pillion.kinds.resource import check_document
from pillion.ratelimit.compiled import CompiledPolicy, CompiledSettings
from pillion.ratelimit.kind import BLOCK, RATE_LIMIT_POLICY, compile_settings
from pillion.ratelimit.manifest import RateLimitSection

KINDS = {"RateLimitPolicy": RATE_LIMIT_POLICY}


def checked(spec):
    indented = "\n".join(f"  {line}" for line in spec.strip().splitlines())
    text = f"apiVersion: pillion.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: shop}}\nspec:\n{indented}\n"
    (document,) = read_documents(text)
    return check_document(document.value, KINDS)


def compiled(spec):
    outcome = checked(spec)
    assert outcome.violations == ()
    canonical = json.loads(json.dumps(RATE_LIMIT_POLICY.compile("shop", outcome.resource.spec)))
    return msgspec.convert(canonical, CompiledPolicy)


WHOLE = """
rules:
- name: per-user
  match: [{attribute: route, prefix: /api/}, {attribute: plan, in: [free, pro]}]
  key: [user, {attribute: ip, ipv6Prefix: 64}]
  limits: [{requests: 100, per: 1m, burst: 20}, {requests: 1000, per: 1h30m, algorithm: fixedWindow}]
  enforcement: {percent: 25}
- name: trial
  limits: [{requests: 5, per: 250ms}]
  enforcement: {mode: shadow}
bypass: [{attribute: role, exact: admin}]
deny: [{attribute: ip, cidr: 192.0.2.0/24}, {attribute: agent, present: false}]
"""


def test_a_policy_is_compiled_to_integers_and_explicit_defaults():
    policy = compiled(WHOLE)

    user, trial = policy.rules
    assert [(one.algorithm, one.requests, one.per_ns, one.burst) for one in user.limits] == [
        ("gcra", 100, 60 * 10**9, 20),
        ("fixedWindow", 1000, 5400 * 10**9, 1000),
    ]
    assert [(part.attribute, part.ipv6_prefix) for part in user.key] == [("user", None), ("ip", 64)]
    assert [(one.attribute, one.test, one.value) for one in user.match] == [
        ("route", "prefix", "/api/"),
        ("plan", "in", ("free", "pro")),
    ]
    assert (user.percent, trial.percent) == (25, 0)
    assert (trial.limits[0].per_ns, trial.limits[0].burst) == (250_000_000, 5)
    assert [(one.test, one.value) for one in policy.deny] == [("cidr", "192.0.2.0/24"), ("present", False)]


def test_the_figures_of_kubectl_get():
    assert RATE_LIMIT_POLICY.summarize(checked(WHOLE).resource.spec) == {"rules": 2, "enforcing": 1}


def test_columns_and_status_belong_together():
    version = crd(RATE_LIMIT_POLICY)["spec"]["versions"][0]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]

    assert [column["name"] for column in version["additionalPrinterColumns"]][:2] == ["Rules", "Enforcing"]
    assert {"rules", "enforcing"} <= set(status)


def test_the_section_of_the_profile_has_the_defaults_of_the_sidecar():
    section = compile_settings(RateLimitSection())

    assert msgspec.convert(section, CompiledSettings) == CompiledSettings()
    assert BLOCK.section.field == "ratelimit"


LIMITS = "limits: [{requests: 5, per: 1m}]"

REFUSED = [
    (
        "rules: [{name: a, match: [{attribute: r, exact: /x}, {attribute: r, exact: /y}], LIMITS}]",
        'spec.rules[0].match[1]: "/y" can never hold together',
    ),
    (
        "rules: [{name: a, match: [{attribute: r, in: [/x, /z]}, {attribute: r, prefix: /y}], LIMITS}]",
        "spec.rules[0].match[1]",
    ),
    (
        "rules: [{name: a, match: [{attribute: ip, exact: here}, {attribute: ip, cidr: 192.0.2.0/24}], LIMITS}]",
        "spec.rules[0].match[1]",
    ),
    (
        "rules: [{name: a, match: [{attribute: r, present: false}, {attribute: r, prefix: /y}], LIMITS}]",
        "spec.rules[0].match[1]",
    ),
    ("rules: [{name: a, match: [{attribute: u, present: false}], key: [u], LIMITS}]", "spec.rules[0].key[0]"),
    ("rules: [{name: a, key: [u, u], LIMITS}]", 'spec.rules[0].key[1]: "u" stands twice'),
    ("rules: [{name: a, key: [u, {attribute: u, ipv6Prefix: 64}], LIMITS}]", "spec.rules[0].key[1].attribute"),
    ("rules: [{name: a, key: ['user id'], LIMITS}]", 'spec.rules[0].key[0]: "user id" is no name of an attribute'),
    ("rules: [{name: a, key: [''], LIMITS}]", "spec.rules[0].key[0]"),
    ("rules: [{name: a, key: [7], LIMITS}]", "spec.rules[0].key[0]"),
    ("rules: [{name: a, key: [{attribute: ip}], LIMITS}]", "ipv6Prefix"),
    ("rules: [{name: a, key: [{attribute: ip, ipv6Prefix: 0}], LIMITS}]", "spec.rules[0].key[0].ipv6Prefix"),
    ("rules: [{name: a, limits: [{requests: 5, per: 400d}]}]", 'spec.rules[0].limits[0].per: "400d" is not allowed'),
    ("rules: [{name: a, limits: [{requests: 5, per: 0s}]}]", 'did you mean "1s"?'),
    (
        "rules: [{name: a, limits: [{requests: 5, per: 60s}, {requests: 5, per: 1m, burst: 9}]}]",
        'spec.rules[0].limits[1]: "5 per 1m" says the same as a limit above it; keep the stricter one',
    ),
    (
        "rules: [{name: a, limits: [{requests: 5, per: 1m, algorithm: fixedWindow}, {requests: 6, per: 1m, algorithm: fixedWindow}]}]",
        "spec.rules[0].limits[1]",
    ),
    (
        "rules: [{name: a, limits: [{requests: 5, per: 1m, burst: 9, algorithm: fixedWindow}]}]",
        "spec.rules[0].limits[0].burst: 9 burst belongs to gcra",
    ),
    (
        "rules: [{name: a, LIMITS, enforcement: {mode: shadow, percent: 5}}]",
        "spec.rules[0].enforcement.percent: 5 percent belongs to the mode enforce",
    ),
    (
        "rules: [{name: a, match: [{attribute: ip, cidr: 192.0.2.7/24}], LIMITS}]",
        'has bits set beyond its prefix; did you mean "192.0.2.0/24"?',
    ),
    ("rules: [{name: a, LIMITS}]\nbypass: [{attribute: ip, cidr: x}]", "spec.bypass[0].cidr"),
    ("rules: [{name: a, LIMITS}]\ndeny: [{attribute: ip, cidr: x}]", "spec.deny[0].cidr"),
    ("rules: [{name: a, match: [{attribute: r, exact: x, in: [x]}], LIMITS}]", "exactly one of"),
]


@pytest.mark.parametrize(("spec", "says"), REFUSED)
def test_a_bad_policy_is_refused_with_field_value_and_fix(spec, says):
    outcome = checked(spec.replace("LIMITS", LIMITS))

    assert outcome.resource is None
    assert any(says in violation.message for violation in outcome.violations), outcome.violations


FINE = [
    "rules: [{name: a, LIMITS}]",
    "rules: [{name: a, match: [{attribute: r, prefix: /a}, {attribute: r, suffix: /b}], LIMITS}]",
    "rules: [{name: a, match: [{attribute: r, in: [/x, /yy]}, {attribute: r, prefix: /y}], LIMITS}]",
    "rules: [{name: a, match: [{attribute: r, present: false}, {attribute: r, present: false}], LIMITS}]",
    "rules: [{name: a, match: [{attribute: u, present: false}], key: [ip], LIMITS}]",
    "rules: [{name: a, limits: [{requests: 5, per: 1m}, {requests: 6, per: 1m}, {requests: 5, per: 1m, algorithm: fixedWindow}]}]",
    "rules: [{name: a, LIMITS, enforcement: {mode: shadow}}, {name: b, LIMITS, enforcement: {mode: enforce, percent: 0}}]",
]


@pytest.mark.parametrize("spec", FINE)
def test_a_good_policy_is_accepted(spec):
    assert checked(spec.replace("LIMITS", LIMITS)).violations == ()
