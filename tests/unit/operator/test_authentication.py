"""Who is let in: the reading of a TokenReview, and what is remembered of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_operator.api import ApiError
from pillion_operator.authentication import Authenticator, Client, Refusal, client_of

GOOD = {
    "authenticated": True,
    "audiences": ["pillion"],
    "user": {
        "username": "system:serviceaccount:shop:default",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["shop-1"],
            "authentication.kubernetes.io/pod-uid": ["u-1"],
        },
    },
}


def changed(**changes):
    return GOOD | changes


def test_a_pod_bound_token_for_us_is_let_in():
    assert client_of(GOOD) == Client(namespace="shop", service_account="default", pod="shop-1", pod_uid="u-1")


@pytest.mark.parametrize(
    ("status", "answer", "slug"),
    [
        ({}, 401, "bad-token"),
        (changed(authenticated=False), 401, "bad-token"),
        (changed(audiences=["https://kubernetes.default.svc"]), 401, "wrong-audience"),
        (changed(audiences=None), 401, "wrong-audience"),
        (changed(user={"username": "alice"}), 403, "no-service-account"),
        (changed(user={"username": "system:serviceaccount:shop"}), 403, "no-service-account"),
        (changed(user={"username": "system:serviceaccount::x"}), 403, "no-service-account"),
    ],
)
def test_everybody_else_is_refused_with_a_reason(status, answer, slug):
    with pytest.raises(Refusal) as refused:
        client_of(status)

    assert (refused.value.status, refused.value.slug) == (answer, slug)


class Server:
    """Answers reviews and pods."""

    def __init__(self, status=None, pod=None):
        self.reviews = 0
        self.status, self.pod = status or GOOD, pod or {"metadata": {"uid": "u-1", "labels": {"app": "shop"}}}

    async def create(self, path, body, *, resource):  # noqa: ARG002
        self.reviews += 1
        if isinstance(self.status, ApiError):
            raise self.status
        return {"status": self.status}

    async def get(self, path, *, resource):  # noqa: ARG002
        if isinstance(self.pod, ApiError):
            raise self.pod
        return self.pod


def authenticator(server, remember=60.0, *, allow_unbound=False):
    return Authenticator(server, remember=remember, allow_unbound=allow_unbound)


UNBOUND = (
    changed(user={"username": "system:serviceaccount:shop:default"}),
    changed(user=GOOD["user"] | {"extra": {"authentication.kubernetes.io/pod-name": ["p"]}}),
)


@pytest.mark.parametrize("status", UNBOUND)
async def test_a_token_that_is_bound_to_no_pod_is_no_sidecars_unless_allowed(status):
    with pytest.raises(Refusal) as refused:
        await authenticator(Server(status)).sidecar("Bearer t")
    assert (refused.value.status, refused.value.slug) == (403, "unbound-token")

    client = await authenticator(Server(status), allow_unbound=True).sidecar("Bearer t")
    assert (client.namespace, client.pod) == ("shop", "")
    assert client.pod_uid


async def test_a_success_is_remembered_a_failure_is_not():
    server = Server()
    known = authenticator(server)
    for _ in range(3):
        await known.client("Bearer t1")
    assert server.reviews == 1

    server.status = changed(authenticated=False)
    for _ in range(2):
        with pytest.raises(Refusal):
            await known.client("Bearer t2")
    assert server.reviews == 3


async def test_nothing_is_remembered_for_longer_than_asked():
    server = Server()
    known = authenticator(server, remember=0.0)
    for _ in range(2):
        await known.client("Bearer t1")

    assert server.reviews == 2


@given(st.text(max_size=30))
async def test_no_header_ever_gets_past_without_a_review(header):
    server = Server(status=changed(authenticated=False))

    with pytest.raises(Refusal) as refused:
        await authenticator(server).client(header)

    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("pod", "status"),
    [
        (ApiError(404, "NotFound", ""), 403),
        ({"metadata": {"uid": "another"}}, 403),
        (ApiError(0, "Unreachable", "x"), 503),
    ],
)
async def test_a_pod_that_is_gone_or_cannot_be_asked_for(pod, status):
    client = client_of(GOOD)

    with pytest.raises(Refusal) as refused:
        await authenticator(Server(pod=pod)).labels(client)

    assert refused.value.status == status


async def test_an_api_server_that_is_away_is_no_refusal_for_good():
    with pytest.raises(Refusal) as refused:
        await authenticator(Server(status=ApiError(0, "Unreachable", "x"))).client("Bearer t")

    assert refused.value.status == 503
    assert "Bearer" not in refused.value.detail


async def test_labels_are_read_anew_each_time():
    server = Server()
    known = authenticator(server)
    client = await known.client("Bearer t")
    assert await known.labels(client) == {"app": "shop"}

    server.pod = {"metadata": {"uid": "u-1"}}
    assert await known.labels(client) == {}
