"""What a sidecar has to say about its resources, put together from what blocks say themselves and from what is wrong with the sidecar. Pure.

A block knows which of its resources fare badly; a full disk or a crashed task concerns all of a block's resources and is only known as a condition of the sidecar.
Both become reports about resources here, in a fixed order and without repetition, so that a report is sent when something has changed and not otherwise. What concerns
all resources of a kind is one report; a block's own word about all of them goes before a general one.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from pillion.kinds.exchange import MAX_MESSAGE, ConditionReport
from pillion.kinds.profile import PROFILE_KIND
from pillion.runtime.conditions import Condition

_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_REASON_MAX: Final = 128

Resources = Mapping[str, Collection[str]]
"""Names by kind."""


def together(
    own: Iterable[ConditionReport], wrong: Iterable[Condition], resources: Mapping[str, Resources], profile: str
) -> tuple[ConditionReport, ...]:
    """Put all reports of one sidecar together.

    Args:
        own: what the blocks say.
        wrong: what is wrong with the sidecar; the name of a block's condition begins with the block's name and a colon.
        resources: the resources that run, by block.
        profile: the SidecarProfile in force; empty where there is none.
    """
    found = {(one.kind, one.name, one.type, one.reason): one for one in own}
    spoken_for = {one.kind for one in found.values() if one.degrades and not one.name}
    for condition in wrong:
        block, _, matter = condition.name.partition(":")
        concerned = [(kind, "") for kind, names in resources.get(block, {}).items() if names]
        if profile:
            concerned.append((PROFILE_KIND, profile))
        for kind, name in concerned:
            if kind not in spoken_for:
                reason = reason_of(matter if block in resources else condition.name)
                report = ConditionReport(
                    kind=kind, name=name, reason=reason, message=condition.message[:MAX_MESSAGE], degrades=True
                )
                found.setdefault((kind, name, "", reason), report)
    return tuple(found[key] for key in sorted(found))


def reason_of(name: str) -> str:
    """Give the name of a condition as one CamelCase word, as in `StoreFull` for `store full`."""
    word = "".join(part[0].upper() + part[1:] for part in _WORDS.findall(name)).lstrip("0123456789")
    return word[:_REASON_MAX] or "SidecarTrouble"
