"""The decision: may this request pass, what does that leave, and when is there more.

Every limit keeps one integer per key, its level (see `counters.py`). A request of cost c is admitted when

    max(level, floor) + c * unit  <=  floor + capacity

where `floor` is what the limit's clock reads now, `unit` what one request costs on it and `capacity` what may be spent ahead. For GCRA with
R requests per P nanoseconds and burst B the clock is time * R, the unit P, the capacity B * P; for a fixed window the clock jumps once per
window, the unit is 1 and the capacity R. Multiplying time by R, instead of dividing P by R, is what makes it exact: all values are integers.

Promises: every matching enforced rule must allow, and then all are charged, else none is (a denial writes nothing); a shadow rule is charged
when the request passes and it would have allowed it too; a peek writes nothing; time that stands still or goes back never grants quota.
It knows no clock, no wire and no metrics library.
"""

from collections.abc import Mapping, Sequence
from typing import final

import msgspec

from pillion.kinds.quantities import format_duration
from pillion.ratelimit.compiled import CompiledPolicy, CompiledRule
from pillion.ratelimit.counters import Counters, Identity, Table, identity_of
from pillion.ratelimit.decisions import NEVER, UNLIMITED, Decision, Limit, Reading, passed, refused
from pillion.ratelimit.matching import Attributes, Key, KeyOf, Predicate, every, in_share, key_of, some


