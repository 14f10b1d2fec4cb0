"""WebhookEndpoint as its writer sees it: fields, bounds, defaults. What it means beyond the schema stands in `kind.py`."""

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta

from pillion.kinds.model import ATOMIC, Model, Rule, SecretKeyRef, Spec
from pillion.kinds.quantities import Duration, Percentage, Size

EVENT_PATTERN: Final = r"^(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*$"
"""An event type, dotted, in which a whole segment may be `*`."""

HEADER_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
"""A field name by RFC 9110 section 5.1."""

HEADER_VALUE: Final = r"^[ -~]*$"
"""Printable ASCII: no CR, LF or NUL can split a header, and no receiver has to guess an encoding."""

EventPattern = Annotated[str, Meta(pattern=EVENT_PATTERN, min_length=1, max_length=256)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=128)]
HeaderValue = Annotated[str, Meta(pattern=HEADER_VALUE, max_length=1024)]
NetworkText = Annotated[str, Meta(min_length=1, max_length=64)]
HostText = Annotated[str, Meta(min_length=1, max_length=253)]


class Signing(Model, frozen=True, kw_only=True):
    """How deliveries are signed."""

    scheme: Annotated[
        Literal["standard"],
        Meta(
            description="Signature scheme; `standard` is Standard Webhooks v1: HMAC-SHA256 over id, timestamp and body."
        ),
    ] = "standard"
    secret_ref: Annotated[
        SecretKeyRef,
        Meta(
            description="Secret key with the signing secret, `whsec_` and base64 of 24 to 64 random bytes. "
            "Several secrets, separated by spaces or line breaks, all sign: that is how a secret is rotated."
        ),
    ]


class RetryPolicy(Model, frozen=True, kw_only=True):
    """What happens after a failed attempt."""

    schedule: Annotated[
        tuple[Duration, ...],
        Meta(
            max_length=20,
            description="Pauses before the second and every later attempt; when they are used up, the delivery has failed. "
            "Each is at most 7d and none is shorter than the one before it.",
            extra_json_schema=ATOMIC,
        ),
    ] = ("5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "1d")
    jitter: Annotated[
        Percentage,
        Meta(description="Up to this share of each pause is added at random, so that retries do not come in waves."),
    ] = "10%"
    respect_retry_after: Annotated[
        bool,
        Meta(
            description="Keep the pause that the receiver asks for by Retry-After, for the whole endpoint and up to 1d; "
            "a delivery whose receiver asks for more has failed."
        ),
    ] = True


class Concurrency(Model, frozen=True, kw_only=True):
    """How much is sent at the same time."""

    max: Annotated[
        int, Meta(ge=1, le=256, description="Attempts in flight at the same time, per sidecar; others wait their turn.")
    ] = 16


class EgressRule(Model, frozen=True, kw_only=True):
    """One destination that is reachable although it is denied by default: a network or a host."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.cidr) != has(self.host)",
            test=lambda o: (o.get("cidr") is None) != (o.get("host") is None),
            message="exactly one of cidr and host must be given; write one entry for each",
        ),
    )

    cidr: Annotated[
        NetworkText | None, Meta(description="Network whose addresses may be reached, as in 10.20.0.0/16.")
    ] = None
    host: Annotated[
        HostText | None,
        Meta(
            description="Host name of the URL whose addresses may be reached, whatever they are, "
            "except link-local ones (the cloud's metadata service lives there)."
        ),
    ] = None


class Egress(Model, frozen=True, kw_only=True):
    """Where deliveries may go."""

    allow: Annotated[
        tuple[EgressRule, ...],
        Meta(
            max_length=32,
            description="Exceptions from the rule that private, loopback, link-local and other special addresses are never connected to. "
            "Plain http goes only to what is named here.",
            extra_json_schema=ATOMIC,
        ),
    ] = ()


class Retention(Model, frozen=True, kw_only=True):
    """How long the sidecar remembers."""

    succeeded: Annotated[
        Duration,
        Meta(
            description="How long a delivered message and its attempts stay readable, at least 1m and at most 90d. "
            "Until then the event's id is remembered, so that publishing it again delivers nothing twice."
        ),
    ] = "3d"
    failed: Annotated[
        Duration,
        Meta(description="How long a failed delivery can be read and retried, at least 1m and at most 90d."),
    ] = "14d"
    bodies: Annotated[
        Size,
        Meta(description="Bytes of each response body that the attempt log keeps, at most 64Ki; 0 keeps none."),
    ] = "4Ki"


class WebhookEndpointSpec(Spec, frozen=True, kw_only=True):
    """A receiver of events, and how it is served."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.url.startsWith('https://') || (has(self.egress) && has(self.egress.allow) && size(self.egress.allow) > 0)",
            test=lambda o: o["url"].startswith("https://") or bool((o.get("egress") or {}).get("allow")),
            message="must begin with https://, because plain http goes only to destinations that egress.allow names; "
            "use https, or name the host or network in egress.allow",
            field="url",
        ),
        Rule(
            cel="!self.url.contains('#')",
            test=lambda o: "#" not in o["url"],
            message="must not have a fragment, which no server ever sees; remove it",
            field="url",
        ),
        Rule(
            cel="!self.url.matches('^https?://[^/?]*@')",
            test=lambda o: "@" not in o["url"].partition("//")[2].partition("/")[0].partition("?")[0],
            message="must not hold a user or password, which would be readable here; remove it",
            field="url",
        ),
    )

    url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[!-~]+$",
            min_length=8,
            max_length=2048,
            description="Where events are posted, without user, password and fragment. Redirects are not followed.",
        ),
    ]
    events: Annotated[
        tuple[EventPattern, ...],
        Meta(
            min_length=1,
            max_length=64,
            description="Types of events that are delivered, dotted. A segment may be `*`: in the middle it stands for one segment, "
            "at the end for one or more, alone for everything.",
            extra_json_schema=ATOMIC,
        ),
    ] = ("*",)
    signing: Annotated[Signing, Meta(description="How deliveries are signed.")]
    retry: Annotated[RetryPolicy, Meta(description="What happens after a failed attempt.")] = RetryPolicy()
    timeout: Annotated[
        Duration,
        Meta(description="How long one attempt may take in all, from the connection to the last byte, 1s to 60s."),
    ] = "15s"
    concurrency: Annotated[Concurrency, Meta(description="How much is sent at the same time.")] = Concurrency()
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Meta(
            max_length=32,
            description="Further header fields of every delivery. Not for credentials: they are readable here.",
        ),
    ] = {}
    egress: Annotated[Egress, Meta(description="Where deliveries may go.")] = Egress()
    retention: Annotated[Retention, Meta(description="How long the sidecar remembers deliveries.")] = Retention()
