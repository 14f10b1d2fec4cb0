"""What a resource was before its last edits, asked of the API server: for a refused resource of which nobody has kept a good version.

`last_good` keeps that version with the first status that tells of a refusal. When the operator was away during a bad edit, or was killed before it could write, only the
API server's own history knows better: etcd keeps some minutes of it (five, unless `--etcd-compaction-interval` says otherwise). It is asked only about resources that had
been judged before the edit, a bounded number of steps back, and only believed where the status of that time says that the version was accepted.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import structlog

from pillion.kinds.definition import Kind
from pillion_operator import conditions, last_good
from pillion_operator.api import Api, ApiError, resource_path
from pillion_operator.catalogue import Catalogue, Known, version_of

JSON = Any

MAX_STEPS: Final = 10
"""Versions that are looked at: every write counts as one, and each costs a request."""


class History:
    """Recalls good versions.

    Args:
        api: the way to the API server.
        kinds: the kinds.
        catalogue: the resources.
    """

    def __init__(self, api: Api, kinds: Mapping[str, Kind[Any]], catalogue: Catalogue) -> None:
        self._api = api
        self._kinds = kinds
        self._catalogue = catalogue
        self._log = structlog.get_logger("history")

    async def recall(self, known: Known) -> bool:
        """Put the version of *known* in force that was accepted last; tells whether that was done.

        Raises:
            ApiError: the API server cannot be reached.
        """
        generation, observed = known.generation, known.status.get("observedGeneration", -1)
        if not 0 < observed < generation:
            return False  # never judged, or judged with nothing to keep
        try:
            async for document in self._earlier(known):
                if known.generation != generation:
                    return False  # edited meanwhile; it is judged anew
                found = was_accepted(document)
                if found is not None and self._catalogue.restore(known.key, *found):
                    self._log.info("the last good version was recalled", resource=str(known.key), generation=found[1])
                    return True
        except ApiError as error:
            if error.status == 0:
                raise
            self._log.warning("no earlier version can be had", resource=str(known.key), error=str(error))
        return False

    async def _earlier(self, known: Known) -> AsyncIterator[JSON]:
        key, version = known.key, known.version
        plural = self._kinds[key.kind].plural
        path = resource_path(plural, key.namespace, key.name).rpartition("/")[0]
        for _ in range(MAX_STEPS):
            query = {
                "fieldSelector": f"metadata.name={key.name}",
                # Just before the write that made it what it is: then it was what it had been before.
                "resourceVersion": str(version - 1),
                "resourceVersionMatch": "Exact",
                "limit": "1",
            }
            page = await self._api.get(path, resource=plural, query=query)
            document = next(iter(page.get("items") or ()), None)
            if document is None or document["metadata"].get("uid") != known.uid:
                return
            yield {**document, "kind": key.kind}
            version = version_of(document["metadata"])


def was_accepted(document: JSON) -> tuple[JSON, int] | None:
    """Give the accepted version that an earlier state of a resource tells of, and its generation; None where it tells of none."""
    metadata, status = document["metadata"], document.get("status") or {}
    held = last_good.document_of(document["kind"], metadata.get("namespace", ""), metadata["name"], status)
    if held is not None:
        return held
    accepted = conditions.condition(status, "Accepted")
    if accepted.get("status") == "True" and accepted.get("observedGeneration") == metadata.get("generation"):
        return document, int(metadata["generation"])
    return None
