"""The probe endpoints on the real server, with real dependencies that come and go."""

import asyncio
import json

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.health import free_port, tcp_server, until

FAST = "interval: 100ms, timeout: 90ms"
SLOW = "interval: 1h, timeout: 20s"


async def hang(_reader, _writer):
    """Accept, and never say a word."""
    await asyncio.Event().wait()


async def test_startup_waits_for_the_first_configuration_and_the_first_run_of_every_check(sidecar):
    assert (await sidecar.get("/livez"))[0] == 200
    assert (await sidecar.get("/startupz"))[0] == 503
    assert await sidecar.text("/startupz") == "fail: no configuration yet\n"
    async with tcp_server(hang) as port:
        await sidecar.apply(f"{{checks: [{{name: api, http: {{url: 'http://127.0.0.1:{port}'}}, {SLOW}}}]}}")
        await sidecar.block.start()
        assert (
            await sidecar.text("/startupz") == "fail: waiting for the first run of: api\napi: warn: has not run yet\n"
        )
        assert (await sidecar.text("/readyz")).startswith("fail: not started")
        await sidecar.apply(f"{{checks: [{{name: port, tcp: {{address: '127.0.0.1:{port}'}}, {SLOW}}}]}}")

        await until(lambda: sidecar.check("port").passed)

        assert await sidecar.text("/startupz") == "pass\nport: pass\n"
        assert await sidecar.text("/readyz") == "pass\n"


async def test_a_real_redis_that_is_stopped_and_started_again(sidecar, redis_server):
    secrets = {"redis": {"url": f"redis://:sesame@127.0.0.1:{redis_server.port}/0\n".encode()}}
    section = (
        "{checks: [{name: cache, critical: true, failures: 2, interval: 100ms, timeout: 100ms,"
        " redis: {urlRef: {name: redis, key: url}}}]}"
    )
    await sidecar.apply(section, secrets)
    await sidecar.block.start()
    await until(lambda: sidecar.check("cache").status == "pass")
    assert (await sidecar.get("/readyz"))[0] == 200

    redis_server.stop()
    await until(lambda: _containing(sidecar, "/readyz", "cache: fail: connection refused"))
    assert (await sidecar.text("/readyz")).startswith("fail: critical checks fail: cache\ncache: fail: ")
    assert (await sidecar.get("/livez"))[0] == 200

    redis_server.start()
    await until(lambda: sidecar.check("cache").status == "pass")
    assert (await sidecar.get("/readyz"))[0] == 200
    assert sidecar.check("cache").changes >= 2


async def test_a_wrong_redis_password_is_told_without_the_url(sidecar, redis_server):
    secrets = {"redis": {"url": f"redis://:hunter2@127.0.0.1:{redis_server.port}/0".encode()}}
    await sidecar.apply(
        "{checks: [{name: cache, redis: {urlRef: {name: redis, key: url}}, interval: 100ms, timeout: 100ms}]}", secrets
    )
    await sidecar.block.start()

    await until(lambda: sidecar.check("cache").failed > 1)
    body = await until(lambda: _containing(sidecar, "/health/cache", "authentication failed"))

    assert "hunter2" not in body


async def _containing(sidecar, path, words):
    body = await sidecar.text(path)
    return body if words in body else ""


async def test_a_missing_secret_is_reported_and_the_check_fails_until_it_is_there(sidecar, redis_server):
    section = "{checks: [{name: cache, redis: {urlRef: {name: redis, key: url}}, interval: 100ms, timeout: 100ms}]}"
    prepared = await sidecar.apply(section)
    await sidecar.block.start()

    (unready,) = prepared.unready
    assert (unready.kind, unready.name, unready.reason) == ("SidecarProfile", "shop", "SecretMissing")
    await until(lambda: sidecar.check("cache").status == "fail")
    assert await sidecar.text("/health/cache") == 'cache: fail: Secret "redis" does not exist\n'

    url = f"redis://:sesame@127.0.0.1:{redis_server.port}".encode()
    assert (await sidecar.apply(section, {"redis": {"url": url}})).unready == ()
    await until(lambda: sidecar.check("cache").status == "pass")


