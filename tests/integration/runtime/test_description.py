"""The description is true: what it says is served, what is served it says, and malformed requests meet nothing worse than a 4xx."""

import asyncio
import threading

import aiohttp
import pytest
from openapi_spec_validator import validate
from tests.support.fuzz import assert_survives
from tests.support.operations import build
from tests.support.serving import running
from tests.support.walk import documented_routes, served_routes, walk

NOT_WALKED = frozenset({"slow", "fail"})
"""One waits for a sign, the other breaks on purpose."""


async def test_every_documented_operation_answers_as_documented(quiet):
    async with running(*build()) as server:
        statuses = await walk(server, server.openapi, skip=NOT_WALKED)
    assert {name: status for name, status in statuses.items() if status >= 400} == {}


async def test_every_documented_operation_answers_as_documented_without_a_token(quiet):
    async with running(*build()) as server:
        server.set_token(b"sesame")
        statuses = await walk(server, server.openapi, skip=NOT_WALKED)
    open_to_all = {name for name, status in statuses.items() if status != 401}
    assert open_to_all == {"openapi", "docs", "metrics", "livez"}


async def test_every_served_route_is_documented_and_the_other_way_round():
    async with running(*build()) as server:
        assert served_routes(server) == documented_routes(server.openapi)
        assert ("GET", "/openapi.json") in served_routes(server)


async def test_the_document_is_served_and_valid_openapi():
    async with running(*build()) as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/openapi.json") as response:
            document = await response.json()
        async with session.get(f"{server.admin_url}/openapi.json") as response:
            admin = await response.json()
    validate(document)
    validate(admin)
    assert set(admin["paths"]) == {"/livez", "/openapi.json", "/docs", "/metrics"}
    assert "securitySchemes" not in admin["components"]


async def test_the_page_shows_every_route_and_loads_nothing_from_elsewhere():
    async with (
        running(*build()) as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/docs") as response,
    ):
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
        assert f"export PILLION_URL={server.url}" in text
    assert "default-src 'none'" in policy
    for outside in ("http://cdn", "https://", "<script", "src=", "@import", "url("):
        assert outside not in text
    for _, path in documented_routes(server.openapi):
        assert path in text


@pytest.mark.parametrize(
    ("accept", "media"),
    [("", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
async def test_metrics_come_in_the_format_that_is_asked_for_on_both_listeners(accept, media):
    async with running(*build()) as server, aiohttp.ClientSession() as session:
        for url in (server.url, server.admin_url):
            async with session.get(f"{url}/metrics", headers={"Accept": accept}) as response:
                assert response.headers["Content-Type"].startswith(media)
                text = await response.text()
        assert 'pillion_http_requests_total{method="GET",route="/metrics",status="200"} 1' in text


@pytest.mark.slow
def test_malformed_requests_never_meet_a_server_error(quiet):
    """In a thread of its own: schemathesis calls synchronously."""
    ready, stop, found = threading.Event(), threading.Event(), {}

    async def serve() -> None:
        async with running(*build()) as server:
            found["url"], found["document"] = server.url, server.openapi
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server under test")
    thread.start()
    try:
        assert ready.wait(30)
        sent = assert_survives(found["url"], found["document"], seconds=4, examples=8, skip=NOT_WALKED)
    finally:
        stop.set()
        thread.join(30)
    assert min(sent.values()) >= 1
