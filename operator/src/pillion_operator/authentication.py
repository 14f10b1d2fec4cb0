"""Who is at the other end of a stream: a TokenReview, then the pod that the token is bound to.

The token must be meant for us (audience), belong to a service account, and be bound to a living pod; from the review come namespace, pod name and pod uid, from the
pod its labels. Nothing that the client says about itself is believed. Reviews that succeeded are remembered briefly under a hash of the token; failures never are.
"""

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any, Final

import msgspec

from pillion.kinds.exchange import AUDIENCE
from pillion_operator.api import Api, ApiError, core_path

JSON = Any

MAX_TOKEN: Final = 16 * 1024
"""Characters of a token; Kubernetes' own have about one thousand."""
REMEMBERED: Final = 20_000
"""Reviewed tokens that are remembered at most."""
CONCURRENCY: Final = 16
"""Reviews under way at the same time: a flood of wrong tokens must not become a flood at the API server."""

_USER_PREFIX: Final = "system:serviceaccount:"
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The client is not let in.

    Args:
        status: HTTP status: 401 who are you, 403 not with that, 503 cannot tell now.
        slug: last segment of the problem type.
        title: what kind of refusal.
        detail: why, and the fix. Never holds the token.
    """

    def __init__(self, status: int, slug: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token it is; without a pod where the token is bound to none."""

    namespace: str
    service_account: str
    pod: str = ""
    pod_uid: str = ""


class Authenticator:
    """Reviews tokens.

    Args:
        api: the way to the API server.
        remember: seconds for which a success is believed.
        allow_unbound: accept sidecars' tokens that are bound to no pod.
    """

    def __init__(self, api: Api, *, remember: float, allow_unbound: bool) -> None:
        self._api = api
        self._remember = remember
        self._allow_unbound = allow_unbound
        self._known: OrderedDict[bytes, tuple[float, Client]] = OrderedDict()
        self._reviewing = asyncio.Semaphore(CONCURRENCY)

    async def client(self, authorization: str) -> Client:
        """Give the client behind an Authorization header.

        Raises:
            Refusal: the token is not accepted.
        """
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN or not token.isascii():
            detail = "send Authorization: Bearer with the pod's service-account token (audience pillion)"
            raise Refusal(401, "no-token", "No token", detail)
        now = asyncio.get_running_loop().time()
        hashed = hashlib.sha256(token.encode()).digest()
        known = self._known.get(hashed)
        if known is not None and known[0] > now:
            return known[1]
        async with self._reviewing:
            client = await self._review(token)
        self._known[hashed] = (now + self._remember, client)
        self._known.move_to_end(hashed)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return client

    async def sidecar(self, authorization: str) -> Client:
        """Give the sidecar behind an Authorization header: a client with a pod.

        Raises:
            Refusal: it is not let in.
        """
        client = await self.client(authorization)
        if client.pod:
            return client
        if not self._allow_unbound:
            detail = "the token is bound to no pod; use a projected volume (serviceAccountToken), or kubectl create token --bound-object-kind Pod"
            raise Refusal(403, "unbound-token", "Token bound to no pod", detail)
        return msgspec.structs.replace(client, pod_uid=f"unbound:{client.namespace}:{client.service_account}")

    async def labels(self, client: Client) -> dict[str, str]:
        """Give the labels of the client's pod, as they are now.

        Raises:
            Refusal: the pod is gone, or cannot be asked for.
        """
        if not client.pod:
            return {}
        try:
            pod = await self._api.get(core_path("pods", client.namespace, client.pod), resource="pods")
        except ApiError as error:
            if error.status == 404:
                raise _gone(client) from None
            raise _cannot_tell(f"the pod cannot be read: {error}") from None
        if pod["metadata"]["uid"] != client.pod_uid:
            raise _gone(client)
        labels: dict[str, str] = pod["metadata"].get("labels") or {}
        return labels

    async def _review(self, token: str) -> Client:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            review = await self._api.create(
                "/apis/authentication.k8s.io/v1/tokenreviews", body, resource="tokenreviews"
            )
        except ApiError as error:
            raise _cannot_tell(f"the token cannot be reviewed: {error}") from None
        return client_of(review.get("status") or {})


def client_of(status: JSON) -> Client:
    """Read the status of a TokenReview; pure.

    Raises:
        Refusal: it does not authenticate a service account for us.
    """
    if not status.get("authenticated"):
        raise Refusal(
            401,
            "bad-token",
            "Token not accepted",
            "the API server does not accept the token; is it expired, or for another audience?",
        )
    if AUDIENCE not in (status.get("audiences") or ()):
        detail = f"the token is not for audience {AUDIENCE}; project one with audience: {AUDIENCE}"
        raise Refusal(401, "wrong-audience", "Token for another audience", detail)
    user = status.get("user") or {}
    username = str(user.get("username", ""))
    namespace, colon, account = username.removeprefix(_USER_PREFIX).partition(":")
    if not username.startswith(_USER_PREFIX) or not colon or not namespace or not account:
        raise Refusal(403, "no-service-account", "Not a service account", "only tokens of service accounts are let in")
    extra = user.get("extra") or {}
    pod, uid = _one(extra, _POD_NAME), _one(extra, _POD_UID)
    bound = bool(pod and uid)
    return Client(namespace=namespace, service_account=account, pod=pod if bound else "", pod_uid=uid if bound else "")


def _one(extra: JSON, name: str) -> str:
    values: list[str] = extra.get(name) or []
    return str(values[0]) if len(values) == 1 else ""


def _gone(client: Client) -> Refusal:
    return Refusal(
        403, "pod-gone", "Pod is gone", f"the pod {client.pod} that the token is bound to does not exist any more"
    )


def _cannot_tell(detail: str) -> Refusal:
    return Refusal(503, "cannot-authenticate", "Cannot authenticate now", detail)
