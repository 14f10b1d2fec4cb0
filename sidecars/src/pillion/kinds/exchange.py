"""What operator and sidecar say to each other: one model per message, so that the two ends cannot drift apart.

The operator sends `SnapshotMessage` as the data of a server-sent event; the sidecar answers with an `Acknowledgement`. Both are bounded. Neither
ever shows a Secret value in its repr.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

AUDIENCE: Final = "pillion"
"""Audience of the service-account tokens with which sidecars authenticate; a token for the API server itself is refused."""

STREAM_PATH: Final = "/v1/stream"
ACKNOWLEDGE_PATH: Final = "/v1/acks"

SNAPSHOT_EVENT: Final = "snapshot"
PING_EVENT: Final = "ping"
"""Keeps middleboxes from closing the stream and lets the sidecar notice a dead one."""
BYE_EVENT: Final = "bye"
"""The operator closes the stream on purpose (shutdown, maximum age): connect again at once, nothing is stale."""

PING_SECONDS: Final = 10.0
"""Between two pings. Shorter than the idle limits of common load balancers (60 s) by enough that one may be lost."""
SILENCE_SECONDS: Final = 30.0
"""Without a byte for this long the stream is dead: three pings missed."""

MAX_SNAPSHOT_BYTES: Final = 32 * 1024 * 1024
"""Largest event on the stream. The API server bounds one resource to 1.5 MiB and one Secret to 1 MiB; a namespace beyond this is a mistake."""
MAX_ACKNOWLEDGEMENT_BYTES: Final = 1024 * 1024
"""Largest acknowledgement."""
MAX_MESSAGE: Final = 2048
"""Characters of a message in an acknowledgement."""
MAX_REPORTS: Final = 1000
"""Resources named in one acknowledgement, of each sort."""
MAX_CONDITIONS: Final = 200
"""Matters told in one acknowledgement: replicas of the operator pass them on for all of their sidecars."""

Name = Annotated[str, Meta(max_length=253)]
Text = Annotated[str, Meta(max_length=MAX_MESSAGE)]
Reason = Annotated[str, Meta(max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]


class SnapshotMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration on its way to a sidecar.

    Args:
        document: the canonical JSON of the snapshot, as text; its SHA-256 is the event's id.
        secrets: the values of the Secrets that it refers to, by Secret and key (base64 on the wire).
    """

    document: str
    secrets: dict[str, dict[str, bytes]] = {}

    def __repr__(self) -> str:
        return f"SnapshotMessage(document=<{len(self.document)} characters>, secrets={sorted(self.secrets)})"


class UnreadyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that is applied but cannot work yet in this sidecar."""

    kind: Name
    name: Name
    reason: Reason
    message: Text = ""


class ConditionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Something about one resource in this sidecar that is not as it normally is; what is normal is not reported.

    Args:
        kind: the kind of the resource.
        name: its name; empty for every resource of the kind that runs in this sidecar, so that one lost mail server is one report and not hundreds.
        type: one of the kind's own condition types; empty where it is about nothing but `degrades`.
        status: the status of that condition.
        reason: one CamelCase word.
        message: what is wrong and what to do. It must not change while the matter does not: no ages, no counters that run.
        degrades: whether the resource does less than its full job in this sidecar.
        stalls: whether it does nothing until a person acts.
    """

    kind: Name
    name: Name
    type: Annotated[str, Meta(max_length=128, pattern=r"^([A-Za-z][A-Za-z0-9]*)?$")] = ""
    status: bool = True
    reason: Reason
    message: Text = ""
    degrades: bool = False
    stalls: bool = False


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Figures about one resource in this sidecar; numbers are added up over sidecars."""

    kind: Name
    name: Name
    figures: Annotated[dict[Annotated[str, Meta(max_length=63)], Any], Meta(max_length=32)]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a configuration, and how its resources fare.

    Args:
        revision: the revision that this is about.
        applied: whether it runs now; if not, the sidecar goes on with its last good one.
        message: why not, naming block, resource, field and fix.
        unready: resources that are applied but cannot work yet.
        observed: figures per resource.
        conditions: what is not as it normally is, per resource.
    """

    revision: Annotated[str, Meta(max_length=64)]
    applied: bool
    message: Text = ""
    unready: Annotated[tuple[UnreadyReport, ...], Meta(max_length=MAX_REPORTS)] = ()
    observed: Annotated[tuple[Observation, ...], Meta(max_length=MAX_REPORTS)] = ()
    conditions: Annotated[tuple[ConditionReport, ...], Meta(max_length=MAX_CONDITIONS)] = ()
