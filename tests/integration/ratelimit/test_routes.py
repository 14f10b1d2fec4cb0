"""Rate limiting over real connections: both lanes, both sockets, and every way a request can be wrong."""

import json

import aiohttp
import pytest
from tests.support import ratelimits
from tests.support.serving import FixedClock, running

SHOP = """
apiVersion: pillion.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: shop}
spec:
  rules:
  - name: login
    match: [{attribute: route, exact: /login}]
    key: [{attribute: ip, ipv6Prefix: 64}]
    limits: [{requests: 2, per: 1m}]
  - name: per-user
    match: [{attribute: route, prefix: /api/}]
    key: [user]
    limits: [{requests: 100, per: 1m, burst: 3}, {requests: 1000, per: 1d, algorithm: fixedWindow}]
  - name: per-key
    key: [header.x-api-key]
    limits: [{requests: 1, per: 1h}]
  - name: often
    match: [{attribute: route, exact: /often}]
    key: [user]
    limits: [{requests: 6, per: 1s}]
  bypass: [{attribute: role, exact: admin}]
  deny: [{attribute: ip, cidr: 192.0.2.0/24}]
"""

CHECK = "/v1/ratelimit/check"


class Client:
    """A served block, asked over one connection."""

    def __init__(self, session, url, clock):
        self.session, self.url, self.clock = session, url, clock

    async def post(self, path, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} | headers
        async with self.session.post(self.url + path, data=data, headers=fields) as answer:
            return answer.status, answer.headers, json.loads(await answer.read())

    async def authorize(self, query="", method="GET", **headers):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"{self.url}/v1/ratelimit/authorize{query}", headers=fields) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest.fixture(params=["hot lane", "ordinary lane", "unix socket"])
async def shop(request, tmp_path):
    clock = FixedClock()
    block = ratelimits.make(clock=clock)
    await ratelimits.configure(block, SHOP)
    unix = request.param == "unix socket"
    settings = {"hot_lane": request.param != "ordinary lane", "socket_path": str(tmp_path / "s") if unix else ""}
    async with running(block.operations(), block.hot_operations(), **settings) as server:
        connector = aiohttp.UnixConnector(server.socket_path) if unix else aiohttp.TCPConnector()
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Client(session, "http://localhost" if unix else server.url, clock)


async def test_a_limit_bites_and_heals(shop):
    body = {"policy": "shop", "attributes": {"route": "/login", "ip": "2001:db8::1"}}
    first = await shop.post(CHECK, body)
    await shop.post(CHECK, body | {"attributes": {"route": "/login", "ip": "2001:db8::2"}})
    third = await shop.post(CHECK, body)
    shop.clock.monotonic += 30_000_000_000
    healed = await shop.post(CHECK, body)

    assert first[2] == {
        "allowed": True,
        "policy": "shop",
        "rule": "login",
        "limit": 2,
        "remaining": 1,
        "resetAfter": 30.0,
        "retryAfter": 0,
        "shadow": False,
    }
    assert (first[1]["RateLimit-Policy"], first[1]["RateLimit"]) == ('"shop/login";q=2;w=60', '"shop/login";r=1;t=30')
    assert (third[0], third[2]["allowed"], third[2]["retryAfter"]) == (200, False, 30.0)
    assert healed[2]["allowed"]


async def test_a_refusal_as_status_is_a_problem_with_retry_after(shop):
    body = {"attributes": {"route": "/login", "ip": "198.51.100.1"}, "cost": 2}
    allowed, _, _ = await shop.post(f"{CHECK}?enforce=status", body)
    status, headers, document = await shop.post(f"{CHECK}?enforce=status", body)

    assert (allowed, status) == (200, 429)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "60"
    assert document["violated-policies"] == ["shop/login"]
    assert document["retryAfter"] == 60.0