async def test_http_status_decides(sidecar):
    answer = {"status": 204}
    methods = []

    async def healthz(request):
        methods.append((request.method, request.headers["X-Probe"], request.headers["User-Agent"].split("/")[0]))
        headers = {"Location": "/elsewhere"} if answer["status"] == 302 else {}
        return web.Response(status=answer["status"], headers=headers)

    app = web.Application()
    app.router.add_route("*", "/healthz", healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        await sidecar.apply(
            f"{{checks: [{{name: api, http: {{url: 'http://localhost:{port}/healthz', method: HEAD, headers: {{X-Probe: '1'}}}},"
            " interval: 100ms, timeout: 100ms, failures: 1}]}"
        )
        await sidecar.block.start()
        await until(lambda: sidecar.check("api").status == "pass")
        answer["status"] = 503
        await until(lambda: _containing(sidecar, "/health/api", "HTTP status 503"))
        assert (await sidecar.get("/health/api"))[0] == 503
        answer["status"] = 302
        await until(lambda: sidecar.check("api").status == "pass")
    finally:
        await runner.cleanup()
    assert set(methods) == {("HEAD", "1", "pillion-health")}


async def test_what_is_no_http_is_told_apart_from_what_is_not_there(sidecar):
    async def babble(_reader, writer):
        writer.write(b"220 smtp ready\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with tcp_server(babble) as port:
        await sidecar.apply(
            f"""
            checks:
            - {{name: smtp, http: {{url: 'http://127.0.0.1:{port}/'}}, interval: 10s, timeout: 5s}}
            - {{name: gone, http: {{url: 'http://127.0.0.1:{free_port()}/'}}, interval: 10s, timeout: 5s}}
            - {{name: refused, tcp: {{address: '127.0.0.1:{free_port()}'}}, interval: 10s, timeout: 5s}}
            - {{name: nowhere, disk: {{path: /nonexistent, minFree: 1Ki}}, interval: 10s, timeout: 5s}}
            - {{name: full, disk: {{path: /, minFree: 999999999999Ki}}, interval: 10s, timeout: 5s}}
            - {{name: roomy, disk: {{path: /, minFree: '1'}}, interval: 10s, timeout: 5s}}
            """
        )
        await sidecar.block.start()
        await until(lambda: all(check.passed + check.failed for check in sidecar.block.statistics().checks))
        lines = dict(line.split(": ", 1) for line in (await sidecar.text("/health")).splitlines()[1:])

    assert lines["smtp"].startswith("fail: no valid answer")
    assert lines["gone"] == "fail: connection refused"
    assert lines["refused"] == "fail: connection refused"
    assert lines["nowhere"] == "fail: no such file or directory"
    assert "bytes are free" in lines["full"]
    assert lines["roomy"] == "pass"
    disk = json.loads((await sidecar.get("/health/roomy"))[2])["checks"]["roomy:utilization"][0]
    assert 0 < disk["observedValue"] <= 100


async def test_ten_hung_checks_of_thirty_delay_nobody(sidecar):
    """The well checks never fall behind the hung ones, which come back at their own timeout each time."""
    async with tcp_server(hang) as port:
        hung = [
            f"{{name: hung-{i}, http: {{url: 'http://127.0.0.1:{port}/'}}, {FAST}, failures: 1}}" for i in range(10)
        ]
        well = [f"{{name: well-{i}, tcp: {{address: '127.0.0.1:{port}'}}, {FAST}}}" for i in range(20)]
        await sidecar.apply("checks: [" + ", ".join(hung + well) + "]")
        await sidecar.block.start()

        await until(lambda: all(c.passed + c.failed >= 3 for c in sidecar.block.statistics().checks))

        counts = sidecar.block.statistics().checks
        fewest_well = min(c.passed + c.failed for c in counts if c.name.startswith("well"))
        most_hung = max(c.failed for c in counts if c.name.startswith("hung"))
        assert fewest_well >= most_hung - 2
        assert {c.status for c in counts if c.name.startswith("hung")} == {"fail"}
        assert (await sidecar.get("/readyz"))[0] == 200
        assert (await sidecar.get("/health"))[0] == 200
        assert "hung-3: fail: no answer within 0.09 s" in await sidecar.text("/health")


async def test_probes_are_answered_from_memory(sidecar):
    """Two hundred probes cost the dependency nothing and are rendered once."""
    connections = 0

    async def count(_reader, _writer):
        nonlocal connections
        connections += 1

    async with tcp_server(count) as port:
        await sidecar.apply(f"{{checks: [{{name: db, tcp: {{address: '127.0.0.1:{port}'}}, interval: 1h}}]}}")
        await sidecar.block.start()
        await until(lambda: sidecar.check("db").passed)
        before = sidecar.block.statistics().rendered
        bodies = {(await sidecar.get("/health"))[2] for _ in range(200)}

    assert len(bodies) == 1
    assert sidecar.block.statistics().rendered == before + 1
    assert connections == 1


async def test_a_new_configuration_keeps_what_it_does_not_touch(sidecar):
    async with tcp_server(hang) as port:
        same = f"{{name: same, tcp: {{address: '127.0.0.1:{port}'}}, interval: 1h}}"
        await sidecar.apply(f"checks: [{same}, {{name: other, tcp: {{address: '127.0.0.1:{port}'}}, interval: 1h}}]")
        await sidecar.block.start()
        await until(lambda: sidecar.check("same").passed and sidecar.check("other").passed)

        await sidecar.apply(f"checks: [{same}, {{name: other, tcp: {{address: '127.0.0.1:{port}'}}, interval: 59m}}]")
        assert sidecar.check("same").passed == 1
        assert sidecar.check("other").passed == 0
        await until(lambda: sidecar.check("other").passed)
        assert sidecar.check("same").passed == 1

        await sidecar.apply("checks: []")
        status, _, body = await sidecar.get("/health/same")
        assert (status, json.loads(body)["errors"][0]["pointer"]) == (404, "path:check")


async def test_probes_need_no_token_on_either_listener(sidecar):
    sidecar.server.set_token(b"0123456789abcdef")
    await sidecar.apply("checks: []")
    await sidecar.block.start()

    for path in ("/livez", "/readyz", "/startupz", "/health", "/health/live", "/health/ready", "/health/started"):
        for admin in (False, True):
            assert (await sidecar.get(path, admin=admin))[0] == 200, path


async def test_draining_is_unready_but_alive(sidecar):
    await sidecar.apply("checks: []")
    await sidecar.block.start()
    assert (await sidecar.get("/readyz"))[0] == 200

    await sidecar.block.drain()

    assert await sidecar.text("/readyz") == "fail: draining\n"
    assert (await sidecar.get("/readyz"))[0] == 503
    assert (await sidecar.get("/livez"))[0] == 200
    assert (await sidecar.get("/health"))[0] == 200


async def test_conditions_of_the_sidecar_come_and_go(sidecar):
    await sidecar.apply("checks: []")
    await sidecar.block.start()

    sidecar.conditions.set("configuration", "warn", "no word from the operator for 5m")
    status, media, body = await sidecar.get("/health")
    assert (status, media, json.loads(body)["status"]) == (200, "application/health+json", "warn")
    sidecar.conditions.set("logs", "fail", "12 bytes lost")
    assert (await sidecar.get("/health"))[0] == 503
    assert (await sidecar.get("/readyz"))[0] == 200
    sidecar.conditions.clear("configuration")
    sidecar.conditions.clear("logs")
    assert await sidecar.text("/health") == "pass\n"


async def test_dialects_follow_accept_and_path(sidecar):
    await sidecar.apply("checks: []")
    await sidecar.block.start()

    assert await sidecar.get("/health", accept="application/json") == (
        200,
        "application/json",
        '{"status":"UP","checks":[]}',
    )
    assert json.loads((await sidecar.get("/health/ready"))[2])["checks"] == [{"name": "sidecar", "status": "UP"}]
    assert (await sidecar.get("/health", accept="text/plain"))[1] == "text/plain"


async def test_metrics_follow_the_configuration(sidecar):
    async with tcp_server(hang) as port:
        await sidecar.apply(f"{{checks: [{{name: db, tcp: {{address: '127.0.0.1:{port}'}}, interval: 1h}}]}}")
        await sidecar.block.start()
        await until(lambda: sidecar.check("db").passed)

    def samples():
        text = generate_latest(sidecar.metrics).decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    found = samples()
    assert found["pillion_health_check_status", "db", "pass"] == 1
    assert found["pillion_health_check_status", "db", "fail"] == 0
    assert found["pillion_health_check_runs_total", "db", "pass"] == 1
    assert found["pillion_health_check_duration_seconds_count", "db"] == 1
    assert found["pillion_health_ready",] == 1
    await sidecar.apply("checks: []")
    assert not [key for key in samples() if "db" in key]
