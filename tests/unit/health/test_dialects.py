"""One report in several languages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.health.dialects import Service, choose, render, render_check
from pillion.health.engine import CheckPlan, Complaint, DiskTarget, Observation, Report, Standing, TcpTarget, judge

SERVICE = Service("shop-1", "1.2.3")
SECOND = 1_000_000_000
NOON = 1_777_636_800


def check(name, *, healthy=True, critical=True, target=None, measure="", value=0.0):
    plan = CheckPlan(
        name=name,
        critical=critical,
        interval=10 * SECOND,
        timeout=SECOND,
        failures=1,
        successes=1,
        target=target or TcpTarget("db", 1),
    )
    last = Observation(
        success=healthy,
        wall=NOON * SECOND,
        monotonic=0,
        duration=84_250_000,
        output="" if healthy else "connection refused",
        measure=measure,
        value=value,
    )
    return judge(plan, Standing(healthy=healthy), last, 0)


def report(*checks, started=True, draining=False, complaints=()):
    return Report(started=started, draining=draining, checks=checks, complaints=complaints)


def test_health_json_is_what_the_draft_says():
    status, body = render("health", report(check("db", healthy=False, critical=False)), "health+json", SERVICE)

    assert status == 200
    assert json.loads(body) == {
        "status": "warn",
        "releaseId": "1.2.3",
        "serviceId": "shop-1",
        "checks": {
            "db:responseTime": [
                {
                    "componentId": "db",
                    "componentType": "component",
                    "observedValue": 84.25,
                    "observedUnit": "ms",
                    "status": "fail",
                    "time": "2026-05-01T12:00:00Z",
                    "output": "connection refused",
                }
            ]
        },
    }


def test_a_disk_tells_its_utilization():
    one = check("data", target=DiskTarget("/data", 1), measure="utilization", value=42.5)

    found = json.loads(render_check(one, "health+json", SERVICE)[1])["checks"]["data:utilization"][0]

    assert (found["observedValue"], found["observedUnit"], found["componentType"]) == (42.5, "percent", "system")


def test_conditions_of_the_sidecar_are_told():
    complaint = Complaint("configuration", "warn", "no word from the operator", NOON)

    status, body = render("health", report(complaints=(complaint,)), "health+json", SERVICE)

    assert status == 200
    assert json.loads(body)["checks"]["sidecar:conditions"] == [
        {
            "componentId": "configuration",
            "componentType": "system",
            "status": "warn",
            "time": "2026-05-01T12:00:00Z",
            "output": "no word from the operator",
        }
    ]


@pytest.mark.parametrize(
    ("question", "state", "status", "text"),
    [
        ("live", report(started=False, draining=True), 200, "pass\n"),
        ("started", report(started=False), 503, "fail: no configuration yet\n"),
        ("ready", report(started=False), 503, "fail: not started\n"),
        ("ready", report(draining=True), 503, "fail: draining\n"),
        (
            "ready",
            report(check("db", healthy=False)),
            503,
            "fail: critical checks fail: db\ndb: fail: connection refused\n",
        ),
        ("ready", report(check("db", healthy=False, critical=False)), 200, "pass\n"),
        (
            "health",
            report(check("db"), complaints=(Complaint("x", "fail", "bad", 0),)),
            503,
            "fail\ndb: pass\nsidecar/x: fail: bad\n",
        ),
    ],
)
def test_every_question_has_its_own_answer(question, state, status, text):
    assert render(question, state, "plain", SERVICE) == (status, text.encode())


def test_liveness_knows_nothing_remote():
    down = report(check("db", healthy=False), started=False, complaints=(Complaint("x", "fail", "bad", 0),))

    status, body = render("live", down, "health+json", SERVICE)

    assert status == 200
    assert json.loads(body) == {"status": "pass", "releaseId": "1.2.3", "serviceId": "shop-1"}


def test_a_single_check_speaks_for_itself_whatever_its_severity():
    down = check("db", healthy=False, critical=False)

    assert render_check(down, "plain", SERVICE) == (503, b"db: fail: connection refused\n")
    assert render_check(down, "microprofile", SERVICE)[0] == 503
    assert json.loads(render_check(down, "health+json", SERVICE)[1])["status"] == "fail"


healths = st.builds(
    report,
    st.builds(check, st.just("a"), healthy=st.booleans(), critical=st.booleans()),
    st.builds(check, st.just("b"), healthy=st.booleans(), critical=st.booleans()),
    started=st.booleans(),
    draining=st.booleans(),
    complaints=st.lists(
        st.builds(Complaint, st.just("c"), st.sampled_from(["warn", "fail"]), st.text(), st.just(0)), max_size=1
    ).map(tuple),
)


@given(healths, st.sampled_from(["live", "ready", "started", "health"]))
def test_microprofile_is_the_and_over_its_procedures(state, question):
    status, body = render(question, state, "microprofile", SERVICE)
    document = json.loads(body)

    ups = [procedure["status"] == "UP" for procedure in document["checks"]]
    assert (document["status"] == "UP") == all(ups)
    assert status == (200 if all(ups) else 503)
    assert all(isinstance(v, str | int | float | bool) for p in document["checks"] for v in p.get("data", {}).values())


@given(healths, st.sampled_from(["live", "ready", "started", "health"]))
def test_all_dialects_agree_on_the_http_status(state, question):
    assert (
        len({render(question, state, dialect, SERVICE)[0] for dialect in ("health+json", "microprofile", "plain")}) == 1
    )


@pytest.mark.parametrize(
    ("accept", "dialect"),
    [
        ("", "health+json"),
        ("*/*", "health+json"),
        ("application/health+json", "health+json"),
        ("application/json", "microprofile"),
        ("text/plain", "plain"),
        ("text/*", "plain"),
        ("TEXT/Plain; charset=utf-8", "plain"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "health+json"),
        ("application/json, application/health+json", "microprofile"),
        ("application/json;q=0.5, text/plain;q=0.9", "plain"),
        ("application/json;q=0, */*;q=0.1", "health+json"),
        ("*/*, text/plain", "plain"),
        ("image/png", "health+json"),
        ("application/json;q=nonsense", "health+json"),
        ("text/plain;q=2", "health+json"),
        ("text/plain, " + "x" * 2000, "health+json"),
    ],
)
def test_accept_chooses_the_dialect(accept, dialect):
    assert choose(accept) == dialect


@given(st.text(max_size=200))
def test_any_accept_has_an_answer(accept):
    assert choose(accept) in ("health+json", "microprofile", "plain")
