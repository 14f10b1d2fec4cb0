"""The operations by which a listener describes itself: `/openapi.json`, `/docs` and `/metrics`.

Their own descriptions are part of the document, so that it is complete. They are public: a description holds nothing that the program does not, and a
scraper has no token.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import hdrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pillion.runtime import docspage, openapi
from pillion.runtime.operation import Answer, Call, HotOperation, Listener, Operation, Reply

TAG: Final = "description"

OPENMETRICS_MEDIA: Final = "application/openmetrics-text"


class Description:
    """The description of one listener.

    Args:
        listener: which one.
        operations: what it serves, without this description.
        hot_operations: its hot routes.
        metrics: what `/metrics` shows.
    """

    def __init__(
        self,
        listener: Listener,
        operations: Sequence[Operation],
        hot_operations: Sequence[HotOperation],
        metrics: CollectorRegistry,
    ) -> None:
        self._metrics = metrics
        self.operations: tuple[Operation, ...] = (
            Operation(
                method="GET",
                path="/openapi.json",
                name="openapi",
                summary="Describe every route of this listener as an OpenAPI 3.1 document.",
                tag=TAG,
                handler=self._openapi,
                listener=(listener,),
                public=True,
                replies={200: Reply(description="The document.", type=dict[str, Any])},
            ),
            Operation(
                method="GET",
                path="/docs",
                name="docs",
                summary="Describe every route of this listener as a page to read.",
                tag=TAG,
                handler=self._docs,
                listener=(listener,),
                public=True,
                replies={200: Reply(description="The page.", type=str, media="text/html")},
            ),
            Operation(
                method="GET",
                path="/metrics",
                name="metrics",
                summary="Give all metrics of the sidecar, in the format that `Accept` asks for.",
                tag=TAG,
                handler=self._show_metrics,
                listener=(listener,),
                public=True,
                replies={
                    200: Reply(
                        description="The metrics.", type=str, media="text/plain", further_media={OPENMETRICS_MEDIA: str}
                    )
                },
            ),
        )
        self.document = openapi.document([*operations, *self.operations], hot_operations, token=listener == "main")
        """The OpenAPI document."""
        self._encoded = msgspec.json.encode(self.document)

    async def _openapi(self, _: Call[None]) -> Answer:
        return Answer(body=self._encoded)

    async def _docs(self, call: Call[None]) -> Answer:
        base = f"{call.request.scheme}://{call.request.host}"
        body = docspage.page(self.document, base)
        return Answer(body=body, media="text/html; charset=utf-8", headers=docspage.HEADERS)

    async def _show_metrics(self, call: Call[None]) -> Answer:
        # On the event loop, not in a thread: collectors read plain dictionaries that the loop changes.
        encode, media = choose_encoder(call.request.headers.get(hdrs.ACCEPT, ""))
        return Answer(body=encode(self._metrics), media=media)
