"""What can be wrong when one asks the delivery machine for something. A block turns these into problem details."""

from collections.abc import Iterable

from pillion.delivery.model import DeliveryId, MessageId


class DeliveryError(Exception):
    """Base of all of them."""


class IdConflict(DeliveryError):  # noqa: N818 - says what happened
    """A message id was used before for another message. Nothing of the submission was accepted. On HTTP: 409."""

    def __init__(self, ids: Iterable[MessageId]) -> None:
        self.ids = tuple(ids)
        super().__init__(f"already used for another message: {', '.join(self.ids)}")


class StoreFull(DeliveryError):  # noqa: N818 - says what happened
    """There is no room to accept it; nothing was written. It works again when room returns. On HTTP: 507."""


class Overloaded(DeliveryError):  # noqa: N818 - says what happened
    """Too much waits for its commit right now; try again in a moment. On HTTP: 503 with Retry-After."""


class StoreUnavailable(DeliveryError):  # noqa: N818 - says what happened
    """The store is closed or broken; nothing was accepted. On HTTP: 503."""


class UnknownDelivery(DeliveryError, LookupError):  # noqa: N818 - says what happened
    """There is no such delivery, or it has been forgotten after its retention. On HTTP: 404."""

    def __init__(self, wanted: DeliveryId) -> None:
        self.id = wanted
        super().__init__(f'there is no delivery "{wanted}"')


class InFlight(DeliveryError):  # noqa: N818 - says what happened
    """The delivery is being attempted right now, so it can neither be retried nor cancelled. On HTTP: 409."""

    def __init__(self, wanted: DeliveryId) -> None:
        self.id = wanted
        super().__init__(f'delivery "{wanted}" is being attempted right now')


class Unstartable(DeliveryError):  # noqa: N818 - says what happened
    """The store cannot be opened: another process has it, or a newer version wrote it. The message names the file and the fix."""