async def test_several_limits_of_a_rule_are_told(shop):
    _, headers, body = await shop.post(CHECK, {"attributes": {"route": "/api/x", "user": "a"}})

    assert (body["rule"], body["limit"], body["remaining"]) == ("per-user", 3, 2)
    assert (
        headers["RateLimit-Policy"]
        == '"shop/per-user/100-per-1m";q=100;w=60, "shop/per-user/1000-per-1d";q=1000;w=86400'
    )
    assert headers["RateLimit"] == '"shop/per-user/100-per-1m";r=2;t=1'


async def test_a_peek_and_a_bypass_take_nothing(shop):
    peek = {"attributes": {"route": "/api/x", "user": "a"}, "peek": True}
    bypass = {"attributes": {"route": "/api/x", "user": "a", "role": "admin"}}
    for _ in range(5):
        assert (await shop.post(CHECK, peek))[2]["remaining"] == 3
        assert (await shop.post(CHECK, bypass))[2]["policy"] is None


async def test_a_deny_list_refuses_for_good(shop):
    body = {"attributes": {"route": "/api/x", "user": "a", "ip": "192.0.2.9"}}
    _, _, told = await shop.post(CHECK, body)
    status, headers, document = await shop.post(f"{CHECK}?enforce=status", body)

    assert (told["allowed"], told["retryAfter"], told["rule"]) == (False, None, None)
    assert (status, document["type"]) == (403, "https://pillion.dev/problems/denied")
    assert "Retry-After" not in headers


async def test_a_batch_answers_in_order(shop):
    one = {"attributes": {"route": "/login", "ip": "198.51.100.1"}}
    status, _, body = await shop.post(f"{CHECK}:batch", {"checks": [one, {}, one, one]})

    assert status == 200
    assert [result["allowed"] for result in body["results"]] == [True, True, True, False]
    assert [result["rule"] for result in body["results"]] == ["login", None, "login", "login"]


async def test_a_thousand_checks_fit_into_one_batch(shop):
    checks = [{"attributes": {"route": "/api/x", "user": f"user-{n}"}} for n in range(1_000)]
    status, _, body = await shop.post(f"{CHECK}:batch", {"checks": checks})

    assert (status, len(body["results"])) == (200, 1_000)


@pytest.mark.parametrize(
    ("path", "body", "status", "pointer"),
    [
        (CHECK, b"{", 400, "#"),
        (CHECK, b"", 400, "#"),
        (CHECK, b'{"attributes":{"user":5}}', 422, "#/attributes/user"),
        (CHECK, b'{"attributes":{"ip":"1.2.3.4:5"}}', 422, "#/attributes/ip"),
        (CHECK, b'{"policy":"shpo"}', 404, "#/policy"),
        (f"{CHECK}?enforce=yes", b"{}", 400, "query:enforce"),
        (f"{CHECK}:batch", b'{"checks":[{},{"cost":-1}]}', 422, "#/checks/1/cost"),
        (f"{CHECK}:batch", b'{"checks":[{},{"policy":"x"}]}', 422, "#/checks/1/policy"),
    ],
)
async def test_a_wrong_request_is_a_problem_that_names_the_field(shop, path, body, status, pointer):
    answered, headers, document = await shop.post(path, body)

    assert (answered, headers["Content-Type"]) == (status, "application/problem+json")
    assert [error["pointer"] for error in document["errors"]] == [pointer]


async def test_a_body_over_the_bound_is_refused(shop):
    status, _, _ = await shop.post(CHECK, b'{"attributes":{"user":"%s"}}' % (b"x" * 70_000))

    assert status == 413


