"""The webhooks over real TLS: verdicts, and problems instead of verdicts where none can be given."""

import asyncio
import base64
import contextlib
import json
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tests.support.operator.toys import VOCABULARY, gauge

from pillion_operator.admission import server as admission
from pillion_operator.admission.review import BadReview, decode, mutate, validate
from pillion_operator.admission.server import PODS_PATH, RESOURCES_PATH, AdmissionServer
from pillion_operator.api import ApiError
from pillion_operator.catalogue import Catalogue
from pillion_operator.certificates import issue, make_authority
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespace, Namespaces
from pillion_operator.settings import Settings
from pillion_operator.transport_security import load, server_context

ASKS = {"pillion.dev/inject": "true"}
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}


class FakeApi:
    """The API server's namespaces."""

    def __init__(self):
        self.labels = {}
        self.asked = 0
        self.error = None

    async def request(self, _method, path, **_):
        self.asked += 1
        if self.error:
            raise self.error
        name = path.rpartition("/")[2]
        if name not in self.labels:
            raise ApiError(404, "NotFound", "no such namespace")
        return json.dumps({"metadata": {"name": name, "labels": self.labels[name]}}).encode()


class Running:
    def __init__(self, api, catalogue, registry, port, session):
        self.api, self.catalogue, self.registry, self.port, self._session = api, catalogue, registry, port, session

    async def post(self, path, body, **options):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.post(f"https://127.0.0.1:{self.port}{path}", data=data, **options) as answer:
            return answer.status, answer.content_type, json.loads(await answer.text())

    def reviews(self, **labels):
        return self.registry.get_sample_value("pillion_operator_admission_reviews_total", labels)


@contextlib.asynccontextmanager
async def running(inject=None):
    now = datetime.now(UTC)
    authority = make_authority(now)
    context = server_context()
    load(context, issue(authority, ["127.0.0.1"], now))
    api, catalogue, registry = FakeApi(), Catalogue(VOCABULARY), CollectorRegistry()
    namespaces = Namespaces(api, 60.0)
    server = AdmissionServer(
        "127.0.0.1:0",
        context,
        kinds=VOCABULARY.kinds,
        catalogue=catalogue,
        namespaces=namespaces,
        inject=inject or Injector(Settings(namespace="pillion-system")),
        registry=registry,
    )
    await server.start()
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
            yield Running(api, catalogue, registry, server.port, session)
    finally:
        await server.stop()


def review(document, operation="CREATE", namespace="shop"):
    request = {"uid": "u", "operation": operation, "namespace": namespace, "object": document}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def test_a_pod_of_a_namespace_that_nobody_told_about_gets_its_sidecar():
    async with running() as server:
        server.api.labels["shop"] = ASKS

        answers = [await server.post(PODS_PATH, review(POD)) for _ in range(3)]

        assert {status for status, _, _ in answers} == {200}
        patch = json.loads(base64.b64decode(answers[0][2]["response"]["patch"]))
        assert patch[-2]["value"][0]["name"] == "pillion"
        assert server.api.asked == 1
        assert server.reviews(webhook="pods", outcome="injected") == 3


async def test_a_label_that_the_watch_has_not_told_yet_counts():
    async with running() as server:
        server.api.labels["shop"] = {}
        await server.post(PODS_PATH, review(POD))
        server.api.labels["shop"] = ASKS

        _, _, answer = await server.post(PODS_PATH, review(POD))

        assert "patch" in answer["response"]


async def test_without_an_api_server_there_is_no_verdict_on_an_unknown_namespace():
    async with running() as server:
        server.api.error = ApiError(0, "Unreachable", "refused")

        status, kind, problem = await server.post(PODS_PATH, review(POD))

        assert (status, kind) == (503, "application/problem+json")
        assert problem["type"] == "https://pillion.dev/problems/unreachable"


async def test_a_namespace_that_does_not_exist_asks_for_nothing():
    async with running() as server:
        status, _, answer = await server.post(PODS_PATH, review(POD))

        assert (status, answer["response"]) == (200, {"uid": "u", "allowed": True})


