"""The routes of rate limiting as `/openapi.json` describes them; what answers them is the service's."""

from collections.abc import Callable
from typing import Final

from pillion.ratelimit.manifest import MAX_COUNT
from pillion.ratelimit.messages import Batch, Check, Verdict, Verdicts
from pillion.runtime.operation import Again, Handler, Hot, HotOperation, Operation, Parameter, Reply
from pillion.runtime.problems import PROBLEM_MEDIA

MAX_BATCH_BODY: Final = 1 << 20
"""Bytes of a batch: a thousand checks of a thousand bytes."""

_TAG: Final = "ratelimit"

_REFUSED: Final = "The request is over a limit. The problem carries the decision's members, `violated-policies`, and Retry-After where waiting helps."
_DENIED: Final = "The request is on a deny list."


def hot_operations(
    check: Hot, again: Callable[[str, str, bytes], Again | None], batch: Hot
) -> tuple[HotOperation, ...]:
    """Give the routes that are answered on the hot lane."""
    return (
        HotOperation(
            method="POST",
            path="/v1/ratelimit/check",
            name="checkRateLimit",
            summary="Decide whether one request may pass, and charge it if so.",
            tag=_TAG,
            answer=check,
            again=again,
            body=Check,
            parameters=(
                Parameter(
                    name="enforce",
                    place="query",
                    description="`status` answers a refusal with 429 or 403 and problem details instead of 200.",
                    schema={"type": "string", "enum": ["status"]},
                ),
            ),
            replies={
                200: Reply(description="The decision. RateLimit and RateLimit-Policy describe it, too.", type=Verdict),
                403: Reply(description=_DENIED, media=PROBLEM_MEDIA),
                429: Reply(description=_REFUSED, media=PROBLEM_MEDIA),
            },
        ),
        HotOperation(
            method="POST",
            path="/v1/ratelimit/check:batch",
            name="checkRateLimits",
            summary="Decide on up to 1,000 requests in one call, one after the other, each charged by itself.",
            tag=_TAG,
            answer=batch,
            body=Batch,
            replies={200: Reply(description="The decisions, in the order of the checks.", type=Verdicts)},
            max_body=MAX_BATCH_BODY,
        ),
    )


def operations(authorize: Handler) -> tuple[Operation, ...]:
    """Give the other routes."""
    parameters = (
        Parameter(
            name="policy",
            place="query",
            description="The policy to ask; absent asks all, and every one must allow.",
            schema={"type": "string", "minLength": 1, "maxLength": 253},
        ),
        Parameter(
            name="cost",
            place="query",
            description="How much quota the request takes; 1 if absent.",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_COUNT},
        ),
        Parameter(
            name="deny_status",
            place="query",
            description="Status of a refusal; NGINX needs 403, because its auth_request turns 429 into 500. 429 if absent.",
            schema={"type": "string", "enum": ["403", "429"]},
        ),
    )
    replies = {
        200: Reply(description="The request may pass."),
        403: Reply(description="The request is on a deny list, or over a limit and deny_status is 403."),
        429: Reply(description=_REFUSED, media=PROBLEM_MEDIA),
    }
    summary = "Decide on a request that a proxy describes in X-Forwarded-* fields (forward auth, auth_request)."
    return (
        Operation(
            method="GET",
            path="/v1/ratelimit/authorize",
            name="authorizeRequest",
            summary=summary,
            tag=_TAG,
            handler=authorize,
            parameters=parameters,
            replies=replies,
        ),
        Operation(
            method="POST",
            path="/v1/ratelimit/authorize",
            name="authorizePostedRequest",
            summary=summary,
            tag=_TAG,
            handler=authorize,
            parameters=parameters,
            replies=replies,
        ),
    )
