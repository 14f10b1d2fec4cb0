"""RateLimitPolicy: what is wrong with one, and what becomes of it in a snapshot.

The schema says what a field may hold; this module adds what it means: networks and durations that can be read, statements that can hold
together, limits that are told apart.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pillion.kinds.definition import BlockDefinition, Column, Kind, OwnCondition, ProfileSection
from pillion.kinds.model import JSON
from pillion.kinds.quantities import NANOSECONDS, parse_duration
from pillion.kinds.violations import FieldPath, Violation, at
from pillion.ratelimit.addresses import parse_network
from pillion.ratelimit.compiled import (
    CompiledLimit,
    CompiledPolicy,
    CompiledRule,
    CompiledSettings,
    Condition,
    KeyPart,
)
from pillion.ratelimit.manifest import (
    ATTRIBUTE_PATTERN,
    TESTS,
    AddressPart,
    Limit,
    Matcher,
    RateLimitPolicySpec,
    RateLimitRule,
    RateLimitSection,
)
from pillion.ratelimit.matching import MalformedAttribute, predicate

LONGEST_PERIOD: Final = 365 * NANOSECONDS["d"]

_ATTRIBUTE = re.compile(ATTRIBUTE_PATTERN.removesuffix("$"), re.ASCII)


def check(spec: RateLimitPolicySpec, path: FieldPath) -> Iterable[Violation]:
    """Yield what the schema cannot say about a policy."""
    for index, rule in enumerate(spec.rules_):
        here = at(path, "rules", index)
        yield from _check_matchers(rule.match, at(here, "match"))
        yield from _check_together(rule.match, at(here, "match"))
        yield from _check_key(rule, at(here, "key"))
        yield from _check_limits(rule.limits, at(here, "limits"))
    yield from _check_matchers(spec.bypass, at(path, "bypass"))
    yield from _check_matchers(spec.deny, at(path, "deny"))


def _check_matchers(matchers: Sequence[Matcher], path: FieldPath) -> Iterable[Violation]:
    for index, matcher in enumerate(matchers):
        if matcher.cidr is not None:
            try:
                parse_network(matcher.cidr)
            except ValueError as error:
                rule, _, fix = str(error).partition("; ")
                yield Violation(path=at(path, index, "cidr"), value=matcher.cidr, rule=rule, fix=fix)


def _check_together(matchers: Sequence[Matcher], path: FieldPath) -> Iterable[Violation]:
    """Find statements about one attribute that cannot all hold: such a rule would silently never apply."""
    for index, matcher in enumerate(matchers):
        others = [other for other in matchers[:index] if other.attribute == matcher.attribute]
        if others and not _can_hold([*others, matcher]):
            yield Violation(
                path=at(path, index),
                value=msgspec.to_builtins(_condition(matcher).value),
                rule=f'can never hold together with what stands above about "{matcher.attribute}", so the rule would never apply',
                fix="remove one of them, use `in` for alternatives, or write two rules",
            )


def _can_hold(matchers: Sequence[Matcher]) -> bool:
    """Tell whether some value can satisfy all; where no value is named there is nothing to try, and the answer is yes."""
    absent = [matcher.present is False for matcher in matchers]
    if any(absent):
        return all(absent)
    named = [value for matcher in matchers for value in (matcher.in_ or ([matcher.exact] if matcher.exact else []))]
    return not named or any(all(_holds(matcher, value) for matcher in matchers) for value in named)


def _holds(matcher: Matcher, value: str) -> bool:
    try:
        return predicate(_condition(matcher))({matcher.attribute: value})
    except MalformedAttribute:
        return False
    except ValueError:
        return True  # a network that cannot be read is told elsewhere


def _check_key(rule: RateLimitRule, path: FieldPath) -> Iterable[Violation]:
    absent = {matcher.attribute for matcher in rule.match if matcher.present is False}
    seen: set[str] = set()
    for index, part in enumerate(rule.key):
        name = part if isinstance(part, str) else part.attribute
        here = at(path, index) if isinstance(part, str) else at(path, index, "attribute")
        if not _ATTRIBUTE.fullmatch(name) or len(name) > 128:
            yield Violation(
                path=here,
                value=name,
                rule="is no name of an attribute",
                fix="begin with a letter and go on with letters, digits and _ . : -, at most 128 in all",
            )
        if name in seen:
            yield Violation(path=here, value=name, rule="stands twice in this key", fix="remove one")
        if name in absent:
            yield Violation(
                path=here,
                value=name,
                rule="is absent by `present: false` of this rule's match, so the rule would never apply",
                fix="count by another attribute",
            )
        seen.add(name)


def _check_limits(limits: Sequence[Limit], path: FieldPath) -> Iterable[Violation]:
    seen: set[tuple[str, int, int]] = set()
    for index, limit in enumerate(limits):
        period = parse_duration(limit.per)
        if not 0 < period <= LONGEST_PERIOD:
            yield Violation(
                path=at(path, index, "per"),
                value=limit.per,
                rule="is not allowed (minimum 1ms, maximum 365d)",
                fix='did you mean "1s"?' if period == 0 else "use a shorter period with fewer requests",
            )
        # What tells counters apart, see `counters.identity_of`: two such limits would charge one counter twice.
        identity = (limit.algorithm, period, limit.requests if limit.algorithm == "gcra" else 0)
        if identity in seen:
            yield Violation(
                path=at(path, index),
                value=f"{limit.requests} per {limit.per}",
                rule="says the same as a limit above it",
                fix="keep the stricter one",
            )
        seen.add(identity)


def compile_policy(_name: str, spec: RateLimitPolicySpec) -> JSON:
    """Give a policy as the engine reads it."""
    compiled = CompiledPolicy(
        rules=tuple(_rule(rule) for rule in spec.rules_),
        bypass=tuple(_condition(matcher) for matcher in spec.bypass),
        deny=tuple(_condition(matcher) for matcher in spec.deny),
    )
    return msgspec.to_builtins(compiled)


def _rule(rule: RateLimitRule) -> CompiledRule:
    return CompiledRule(
        name=rule.name,
        match=tuple(_condition(matcher) for matcher in rule.match),
        key=tuple(_key_part(part) for part in rule.key),
        limits=tuple(_limit(limit) for limit in rule.limits),
        percent=rule.enforcement.percent if rule.enforcement.mode == "enforce" else 0,
    )


def _limit(limit: Limit) -> CompiledLimit:
    return CompiledLimit(
        algorithm=limit.algorithm,
        requests=limit.requests,
        per_ns=parse_duration(limit.per),
        burst=limit.burst or limit.requests,
    )


def _key_part(part: str | AddressPart) -> KeyPart:
    if isinstance(part, str):
        return KeyPart(attribute=part)
    return KeyPart(attribute=part.attribute, ipv6_prefix=part.ipv6_prefix)


def _condition(matcher: Matcher) -> Condition:
    given = ((test, getattr(matcher, "in_" if test == "in" else test)) for test in TESTS)
    test, value = next((test, value) for test, value in given if value is not None)
    return Condition(attribute=matcher.attribute, test=test, value=value)


def compile_settings(section: RateLimitSection) -> JSON:
    """Give the section as the service reads it."""
    return msgspec.to_builtins(CompiledSettings(max_keys=section.max_keys, trusted_hops=section.trusted_hops))


def summarize(spec: RateLimitPolicySpec) -> Mapping[str, JSON]:
    """Give the figures of `kubectl get`."""
    enforcing = sum(rule.enforcement.mode == "enforce" and rule.enforcement.percent > 0 for rule in spec.rules_)
    return {"rules": len(spec.rules_), "enforcing": enforcing}


RATE_LIMIT_POLICY: Final = Kind(
    kind="RateLimitPolicy",
    plural="ratelimitpolicies",
    short_names=("rlp",),
    summary="How often who may do what: rules by which sidecars allow or refuse requests.",
    spec=RateLimitPolicySpec,
    check=check,
    compile=compile_policy,
    columns=(
        Column(name="Rules", json_path=".status.rules", type="integer", description="Rules of the policy."),
        Column(
            name="Enforcing",
            json_path=".status.enforcing",
            type="integer",
            description="Rules that refuse requests; the others are shadows.",
        ),
    ),
    conditions={
        "Shadowing": OwnCondition(summary="True while some of its rules only count instead of refusing."),
    },
    summarize=summarize,
    status_schema={
        "rules": {"type": "integer", "format": "int64", "description": "Rules of the policy."},
        "enforcing": {
            "type": "integer",
            "format": "int64",
            "description": "Rules that refuse requests; the others are shadows.",
        },
    },
)

BLOCK: Final = BlockDefinition(
    name="ratelimit",
    kinds=(RATE_LIMIT_POLICY,),
    section=ProfileSection(
        field="ratelimit",
        model=RateLimitSection,
        description="Bounds of rate limiting.",
        compile=compile_settings,
    ),
)