async def test_a_bug_is_no_verdict():
    def broken(_pod, _namespace):
        raise ZeroDivisionError

    async with running(broken) as server:
        server.api.labels["shop"] = ASKS

        status, kind, _ = await server.post(PODS_PATH, review(POD))

        assert (status, kind) == (500, "application/problem+json")
        assert server.reviews(webhook="pods", outcome="failed") == 1


@pytest.mark.parametrize("path", [PODS_PATH, RESOURCES_PATH])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, json.dumps(review(POD)).replace("v1", "v1beta1").encode()],
)
async def test_what_is_no_review_is_a_problem(path, body):
    async with running() as server:
        status, kind, problem = await server.post(path, body)

        assert (status, kind, problem["status"]) == (400, "application/problem+json", 400)


async def test_bodies_and_reviews_in_hand_are_bounded(monkeypatch):
    async with running() as server:
        monkeypatch.setattr(admission, "MAX_BODY", 1000)
        status, _, _ = await server.post(PODS_PATH, b" " * 1001)
        assert status == 413

        async def chunks():
            for _ in range(11):
                yield b" " * 100

        async with server._session.post(f"https://127.0.0.1:{server.port}{PODS_PATH}", data=chunks()) as answer:
            assert answer.status == 413
        monkeypatch.setattr(admission, "MAX_AT_ONCE", 0)
        assert (await server.post(PODS_PATH, review(POD)))[0] == 503
        monkeypatch.setattr(admission, "MAX_AT_ONCE", 1)
        monkeypatch.setattr(admission, "BODY_TIMEOUT", 0.01)

        async def never():
            yield b" "
            await asyncio.Event().wait()

        with contextlib.suppress(aiohttp.ClientError):
            async with server._session.post(f"https://127.0.0.1:{server.port}{PODS_PATH}", data=never()) as answer:
                assert answer.status == 408


async def test_resources_are_judged_beside_those_that_are_there():
    async with running() as server:
        server.catalogue.observe(gauge("a", 1, claim="x"))

        refused = (await server.post(RESOURCES_PATH, review(gauge("b", 1, claim="x"))))[2]["response"]
        warned = (await server.post(RESOURCES_PATH, review(gauge("b", 12))))[2]["response"]
        allowed = (await server.post(RESOURCES_PATH, review(gauge("b", 1))))[2]["response"]

        assert "is held by a" in refused["status"]["message"]
        assert "is near an unlucky one" in warned["warnings"][0]
        assert allowed == {"uid": "u", "allowed": True}
        assert [server.reviews(webhook="resources", outcome=o) for o in ("refused", "warned", "allowed")] == [1, 1, 1]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "labels",
                    "annotations",
                    "containers",
                    "initContainers",
                    "volumes",
                    "env",
                    "ports",
                    "volumeMounts",
                    "name",
                    "os",
                    "nodeSelector",
                    "securityContext",
                    "kind",
                    "apiVersion",
                    "hostNetwork",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
PODLIKE = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({"labels": st.just(ASKS)}, optional={"annotations": ANYTHING}) | ANYTHING,
        "spec": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("containers", "initContainers", "volumes", "os", "nodeSelector"), ANYTHING)
        ),
    }
)


@given(PODLIKE)
def test_whatever_is_sent_as_a_pod_gets_a_verdict_or_is_no_review(document):
    injector = Injector(Settings(namespace="pillion-system"))
    request = decode(json.dumps(review(document)).encode())
    try:
        body, _ = mutate(request, lambda pod, _: injector(pod, Namespace(labels=ASKS)))
    except BadReview:
        return

    assert json.loads(body)["response"]["allowed"] is True


@given(ANYTHING, ANYTHING)
def test_whatever_is_sent_as_a_resource_gets_a_verdict(spec, metadata):
    document = {"apiVersion": "pillion.dev/v1alpha1", "kind": "Gauge", "metadata": metadata, "spec": spec}

    body = validate(decode(json.dumps(review(document)).encode()), VOCABULARY.kinds, lambda _resource: ())

    assert json.loads(body)["response"]["uid"] == "u"
