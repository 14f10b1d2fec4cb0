"""The routes of the flag block, as the server and its description need them."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pillion.flags.explain import Explanation
from pillion.flags.ofrep import (
    MAX_BODY,
    BulkFailure,
    BulkSuccess,
    EvaluationFailure,
    EvaluationRequest,
    EvaluationSuccess,
)
from pillion.flags.views import FlagList
from pillion.kinds.model import JSON
from pillion.runtime.operation import JSON_MEDIA, Handler, Hot, HotOperation, Operation, Parameter, Reply

PAGE: Final = 200
"""Flags on a page of the listing, unless the request asks for another number."""

_KEY: Final = Parameter(
    name="key",
    place="path",
    description="The flag's key.",
    schema={"type": "string", "minLength": 1},
    required=True,
)


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to explain."""

    context: Annotated[dict[str, JSON], Meta(description="Attributes of the subject.")] = {}
    timestamp: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | None,
        Meta(description="Seconds since the epoch to evaluate at; absent means now."),
    ] = None


def hot(evaluate: Hot) -> HotOperation:
    """Give the route of the hot lane: OFREP single evaluation."""
    return HotOperation(
        method="POST",
        path="/ofrep/v1/evaluate/flags/{key}",
        name="evaluateFlag",
        summary="OFREP single evaluation: one flag for one context.",
        tag="flags",
        answer=evaluate,
        body=EvaluationRequest,
        max_body=MAX_BODY,
        parameters=(_KEY,),
        replies={
            200: Reply(description="The answer; without value the application's own.", type=EvaluationSuccess),
            400: Reply(description="No context, or an error of the flag (OFREP error).", type=EvaluationFailure),
            404: Reply(description="There is no such flag (OFREP error).", type=EvaluationFailure),
        },
    )


def ordinary(evaluate_all: Handler, explain: Handler, list_flags: Handler) -> tuple[Operation, ...]:
    """Give the routes of the ordinary lane: OFREP bulk evaluation with and without the slash that flagd accepts too, explanation, listing."""
    return (
        _bulk("/ofrep/v1/evaluate/flags", "evaluateFlags", evaluate_all),
        _bulk("/ofrep/v1/evaluate/flags/", "evaluateFlagsSlash", evaluate_all),
        Operation(
            method="POST",
            path="/v1/flags/{key}:explain",
            name="explainFlag",
            summary="Tell step by step how a flag comes to its answer, without counting it as an evaluation.",
            tag="flags",
            handler=explain,
            body=ExplainRequest,
            body_required=False,
            parameters=(_KEY,),
            replies={200: Reply(description="The evaluation and its steps.", type=Explanation)},
        ),
        Operation(
            method="GET",
            path="/v1/flags",
            name="listFlags",
            summary="List the flags with their state, what they read, and how often they gave which answer.",
            tag="flags",
            handler=list_flags,
            parameters=(
                Parameter(
                    name="limit",
                    place="query",
                    description=f"Flags on the page, from 1 to 1000; default {PAGE}.",
                    schema={"type": "integer", "minimum": 1, "maximum": 1000},
                ),
                Parameter(
                    name="after",
                    place="query",
                    description="Key after which the page begins; `next` of the page before.",
                    schema={"type": "string", "maxLength": 253},
                ),
            ),
            replies={200: Reply(description="A page of flags.", type=FlagList)},
        ),
    )


def _bulk(path: str, name: str, evaluate_all: Handler) -> Operation:
    # The body is taken raw, because its errors have OFREP's form and not that of problem details.
    return Operation(
        method="POST",
        path=path,
        name=name,
        summary="OFREP bulk evaluation: every flag for one context.",
        tag="flags",
        handler=evaluate_all,
        body=bytes,
        body_models={JSON_MEDIA: EvaluationRequest},
        max_body=MAX_BODY,
        body_required=False,
        parameters=(
            Parameter(
                name="If-None-Match",
                place="header",
                description="Entity tag of an earlier answer; an unchanged one is answered 304.",
            ),
        ),
        replies={
            200: Reply(description="All answers; ETag identifies them.", type=BulkSuccess),
            304: Reply(description="The answers are those of the entity tag."),
            400: Reply(description="The body holds no context (OFREP error).", type=BulkFailure),
        },
    )
