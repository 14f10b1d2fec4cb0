"""The block's routes, declared: what `/openapi.json` says about them is what stands here."""

from typing import Final

from pillion.runtime.operation import JSON_MEDIA, Operation, Parameter, Reply
from pillion.runtime.problems import PROBLEM_MEDIA, ProblemDocument
from pillion.webhooks.events import CloudEvent, Event
from pillion.webhooks.inspection import PAGE, Inspection
from pillion.webhooks.intake import BATCH, MAX_BODY, STRUCTURED, Publisher
from pillion.webhooks.views import (
    AttemptsView,
    DeliveriesView,
    DeliveryDetailView,
    DeliveryView,
    EndpointsView,
    EndpointView,
    PublishedView,
)

TAG: Final = "webhooks"


def operations(publisher: Publisher, inspection: Inspection) -> list[Operation]:
    """Give all routes."""
    return [_publish(publisher), *_endpoints(inspection), *_deliveries(inspection)]


def _publish(publisher: Publisher) -> Operation:
    return Operation(
        method="POST",
        path="/v1/events",
        name="publishEvent",
        summary="Publish an event to the webhook endpoints that want its type; 202 means that it is on disk.",
        tag=TAG,
        handler=publisher.publish,
        shortcut=publisher.shorten,
        body=bytes,
        body_media=(JSON_MEDIA, STRUCTURED, BATCH),
        body_models={JSON_MEDIA: Event, STRUCTURED: CloudEvent, BATCH: list[CloudEvent]},
        # A CloudEvent in binary mode may have no body.
        body_required=False,
        max_body=MAX_BODY,
        parameters=(
            Parameter(
                name="ce-specversion",
                place="header",
                description="With this header the body is the data of a CloudEvent in binary mode, and its attributes are in further ce- headers.",
                schema={"type": "string", "enum": ["1.0"]},
            ),
        ),
        replies={
            202: Reply(description="Accepted: it will be delivered at least once.", type=PublishedView),
            409: _problem("An event with this id but other content was published before."),
            422: _problem("The event does not fit; `errors` names the fields."),
            503: _problem("It was not accepted, because too much waits or the store cannot be used; try again."),
            507: _problem("It was not accepted, because the store is full."),
        },
    )


def _endpoints(inspection: Inspection) -> list[Operation]:
    return [
        Operation(
            method="GET",
            path="/v1/webhooks/endpoints",
            name="listWebhookEndpoints",
            summary="List the webhook endpoints of this sidecar and how each fares.",
            tag=TAG,
            handler=inspection.endpoints,
            replies={200: Reply(description="All endpoints.", type=EndpointsView)},
        ),
        Operation(
            method="POST",
            path="/v1/webhooks/endpoints/{name}:enable",
            name="enableWebhookEndpoint",
            summary="Serve an endpoint again that said it wants no more; what waits for it is delivered.",
            tag=TAG,
            handler=inspection.enable,
            parameters=(
                Parameter(
                    name="name", place="path", description="Name of the endpoint.", schema=_text(253), required=True
                ),
            ),
            replies={
                200: Reply(description="The endpoint as it is now.", type=EndpointView),
                404: _problem("There is no such endpoint."),
                **_STORE,
            },
        ),
    ]


def _deliveries(inspection: Inspection) -> list[Operation]:
    return [
        Operation(
            method="GET",
            path="/v1/webhooks/deliveries",
            name="listWebhookDeliveries",
            summary="List deliveries, newest event first. A page may be short, even empty, although more follow: then it has a cursor.",
            tag=TAG,
            handler=inspection.deliveries,
            parameters=(
                _query("endpoint", "Only deliveries to this endpoint.", _text(253)),
                _query(
                    "state",
                    "Only deliveries in this state.",
                    {"type": "string", "enum": ["pending", "in-flight", "succeeded", "failed", "cancelled"]},
                ),
                _query("event", "Only deliveries of this event (webhook-id).", _text(128)),
                _query("type", "Only deliveries of events of exactly this type.", _text(256)),
                _LIMIT,
                _CURSOR,
            ),
            replies={200: Reply(description="A page.", type=DeliveriesView), **_STORE},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/deliveries/{id}",
            name="getWebhookDelivery",
            summary="Show one delivery and its latest attempts.",
            tag=TAG,
            handler=inspection.delivery,
            parameters=(_ID,),
            replies={
                200: Reply(description="The delivery.", type=DeliveryDetailView),
                404: _problem("There is no such delivery, or it is past its retention."),
                **_STORE,
            },
        ),
        Operation(
            method="POST",
            path="/v1/webhooks/deliveries/{id}:retry",
            name="retryWebhookDelivery",
            summary="Attempt a delivery again now, whatever its state; its retry schedule starts over.",
            tag=TAG,
            handler=inspection.retry,
            parameters=(_ID,),
            replies={
                202: Reply(description="It is due now.", type=DeliveryView),
                404: _problem("There is no such delivery, or it is past its retention."),
                409: _problem("It is being attempted right now."),
                507: _problem("The store is full."),
                **_STORE,
            },
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/attempts",
            name="listWebhookAttempts",
            summary="List attempts, those of the newest event first; of one delivery, its latest ones.",
            tag=TAG,
            handler=inspection.attempts,
            parameters=(
                _query("delivery", "Only attempts at this delivery; excludes `endpoint` and `cursor`.", _text(400)),
                _query("endpoint", "Only attempts at this endpoint.", _text(253)),
                _LIMIT,
                _CURSOR,
            ),
            replies={200: Reply(description="A page.", type=AttemptsView), **_STORE},
        ),
    ]


def _query(name: str, description: str, schema: dict[str, object]) -> Parameter:
    return Parameter(name=name, place="query", description=description, schema=schema)


def _text(length: int) -> dict[str, object]:
    return {"type": "string", "maxLength": length}


def _problem(description: str) -> Reply:
    return Reply(description=description, type=ProblemDocument, media=PROBLEM_MEDIA)


_LIMIT: Final = _query(
    "limit", f"Entries of the page, 1 to 1000; default {PAGE}.", {"type": "integer", "minimum": 1, "maximum": 1000}
)
_CURSOR: Final = _query("cursor", "`cursor` of the page before.", _text(64))
_ID: Final = Parameter(
    name="id",
    place="path",
    description="The delivery: `<event>~<endpoint>`.",
    schema=_text(400),
    required=True,
)
_STORE: Final = {503: _problem("The store cannot be asked right now; try again.")}
