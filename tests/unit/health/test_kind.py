"""The health section of a SidecarProfile: what is refused, and what it compiles to."""

import msgspec
import pytest
import yaml

from pillion.health.engine import CheckPlan, DiskTarget, HttpTarget, RedisTarget, TcpTarget
from pillion.health.kind import BLOCK
from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import check_document

PROFILE = profile_kind([BLOCK])


def checked(section):
    document = {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "SidecarProfile",
        "metadata": {"name": "p"},
        "spec": {"health": yaml.safe_load(section)},
    }
    return check_document(document, {"SidecarProfile": PROFILE})


def plans(section):
    found = checked(section)
    assert [v.message for v in found.violations] == []
    settings = PROFILE.compile("p", found.resource.spec)["settings"]["health"]
    return msgspec.convert(msgspec.json.decode(msgspec.json.encode(settings["checks"])), list[CheckPlan])


def test_a_check_compiles_to_integers_and_defaults():
    (plan,) = plans("{checks: [{name: db, tcp: {address: 'postgres:5432'}}]}")

    assert plan == CheckPlan(
        name="db",
        critical=False,
        interval=10_000_000_000,
        timeout=1_000_000_000,
        failures=3,
        successes=1,
        target=TcpTarget("postgres", 5432),
    )


def test_all_targets_survive_the_way_through_json():
    found = plans("""
    checks:
    - {name: a, http: {url: "https://api.example/healthz", method: HEAD, headers: {X-Probe: "1"}}, critical: true}
    - {name: b, tcp: {address: "[::1]:5432"}, interval: 1m, timeout: 250ms, failures: 1, successes: 4}
    - {name: c, redis: {urlRef: {name: redis, key: url}}}
    - {name: d, disk: {path: /data, minFree: 1Gi}}
    """)

    assert [plan.target for plan in found] == [
        HttpTarget("https://api.example/healthz", "HEAD", {"X-Probe": "1"}),
        TcpTarget("::1", 5432),
        RedisTarget("redis", "url"),
        DiskTarget("/data", 1 << 30),
    ]
    assert (found[0].critical, found[1].interval, found[1].timeout) == (True, 60_000_000_000, 250_000_000)


def test_the_secret_of_a_redis_check_is_asked_for():
    found = checked("{checks: [{name: c, redis: {urlRef: {name: redis, key: url}}}]}")

    assert found.resource.secrets == {"redis"}


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ("{checks: [{name: a}]}", "spec.health.checks[0]", "exactly one"),
        (
            "{checks: [{name: a, tcp: {address: 'b:1'}, disk: {path: /, minFree: 1Mi}}]}",
            "spec.health.checks[0]",
            "exactly one",
        ),
        ("{checks: [{name: live, tcp: {address: 'b:1'}}]}", "spec.health.checks[0].name", "MicroProfile"),
        ("{checks: [{name: A, tcp: {address: 'b:1'}}]}", "spec.health.checks[0].name", "A"),
        ("{checks: [{name: a, tcp: {address: b}}]}", "spec.health.checks[0].tcp.address", "b"),
        ("{checks: [{name: a, tcp: {address: 'b:70000'}}]}", "spec.health.checks[0].tcp.address", "65535"),
        ("{checks: [{name: a, tcp: {address: 'b:0'}}]}", "spec.health.checks[0].tcp.address", "65535"),
        ("{checks: [{name: a, tcp: {address: 'b:1'}, interval: 50ms}]}", "spec.health.checks[0].interval", "100ms"),
        ("{checks: [{name: a, tcp: {address: 'b:1'}, interval: 2h}]}", "spec.health.checks[0].interval", "1h"),
        ("{checks: [{name: a, tcp: {address: 'b:1'}, timeout: 1ms}]}", "spec.health.checks[0].timeout", "10ms"),
        ("{checks: [{name: a, tcp: {address: 'b:1'}, timeout: 11s}]}", "spec.health.checks[0].timeout", "interval"),
        ("{checks: [{name: a, tcp: {address: 'b:1'}, failures: 0}]}", "spec.health.checks[0].failures", "minimum"),
        ("{checks: [{name: a, http: {url: 'ftp://x'}}]}", "spec.health.checks[0].http.url", "ftp"),
        ("{checks: [{name: a, http: {url: 'http:///healthz'}}]}", "spec.health.checks[0].http.url", "absolute"),
        ("{checks: [{name: a, http: {url: 'http://[::1'}}]}", "spec.health.checks[0].http.url", "absolute"),
        ("{checks: [{name: a, http: {url: 'http://a:99999/'}}]}", "spec.health.checks[0].http.url", "absolute"),
        ("{checks: [{name: a, http: {url: 'http://a/', method: POST}}]}", "spec.health.checks[0].http.method", "POST"),
        ("{checks: [{name: a, http: {url: 'http://a/', headers: {'b c': d}}}]}", "spec.health.checks[0].http", "token"),
        (
            "{checks: [{name: a, http: {url: 'http://a/', headers: {Authorization: d}}}]}",
            "spec.health.checks[0].http.headers.Authorization",
            "secret",
        ),
        ("{checks: [{name: a, disk: {path: data, minFree: 1Mi}}]}", "spec.health.checks[0].disk.path", "data"),
        ("{checks: [{name: a, disk: {path: /, minFree: '0'}}]}", "spec.health.checks[0].disk.minFree", "never fail"),
        ("{checks: [{name: a, disk: {path: /}}]}", "spec.health.checks[0].disk.minFree", "missing"),
        ("{liveness: {}}", "spec.health.liveness", "no field"),
    ],
)
def test_what_is_wrong_is_named(section, path, words):
    found = checked(section)

    assert found.resource is None
    assert any(v.path.startswith(path) and words in v.message for v in found.violations), found.violations


def test_a_password_in_a_url_is_refused_without_repeating_it():
    found = checked("{checks: [{name: a, http: {url: 'http://u:hunter2@a/'}}]}")

    (violation,) = found.violations
    assert violation.path == "spec.health.checks[0].http.url"
    assert "hunter2" not in violation.message