async def test_a_forwarded_request_is_decided_by_its_own_attributes(shop):
    fields = {
        "X_Forwarded_Method": "POST",
        "X_Forwarded_Uri": "/%6Cogin?next=/",
        "X_Forwarded_For": "203.0.113.1, 198.51.100.7",
    }
    answers = [await shop.authorize(**fields) for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[0][1]["RateLimit"] == '"shop/login";r=1;t=30'
    assert answers[0][2] == b""
    assert answers[2][1]["Retry-After"] == "30"
    assert json.loads(answers[2][2])["violated-policies"] == ["shop/login"]


async def test_a_header_can_be_a_key_and_the_status_of_a_refusal_be_chosen(shop):
    first, _, _ = await shop.authorize("?deny_status=403", X_Api_Key="k")
    status, headers, body = await shop.authorize("?deny_status=403", method="POST", X_Api_Key="k")
    other, _, _ = await shop.authorize("?deny_status=403", X_Api_Key="other")

    assert (first, status, other) == (200, 403, 200)
    assert headers["Retry-After"] == "3600"
    assert json.loads(body)["status"] == 403


async def test_a_forwarded_request_from_a_denied_network_is_forbidden(shop):
    status, _, _ = await shop.authorize(X_Forwarded_For="192.0.2.44")

    assert status == 403


@pytest.mark.parametrize(
    ("query", "status", "pointer"),
    [
        ("?policy=shpo", 404, "query:policy"),
        ("?cost=0", 400, "query:cost"),
        ("?cost=x", 400, "query:cost"),
        ("?deny_status=500", 400, "query:deny_status"),
    ],
)
async def test_a_wrong_question_of_a_proxy_is_a_problem(shop, query, status, pointer):
    answered, _, body = await shop.authorize(query)

    assert answered == status
    assert json.loads(body)["errors"][0]["pointer"] == pointer


async def test_both_lanes_give_the_same_bytes():
    """The same checks, in the same order, at the same moment."""
    bodies = [
        {"policy": "shop", "attributes": {"route": "/login", "ip": "198.51.100.1"}},
        {"attributes": {"route": "/api/x", "user": "a", "ip": "198.51.100.1"}},
        {"attributes": {"route": "/login", "ip": "198.51.100.1"}, "cost": 3},
        {"attributes": {"route": "/login", "ip": "192.0.2.1"}},
        {"attributes": {"route": "/often", "user": "a"}},
        {},
    ]
    answers = []
    for hot in (True, False):
        clock = FixedClock()
        block = ratelimits.make(clock=clock)
        await ratelimits.configure(block, SHOP)
        async with (
            running(block.operations(), block.hot_operations(), clock=clock, hot_lane=hot) as server,
            aiohttp.ClientSession() as session,
        ):
            client = Client(session, server.url, clock)
            given = []
            for path in (CHECK, f"{CHECK}?enforce=status"):
                for body in bodies * 5:
                    status, headers, answer = await client.post(path, body)
                    given.append((status, list(headers.items()), answer))
            answers.append(given)

    assert answers[0] == answers[1]


async def test_a_request_that_was_remembered_needs_the_token_as_soon_as_there_is_one():
    block = ratelimits.make()
    await ratelimits.configure(block, ratelimits.MANY)
    body = {"attributes": {"user": "a"}}
    async with (
        running(block.operations(), block.hot_operations()) as server,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, server.url, None)
        before = [(await client.post(CHECK, body))[0] for _ in range(4)]
        server.set_token(b"a-token-of-24-characters")
        after = [(await client.post(CHECK, body))[0] for _ in range(2)]

    assert (before, after) == ([200] * 4, [401] * 2)


async def test_a_request_that_was_remembered_is_decided_by_the_rules_in_force():
    block = ratelimits.make()
    await ratelimits.configure(block, ratelimits.MANY)
    body = {"attributes": {"user": "a"}}
    async with (
        running(block.operations(), block.hot_operations()) as server,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, server.url, None)
        before = [(await client.post(CHECK, body))[2]["limit"] for _ in range(4)]
        await ratelimits.configure(block, ratelimits.MANY.replace("1000000", "5"))
        after = [(await client.post(CHECK, body))[2]["limit"] for _ in range(4)]
        await ratelimits.configure(block, "")
        without = (await client.post(CHECK, body))[2]["limit"]

    assert (before, after, without) == ([1_000_000] * 4, [5] * 4, None)