class UnknownPolicy(LookupError):  # noqa: N818 - says what happened
    """A request names a policy that this sidecar does not have."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = tuple(known)


@final
class Tally:
    """Decisions of one policy since the start of the process; they outlive changes of the policy."""

    __slots__ = ("allowed", "limited", "shadowed")

    def __init__(self) -> None:
        self.allowed = 0
        """Requests that it applied to and that passed."""
        self.limited = 0
        """Requests that it refused."""
        self.shadowed = 0
        """Requests that passed although a shadow rule of it would have refused them."""


@final
class Rule:
    """One rule, ready to be asked."""

    __slots__ = ("identity", "key", "limits", "matches", "percent", "single", "tally")

    def __init__(self, policy: str, rule: CompiledRule, limits: tuple[Limit, ...], tally: Tally) -> None:
        self.identity = f"{policy}/{rule.name}"
        self.matches: Predicate | None = every(rule.match)
        self.key: KeyOf = key_of(rule.key)
        self.limits = limits
        self.percent = rule.percent
        self.tally = tally
        self.single = len(limits) == 1 and rule.percent == 100
        """Whether it has exactly one limit and enforces it on everybody."""

    def enforced_on(self, key: Key) -> bool:
        """Tell whether it is enforced on *key*, or only observes it."""
        return self.percent == 100 or (self.percent > 0 and in_share(self.identity, key, self.percent))


@final
class Policy:
    """One policy, ready to be asked."""

    __slots__ = ("bypass", "deny", "name", "rules", "tally")

    def __init__(self, name: str, policy: CompiledPolicy, rules: tuple[Rule, ...], tally: Tally) -> None:
        self.name = name
        self.deny: Predicate | None = some(policy.deny)
        self.bypass: Predicate | None = some(policy.bypass)
        self.rules = rules
        self.tally = tally


Plan = list[tuple[Rule, Key]] | Policy
"""What a request has to pass: the rules that apply to it, each with its key; or the policy whose deny list it stands on."""


@final
class Engine:
    """All policies of a sidecar. Build one per configuration and `adopt` it to make it count.

    Args:
        policies: compiled policies by name.
        counters: the memory; tables of unchanged limits are taken over.
        tallies: decisions so far by policy; those of unknown policies start at zero.

    Raises:
        ValueError: a policy holds a condition that cannot be read.
    """

    def __init__(
        self, policies: Mapping[str, CompiledPolicy], counters: Counters, tallies: Mapping[str, Tally] | None = None
    ) -> None:
        self.limits: list[Limit] = []
        self.tallies = {name: (tallies or {}).get(name) or Tally() for name in policies}
        self._counters = counters
        self._tables: dict[Identity, Table] = {}
        self._all = tuple(self._policy(name, policy) for name, policy in sorted(policies.items()))
        self._selections: dict[str | None, tuple[Policy, ...]] = {policy.name: (policy,) for policy in self._all}
        self._selections[None] = self._all

    def _policy(self, name: str, policy: CompiledPolicy) -> Policy:
        tally = self.tallies[name]
        rules = tuple(Rule(name, rule, self._limits(name, rule), tally) for rule in policy.rules)
        return Policy(name, policy, rules, tally)

    def _limits(self, policy: str, rule: CompiledRule) -> tuple[Limit, ...]:
        found = []
        for limit in rule.limits:
            identity = identity_of(policy, rule.name, rule.key, limit)
            table = self._tables.setdefault(identity, self._counters.table(identity))
            name = f"{policy}/{rule.name}"
            if len(rule.limits) > 1:
                name += f"/{limit.requests}-per-{format_duration(limit.per_ns)}"
            found.append(Limit(policy, rule.name, limit, name=name, index=len(self.limits), table=table))
            self.limits.append(found[-1])
        return tuple(found)

    def adopt(self) -> None:
        """Make the counters of this engine the ones that are kept; those of an engine before it are withdrawn unless shared."""
        self._counters.adopt(self._tables)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """All policies, by name."""
        return self._all

    def check(self, policy: str | None, attributes: Attributes, cost: int, now: int, *, peek: bool = False) -> Decision:
        """Decide on one request.

        Args:
            policy: the policy to ask; None asks all, and every one must allow.
            attributes: what the request says about itself.
            cost: how much quota it takes, at least 1.
            now: nanoseconds since the Unix epoch; must not go back.
            peek: tell, but charge nothing.

        Raises:
            UnknownPolicy: there is no such policy.
            MalformedAttribute: a rule cannot read a value. Nothing was charged.
        """
        return self.decide(self.plan(policy, attributes), cost, now, peek=peek)

    def plan(self, policy: str | None, attributes: Attributes) -> Plan:
        """Find what a request has to pass; changes nothing. See `check` for arguments and errors."""
        try:
            selection = self._selections[policy]
        except KeyError:
            raise UnknownPolicy(policy or "", [one.name for one in self._all]) from None
        found = []
        for one in selection:
            if one.deny is not None and one.deny(attributes):
                return one
            if one.bypass is not None and one.bypass(attributes):
                continue
            for rule in one.rules:
                if rule.matches is None or rule.matches(attributes):
                    key = rule.key(attributes)
                    if key is not None:
                        found.append((rule, key))
        return found

    def decide(self, plan: Plan, cost: int, now: int, *, peek: bool = False) -> Decision:
        """Decide on a request whose plan is known, and charge it. See `check` for arguments."""
        if isinstance(plan, Policy):
            if not peek:
                plan.tally.limited += 1
            return Decision(False, None, 0, 0, NEVER, NEVER, (), denied_by=plan.name)
        if len(plan) == 1:
            rule, key = plan[0]
            if rule.single:
                return self._single(rule, key, cost, now, peek)
        return self._several(plan, cost, now, peek) if plan else UNLIMITED

    def _single(self, rule: Rule, key: Key, cost: int, now: int, peek: bool) -> Decision:  # noqa: FBT001 - hot path
        """Decide where one limit has a say: what `_several` does, without its lists. Most requests come here."""
        limit = rule.limits[0]
        shard = limit.shards[hash(key) & limit.mask]
        level = shard.get(key, 0)
        scale = limit.scale
        step = limit.step
        unit = limit.unit
        floor = now // step * scale
        base = level if level > floor else floor  # noqa: FURB136 - max() takes three times as long
        after = base + unit * cost
        spare = floor + limit.capacity - after
        if spare >= 0 and not peek:
            shard[key] = after
            if not level:
                self._counters.added(limit.table, now)
            rule.tally.allowed += 1
            remaining, rest = divmod(spare, unit)
            return Decision(
                True,
                limit,
                remaining,
                -(-after // scale) * step - now,
                0,
                -((rest - unit - floor) // scale) * step - now,
                limit.alone,
            )
        reading = Reading(limit, key, base, after, floor + limit.capacity, True)
        if spare >= 0:
            return passed([reading], now, peek=True)
        if not peek:
            rule.tally.limited += 1
        return refused([reading], [reading], now)

    def _several(self, plan: Sequence[tuple[Rule, Key]], cost: int, now: int, peek: bool) -> Decision:  # noqa: FBT001 - hot path
        """Decide where several limits have a say: read all, then charge all or none."""
        readings = []
        clear = not peek
        for rule, key in plan:
            enforced = rule.percent == 100 or rule.enforced_on(key)
            for limit in rule.limits:
                level = limit.shards[hash(key) & limit.mask].get(key, 0)
                floor = now // limit.step * limit.scale
                base = level if level > floor else floor  # noqa: FURB136 - max() takes three times as long
                after = base + limit.unit * cost
                ceiling = floor + limit.capacity
                clear = clear and enforced and after <= ceiling
                readings.append(Reading(limit, key, base, after, ceiling, enforced))
        if clear:
            for reading in readings:
                self._charge(reading, now)
            for tally in {rule.tally for rule, _ in plan}:
                tally.allowed += 1
            return passed(readings, now, peek=False)
        enforced_readings = [reading for reading in readings if reading.enforced]
        if violated := [reading for reading in enforced_readings if not reading.fits]:
            if not peek:
                for policy in {reading.limit.policy for reading in violated}:
                    self.tallies[policy].limited += 1
            return refused(violated, enforced_readings, now)
        shadowed = [reading for reading in readings if not reading.fits]
        if not peek:
            spared = {(reading.limit.policy, reading.limit.rule) for reading in shadowed}
            for reading in readings:
                if (reading.limit.policy, reading.limit.rule) not in spared:
                    self._charge(reading, now)
            for tally in {rule.tally for rule, _ in plan}:
                tally.allowed += 1
            for policy in {reading.limit.policy for reading in shadowed}:
                self.tallies[policy].shadowed += 1
        outcome = passed(enforced_readings, now, peek=peek) if enforced_readings else UNLIMITED
        if not shadowed:
            return outcome
        told = refused(shadowed, (), now)
        return msgspec.structs.replace(told, allowed=True, shadow=True, applied=outcome.applied, enforced=outcome)

    def _charge(self, reading: Reading, now: int) -> None:
        shard = reading.limit.shards[hash(reading.key) & reading.limit.mask]
        # Asked again, because charging another limit may have evicted this counter to make room.
        known = reading.key in shard
        shard[reading.key] = reading.after
        if not known:
            self._counters.added(reading.limit.table, now)
