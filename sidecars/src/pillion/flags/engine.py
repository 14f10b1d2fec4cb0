"""Flags that evaluate: a definition becomes a `Flag`, all flags of a sidecar a `Ruleset`.

Every answer that a flag can give is made beforehand, as an `Outcome`; an evaluation only decides which one it is. So whoever serves flags can
encode each answer once. Evaluation follows flagd: disabled, then static, then targeting, whose result names a variant or, if null, leaves the
default variant; a flag without one leaves the caller's own default. Unmet requirements lead to the default variant as well.

Pure: the context and the time come in as arguments, and nothing is changed. `Flag.evaluate` never raises.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from pillion.flags.bucketing import Generation
from pillion.flags.coercion import MAX_STEPS, Exceeded, Meter, number_text
from pillion.flags.compiler import compile_rule
from pillion.flags.program import FLAGD, Observer, Program, Reads, TooLarge, UnknownOperator
from pillion.kinds.model import JSON
from pillion.kinds.violations import show

Reason = Literal["STATIC", "DEFAULT", "TARGETING_MATCH", "DISABLED", "ERROR"]
"""Why a flag gave its answer, in OpenFeature's words. flagd calls a percentage split a targeting match too, never SPLIT."""

ErrorCode = Literal["", "PARSE_ERROR", "GENERAL"]
"""What kind of error, in OpenFeature's words; empty for none."""

MAX_CHAIN: Final = 256
"""Evaluations that one flag may cause through its requirements, directly and indirectly."""


class Requirement(msgspec.Struct, frozen=True):
    """Another flag that must resolve to a variant before targeting counts."""

    flag: str
    variant: str


class Definition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A flag as the snapshot holds it.

    Args:
        key: what applications ask for.
        variants: values by name, all of one type.
        state: DISABLED leaves the caller's own default.
        default_variant: what is served when targeting does not decide; None leaves the caller's own default.
        targeting: the rule, with schedules compiled into it; None or empty serves the default variant always.
        metadata: what answers carry along.
        requires: flags that must resolve to a variant first.
        expires: seconds since the epoch after which the flag should be gone; 0 for never.
    """

    key: str
    variants: dict[str, JSON]
    state: Literal["ENABLED", "DISABLED"] = "ENABLED"
    default_variant: str | None = None
    targeting: JSON = None
    metadata: dict[str, JSON] = {}
    requires: tuple[Requirement, ...] = ()
    expires: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One answer of a flag.

    Args:
        index: its place among the flag's outcomes; errors that name a computed value share the last place.
        reason: why.
        variant: the variant; None where the caller's own default counts.
        value: its value; UNSET likewise.
        error_code: what kind of error; empty for none.
        error_details: what is wrong and the fix.
        unmet: key of the requirement that is not met; empty for none.
    """

    index: int
    reason: Reason
    variant: str | None = None
    value: JSON = msgspec.UNSET
    error_code: ErrorCode = ""
    error_details: str = ""
    unmet: str = ""


