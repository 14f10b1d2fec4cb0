"""What only shows across the flags of a namespace: keys that are taken, requirements that lead nowhere, in a circle or too far."""

from collections.abc import Iterable, Iterator, Mapping

from pillion.flags.engine import MAX_CHAIN
from pillion.flags.model import FeatureFlagSpec, Requirement
from pillion.kinds.violations import SPEC, FieldPath, Violation, at, did_you_mean


def relate(specs: Mapping[str, FeatureFlagSpec]) -> Iterator[tuple[str, Violation]]:
    """Yield what only shows across flags: keys that are taken, requirements that do not exist, lead in a circle or too far."""
    owners: dict[str, str] = {}
    for name in sorted(specs):
        if specs[name].suspend:
            continue
        key = specs[name].key or name
        if key in owners:
            where = at(SPEC, "key") if specs[name].key else FieldPath("metadata.name")
            yield (
                name,
                Violation(
                    path=where,
                    value=key,
                    rule=f"is the key of FeatureFlag {owners[key]} too",
                    fix="give each flag a key of its own",
                ),
            )
        else:
            owners[key] = name
    chains = _Chains({key: specs[name] for key, name in owners.items()})
    for name in sorted(name for name, spec in specs.items() if not spec.suspend):
        for violation in chains.check(specs[name].key or name, specs[name].requires):
            yield name, violation


class _Chains:
    """Who requires whom."""

    def __init__(self, flags: Mapping[str, FeatureFlagSpec]) -> None:
        self._flags = flags

    def check(self, key: str, requires: Iterable[Requirement]) -> Iterator[Violation]:
        """Yield what is wrong with the requirements of one flag."""
        for index, need in enumerate(requires):
            here = at(SPEC, "requires", index)
            other = self._flags.get(need.flag)
            if other is None:
                others = self._flags.keys() - {key}
                yield Violation(
                    path=at(here, "flag"), value=need.flag, rule="is no flag here", fix=did_you_mean(need.flag, others)
                )
                continue
            if need.variant not in other.variants:
                yield Violation(
                    path=at(here, "variant"),
                    value=need.variant,
                    rule=f"is no variant of {need.flag}",
                    fix=did_you_mean(need.variant, other.variants),
                )
            circle = self._path(need.flag, key)
            if circle:
                yield Violation(
                    path=at(here, "flag"),
                    value=need.flag,
                    rule=f"closes a circle: {' → '.join([key, *circle])}",
                    fix="remove one of the requirements",
                )
                return
        if self._weight(key) > MAX_CHAIN and not self._leads_into_a_circle(key):
            yield Violation(
                path=at(SPEC, "requires"),
                rule=f"leads to more than {MAX_CHAIN} evaluations of other flags",
                fix="shorten the chain of requirements",
            )

    def _needs(self, key: str) -> list[str]:
        return (
            [need.flag for need in self._flags[key].requires if need.flag in self._flags] if key in self._flags else []
        )

    def _path(self, start: str, goal: str) -> list[str]:
        """Give a way from *start* to *goal* along requirements; empty where there is none, or none within the bound."""
        came: dict[str, str] = {start: ""}
        queue = [start]
        for key in queue:
            if key == goal:
                way = [key]
                while came[way[-1]]:
                    way.append(came[way[-1]])
                return way[::-1]
            for other in self._needs(key):
                if other not in came and len(came) <= MAX_CHAIN:
                    came[other] = key
                    queue.append(other)
        return []

    def _leads_into_a_circle(self, key: str) -> bool:
        """Tell whether a flag on the way is part of a circle: then those in it are told, and the others have nothing to correct."""
        return any(self._path(need, other) for other in self._reach(key) for need in self._needs(other))

    def _reach(self, key: str) -> list[str]:
        """Give the keys that *key* requires, directly or not, up to the bound."""
        reached = self._needs(key)
        for other in reached:
            reached += [need for need in self._needs(other) if need not in reached][: MAX_CHAIN - len(reached)]
        return reached

    def _weight(self, key: str) -> int:
        """Count the evaluations that one of *key* causes, up to just over the bound."""
        count, open_keys = 0, [key]
        while open_keys and count <= MAX_CHAIN:
            count += 1
            open_keys += self._needs(open_keys.pop())
        return count
