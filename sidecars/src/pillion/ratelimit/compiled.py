"""A RateLimitPolicy as it stands in a snapshot and as the engine reads it: durations are integers, defaults are explicit.

It lies between `kind.py`, which writes it, and `engine.py`, which reads it, so that neither knows the other. It is an internal form: no
promise is made about it to anybody outside of this block.
"""

from typing import Literal

import msgspec

Test = Literal["exact", "prefix", "suffix", "glob", "cidr", "present", "in"]
"""How a condition looks at the value of its attribute."""

Algorithm = Literal["gcra", "fixedWindow"]
"""`gcra` refills continuously, `fixedWindow` all at once where a new window begins."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A statement about one attribute.

    Args:
        attribute: the attribute's name.
        test: how its value is looked at.
        value: what it is compared with: the alternatives of `in`, a boolean for `present`, else a text.
    """

    attribute: str
    test: Test
    value: str | bool | tuple[str, ...]


class KeyPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of what tells counters apart.

    Args:
        attribute: the attribute whose value it is.
        ipv6_prefix: count the IPv6 addresses that share this many leading bits as one; None takes the value as text.
    """

    attribute: str
    ipv6_prefix: int | None = None


class CompiledLimit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit.

    Args:
        algorithm: how quota comes back.
        requests: quota per period.
        per_ns: the period in nanoseconds.
        burst: the most that can be admitted at one moment; equals `requests` for `fixedWindow`.
    """

    algorithm: Algorithm
    requests: int
    per_ns: int
    burst: int


class CompiledRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Args:
        name: unique in its policy.
        match: conditions that must all hold.
        key: what tells counters apart; empty means one counter for all.
        limits: limits that must all allow.
        percent: share of keys on which the rule is enforced, 0-100; the others are only observed.
    """

    name: str
    match: tuple[Condition, ...]
    key: tuple[KeyPart, ...]
    limits: tuple[CompiledLimit, ...]
    percent: int


class CompiledPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy.

    Args:
        rules: rules; every one that matches must allow.
        bypass: conditions of which one is enough to leave a request alone.
        deny: conditions of which one is enough to refuse a request; wins over `bypass`.
    """

    rules: tuple[CompiledRule, ...]
    bypass: tuple[Condition, ...] = ()
    deny: tuple[Condition, ...] = ()


class CompiledSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The block's section of the SidecarProfile.

    Args:
        max_keys: the most counters that are held in memory.
        trusted_hops: how many of the last entries of X-Forwarded-For were written by proxies that are trusted.
    """

    max_keys: int = 100_000
    trusted_hops: int = 1
