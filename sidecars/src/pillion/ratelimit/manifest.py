"""RateLimitPolicy as people write it: the models behind its schema, and the block's section of the SidecarProfile.

Descriptions and docstrings here are what `kubectl explain` prints. What a schema cannot say stands in `kind.py`.
"""

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, field

from pillion.kinds.model import ATOMIC, FREEFORM, DnsLabel, Model, Rule, Spec, list_map
from pillion.kinds.quantities import Duration
from pillion.ratelimit.compiled import CompiledSettings, Test

MAX_COUNT: Final = 1_000_000_000
"""Largest quota and burst; counts of different fixed windows never touch below 2**32."""

ATTRIBUTE_PATTERN: Final = r"^[A-Za-z][-A-Za-z0-9_.:]*$"

TESTS: Final[tuple[Test, ...]] = ("exact", "prefix", "suffix", "glob", "cidr", "present", "in")

_GIVEN: Final = ", ".join(f"has(self.{'__in__' if test == 'in' else test})" for test in TESTS)
"""Which tests are given, in CEL, where the word `in` is escaped as `__in__`."""

AttributeName = Annotated[str, Meta(pattern=ATTRIBUTE_PATTERN, min_length=1, max_length=128)]
"""What a request calls one of its properties: a letter, then letters, digits and `_ . : -`."""

_Text = Annotated[str, Meta(min_length=1, max_length=512)]


class Matcher(Model, frozen=True, kw_only=True):
    """A statement about one attribute of a request. About an attribute that the request does not have, only `present: false` is true."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"[{_GIVEN}].filter(given, given).size() == 1",
            test=lambda o: sum(test in o for test in TESTS) == 1,
            message=f"exactly one of {', '.join(TESTS)} says what the attribute is compared with; write one of them",
        ),
    )

    attribute: Annotated[AttributeName, Meta(description="Name of the attribute, as the request gives it.")]
    exact: Annotated[_Text | None, Meta(description="The whole value, case included.")] = None
    prefix: Annotated[_Text | None, Meta(description="What the value begins with.")] = None
    suffix: Annotated[_Text | None, Meta(description="What the value ends with.")] = None
    glob: Annotated[
        _Text | None,
        Meta(
            description="A pattern for the whole value: * is any text, ? any character, [abc] one of these characters, [!abc] none of them."
        ),
    ] = None
    cidr: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="A network that the value, an IP address, lies in, as in 192.0.2.0/24 or 2001:db8::/32."),
    ] = None
    present: Annotated[bool | None, Meta(description="Whether the request has the attribute at all.")] = None
    in_: Annotated[
        Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=256, extra_json_schema=ATOMIC)] | None,
        Meta(description="Values of which one is the whole value."),
    ] = field(name="in", default=None)


class AddressPart(Model, frozen=True, kw_only=True):
    """A key part whose value is an IP address."""

    attribute: Annotated[AttributeName, Meta(description="Name of the attribute that holds an IP address.")]
    ipv6_prefix: Annotated[
        int,
        Meta(
            ge=1,
            le=128,
            description="Leading bits by which IPv6 addresses are counted as one; a subscriber usually has 64. IPv4 addresses count singly.",
        ),
    ]


class Limit(Model, frozen=True, kw_only=True):
    """How much is allowed in which time."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.algorithm == 'gcra' || !has(self.burst)",
            test=lambda o: o.get("algorithm") == "gcra" or "burst" not in o,
            message="burst belongs to gcra: a fixed window admits its requests whenever they come; remove burst or the algorithm",
            field="burst",
        ),
    )

    requests: Annotated[int, Meta(ge=1, le=MAX_COUNT, description="Requests allowed per period.")]
    per: Annotated[Duration, Meta(description="The period, as in 1s, 15m, 1h or 1d; 1ms to 365d.")]
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_COUNT)] | None,
        Meta(
            description="Requests that may come at one moment after a quiet time; absent means as many as requests. No request may cost more."
        ),
    ] = None
    algorithm: Annotated[
        Literal["gcra", "fixedWindow"],
        Meta(
            description="How quota comes back: gcra continuously; fixedWindow all at once, in windows that are aligned to the Unix epoch, so that up to twice the requests can pass around a boundary."
        ),
    ] = "gcra"


class Enforcement(Model, frozen=True, kw_only=True):
    """Whether a rule acts, or only tells what it would do."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.mode == 'enforce' || self.percent == 100",
            test=lambda o: o.get("mode") == "enforce" or o.get("percent") == 100,
            message="percent belongs to the mode enforce: it is the share of keys on which the rule acts; remove percent or the mode",
            field="percent",
        ),
    )

    mode: Annotated[
        Literal["enforce", "shadow"],
        Meta(
            description="enforce refuses requests; shadow counts and reports what it would have refused, and lets it pass."
        ),
    ] = "enforce"
    percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Share of keys on which enforce acts; the others are shadowed. A key stays on its side.",
        ),
    ] = 100


class RateLimitRule(Model, frozen=True, kw_only=True):
    """Who is limited, counted how, to how much. It applies to requests that have every attribute of its key."""

    name: Annotated[DnsLabel, Meta(description="Name of the rule; answers, headers and metrics use it.")]
    match: Annotated[
        tuple[Matcher, ...],
        Meta(
            max_length=16,
            description="Statements that must all hold for the rule to apply; none means it always applies.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()
    key: Annotated[
        tuple[Annotated[str | AddressPart, Meta(extra_json_schema=FREEFORM)], ...],
        Meta(
            max_length=8,
            description="What is counted apart: names of attributes, or {attribute: ip, ipv6Prefix: 64}. None means one counter for all requests.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()
    limits: Annotated[
        tuple[Limit, ...],
        Meta(min_length=1, max_length=8, description="Limits that must all allow.", extra_json_schema=ATOMIC),
    ]
    enforcement: Annotated[Enforcement, Meta(description="Whether the rule acts, or only tells.")] = Enforcement()


class RateLimitPolicySpec(Spec, frozen=True, kw_only=True):
    """Every matching rule must allow a request; then all of them are charged, else none is."""

    rules_: Annotated[
        tuple[RateLimitRule, ...],
        Meta(min_length=1, max_length=64, description="The rules.", extra_json_schema=list_map("name")),
    ] = field(name="rules")
    bypass: Annotated[
        tuple[Matcher, ...],
        Meta(
            max_length=64,
            description="Statements of which one is enough to leave a request alone.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()
    deny: Annotated[
        tuple[Matcher, ...],
        Meta(
            max_length=64,
            description="Statements of which one is enough to refuse a request for good; deny wins over bypass.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()


class RateLimitSection(Model, frozen=True, kw_only=True):
    """Bounds of the sidecar's rate limiting."""

    max_keys: Annotated[
        int,
        Meta(
            ge=1_000,
            le=10_000_000,
            description="Counters held in memory, some 200 bytes each. When there are more, those with most quota left are forgotten first.",
        ),
    ] = CompiledSettings().max_keys
    trusted_hops: Annotated[
        int,
        Meta(
            ge=0,
            le=16,
            description="Proxies in front whose entry in X-Forwarded-For is believed by /v1/ratelimit/authorize; the client's address is that many entries from the right. 0 takes the address of the connection.",
        ),
    ] = CompiledSettings().trusted_hops