class Flag:
    """One flag, ready to evaluate.

    Args:
        definition: the flag.
        generation: how bucketing values become hashes.
        required: the flags that it requires, in the order of the definition; None for one that does not exist.
        observer: told about every step of an evaluation.

    `outcomes` are all its answers, `reads` what it reads of a context, `reads_time` says that its answer may change as time passes, `chain` is how
    many evaluations one of it may cause, and `fingerprint` changes whenever the definition does.
    """

    def __init__(
        self,
        definition: Definition,
        generation: Generation,
        required: tuple["Flag | None", ...] = (),
        observer: Observer | None = None,
    ) -> None:
        self.definition = definition
        self.required = required
        self.fingerprint = msgspec.json.encode(definition)
        self.chain: int = 1 + sum(other.chain for other in required if other is not None)
        self.reads = Reads()
        self._outcomes: list[Outcome] = []
        self._program: Program | None = None
        self._meter = Meter()
        self._matches: dict[str, Outcome] = {}
        self._unmet: tuple[tuple[Flag | None, str, Outcome], ...] = ()
        self._fixed = self._settle(generation, observer)
        self._failed = self._outcome("ERROR", error_code="GENERAL")
        self.outcomes = tuple(self._outcomes)
        self.reads_time: bool = self.reads.flagd or any(other is not None and other.reads_time for other in required)

    def _settle(self, generation: Generation, observer: Observer | None) -> Outcome | None:
        """Prepare all outcomes; gives the one that is always the answer, if there is one."""
        flag = self.definition
        if flag.state == "DISABLED":
            return self._outcome("DISABLED")
        if not flag.targeting:
            return self._default("STATIC")
        if self.chain > MAX_CHAIN:
            details = f"the requirements lead to more than {MAX_CHAIN} evaluations; shorten the chain"
            return self._outcome("ERROR", error_code="PARSE_ERROR", error_details=details)
        try:
            compiled = compile_rule(flag.targeting, flag.key, generation, observer)
        except TooLarge as error:
            details = f"the targeting {error}; split it"
            return self._outcome("ERROR", error_code="PARSE_ERROR", error_details=details)
        self._program, self._meter, self.reads = compiled
        for other in self.required:
            if other is not None:
                self.reads.names |= other.reads.names
                self.reads.everything |= other.reads.everything
        self._otherwise = self._default("DEFAULT")
        self._matches = {
            name: self._outcome("TARGETING_MATCH", variant=name, value=value) for name, value in flag.variants.items()
        }
        self._unmet = tuple(
            (other, requirement.variant, self._default("DEFAULT", unmet=requirement.flag))
            for requirement, other in zip(flag.requires, self.required, strict=True)
        )
        return None

    def _outcome(
        self,
        reason: Reason,
        *,
        variant: str | None = None,
        value: JSON = msgspec.UNSET,
        error_code: ErrorCode = "",
        error_details: str = "",
        unmet: str = "",
    ) -> Outcome:
        outcome = Outcome(
            index=len(self._outcomes),
            reason=reason,
            variant=variant,
            value=value,
            error_code=error_code,
            error_details=error_details,
            unmet=unmet,
        )
        self._outcomes.append(outcome)
        return outcome

    def _default(self, reason: Reason, unmet: str = "") -> Outcome:
        flag = self.definition
        name = flag.default_variant
        if not name:
            return self._outcome("DEFAULT", unmet=unmet)
        if name not in flag.variants:
            details = f"the default variant {show(name)} is none of the flag's variants"
            return self._outcome("ERROR", error_code="GENERAL", error_details=details)
        return self._outcome(reason, variant=name, value=flag.variants[name], unmet=unmet)

    def evaluate(self, context: Mapping[str, JSON], now: int) -> Outcome:
        """Decide which outcome *context* leads to.

        Args:
            context: attributes of the subject, `targetingKey` among them.
            now: seconds since the epoch.
        """
        program = self._program
        if program is None:
            return self._fixed or self._failed
        for other, variant, outcome in self._unmet:
            if other is None or other.evaluate(context, now).variant != variant:
                return outcome
        data = {**context, FLAGD: {"flagKey": self.definition.key, "timestamp": now}} if self.reads.flagd else context
        self._meter.left = MAX_STEPS
        try:
            result = program(data)
            if result is None:
                return self._otherwise
            if type(result) is str:
                found = self._matches.get(result)
            elif type(result) is bool:
                found = self._matches.get("true" if result else "false")
            else:
                found = self._matches.get(number_text(result)) if type(result) in (int, float) else None
            return found or self._error(f"targeting resolved to {_shown(result)}, which is none of the flag's variants")
        except Exceeded as error:
            return self._error(f"{error}; simplify it, or send a smaller context")
        except UnknownOperator as error:
            return self._error(str(error), "PARSE_ERROR")
        except Exception as error:  # noqa: BLE001 - one flag must never take the others of a bulk answer with it
            return self._error(f"targeting failed ({type(error).__name__})")

    def _error(self, details: str, code: ErrorCode = "GENERAL") -> Outcome:
        return Outcome(index=self._failed.index, reason="ERROR", error_code=code, error_details=details)


def _shown(result: JSON) -> str:
    """Write a result for an error; lists and objects by type alone, because they may be huge."""
    if type(result) is list:
        return "a list"
    return "an object" if type(result) is dict else show(result)


class Ruleset:
    """All flags of a sidecar.

    Args:
        flags: the flags by key.
        metadata: what answers of every flag carry along; a flag's own wins.
        generation: how bucketing values become hashes.
        revision: changes whenever an answer may change.
    """

    def __init__(
        self, flags: Mapping[str, Flag], metadata: Mapping[str, JSON], generation: Generation, revision: str
    ) -> None:
        self.flags = flags
        self.metadata = metadata
        self.generation = generation
        self.revision = revision
        self.reads_everything = any(flag.reads.everything for flag in flags.values())
        self.reads = frozenset(name for flag in flags.values() for name in flag.reads.names)

    def attributes(self, context: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Give the part of *context* that answers can depend on."""
        if self.reads_everything:
            return {name: value for name, value in context.items() if name != FLAGD}
        return {name: context[name] for name in self.reads if name in context}


def build_flags(
    definitions: Iterable[Definition], generation: Generation, known: Mapping[str, Flag] | None = None
) -> Iterator[Flag]:
    """Build flags in the order of their requirements, one at a time, so that the caller may pause in between.

    A flag that requires itself, directly or not, finds that requirement missing, and so unmet.

    Args:
        definitions: the flags, one per key.
        generation: how bucketing values become hashes.
        known: flags of before, of the same generation; those whose definition has not changed are taken over.
    """
    wanted = {definition.key: definition for definition in definitions}
    done: dict[str, Flag] = {}
    for key in wanted:
        for due in _in_order(key, wanted, done):
            definition = wanted[due]
            required = tuple(done.get(requirement.flag) for requirement in definition.requires)
            old = known.get(due) if known else None
            if old is None or old.required != required or old.fingerprint != msgspec.json.encode(definition):
                old = Flag(definition, generation, required)
            done[due] = old
            yield old


def _in_order(key: str, wanted: Mapping[str, Definition], done: Mapping[str, Flag]) -> Iterator[str]:
    """Yield *key* and what it requires, requirements first; what is done already, or is being visited above, is passed over."""
    stack, visiting = [(key, False)], set[str]()
    while stack:
        current, ready = stack.pop()
        if ready:
            visiting.discard(current)
            yield current
        elif current not in done and current not in visiting:
            visiting.add(current)
            stack.append((current, True))
            stack += [(need.flag, False) for need in wanted[current].requires if need.flag in wanted]
