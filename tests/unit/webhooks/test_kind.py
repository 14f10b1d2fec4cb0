"""WebhookEndpoint: what is refused, in which words, and what becomes of a good one."""

import json

import msgspec
import pytest
import yaml

from pillion.kinds.crd import crd_yaml
from pillion.kinds.resource import check_document
from pillion.webhooks.compiled import CompiledEndpoint
from pillion.webhooks.kind import BLOCK

KINDS = {kind.kind: kind for kind in BLOCK.kinds}
(KIND,) = BLOCK.kinds
SIGNING = {"secretRef": {"name": "billing-hook", "key": "secret"}}


def document(**spec):
    return {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "WebhookEndpoint",
        "metadata": {"name": "billing"},
        "spec": {"url": "https://billing.example.com/hooks", "signing": SIGNING} | spec,
    }


def messages(**spec):
    checked = check_document(document(**spec), KINDS)
    return [violation.message for violation in checked.violations], checked.resource


def test_the_smallest_endpoint_has_every_default_spelled_out():
    found, resource = messages()
    assert found == []
    compiled = msgspec.convert(KIND.compile("billing", resource.spec), CompiledEndpoint)
    assert compiled == CompiledEndpoint(
        url="https://billing.example.com/hooks",
        events=("*",),
        secret=("billing-hook", "secret"),
        schedule_ns=tuple(s * 10**9 for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)),
        jitter_percent=10,
        respect_retry_after=True,
        timeout_ns=15 * 10**9,
        concurrency=16,
        headers=(),
        allow=(),
        retain_succeeded_ns=3 * 86400 * 10**9,
        retain_failed_ns=14 * 86400 * 10**9,
        excerpt_bytes=4096,
    )
    assert resource.secrets == {"billing-hook"}


def test_the_compiled_form_is_json_and_does_not_depend_on_the_order_of_headers():
    _, one = messages(headers={"X-A": "1", "X-B": "2"}, egress={"allow": [{"cidr": "10.0.0.0/8"}, {"host": "A.b."}]})
    _, two = messages(headers={"X-B": "2", "X-A": "1"}, egress={"allow": [{"cidr": "10.0.0.0/8"}, {"host": "a.b"}]})
    assert json.dumps(KIND.compile("x", one.spec)) == json.dumps(KIND.compile("x", two.spec))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"url": "billing.example.com"}, "spec.url"),
        ({"url": "https://"}, "spec.url"),
        ({"url": "ftp://host/x"}, "spec.url"),
        ({"url": "https://host/a b"}, "spec.url"),
        ({"url": "https://host/x#y"}, 'spec.url: "https://host/x#y" must not have a fragment'),
        ({"url": "https://u:p@host/"}, "must not hold a user or password"),
        ({"url": "https://127.1/"}, "has an address in an unusual form; write four decimal numbers"),
        ({"url": "https://host:70000/"}, "has a port beyond 1-65535"),
        ({"url": "http://host/"}, "must begin with https://"),
        (
            {"url": "http://host/", "egress": {"allow": [{"host": "other"}]}},
            'spec.url: "http://host" is plain http to a destination that egress.allow does not name, so nothing would ever be sent',
        ),
        ({"url": "http://10.1.2.3/", "egress": {"allow": [{"cidr": "10.2.0.0/16"}]}}, "is plain http to a destination"),
        ({"events": []}, "spec.events"),
        ({"events": ["order created"]}, "spec.events[0]"),
        ({"events": ["order.**"]}, "spec.events[0]"),
        ({"events": ["order.", "a"]}, "spec.events[0]"),
        ({"events": ["a", "a"]}, 'spec.events[1]: "a" stands here twice; remove one'),
        ({"signing": {}}, "spec.signing.secretRef"),
        ({"signing": SIGNING | {"scheme": "md5"}}, "spec.signing.scheme"),
        ({"signing": {"secretRef": {"name": "Nope", "key": "x"}}}, "spec.signing.secretRef.name"),
        (
            {"retry": {"schedule": ["8d"]}},
            'spec.retry.schedule[0]: "8d" is not allowed (maximum 7d); write "7d" or less',
        ),
        (
            {"retry": {"schedule": ["5m", "5s"]}},
            'spec.retry.schedule[1]: "5s" is shorter than the pause before it (5m)',
        ),
        ({"retry": {"schedule": ["soon"]}}, "spec.retry.schedule[0]"),
        ({"retry": {"schedule": ["1s"] * 21}}, "spec.retry.schedule"),
        ({"retry": {"jitter": "150%"}}, "spec.retry.jitter"),
        ({"timeout": "0s"}, 'spec.timeout: "0s" is not allowed (minimum 1s, maximum 60s); did you mean "1s"?'),
        ({"timeout": "5m"}, 'did you mean "60s"?'),
        ({"concurrency": {"max": 0}}, "spec.concurrency.max"),
        ({"concurrency": {"max": 1000}}, "spec.concurrency.max"),
        ({"headers": {"Host": "x"}}, "spec.headers.Host: is set by the sender itself"),
        ({"headers": {"Webhook-Id": "x"}}, "is set by the sender itself"),
        ({"headers": {"svix-id": "x"}}, "is set by the sender itself"),
        ({"headers": {"Transfer-Encoding": "x"}}, "is set by the sender itself"),
        ({"headers": {"bad name": "x"}}, "is no header field name"),
        ({"headers": {"X-A": "a\r\nX-B: c"}}, "spec.headers"),
        ({"headers": {"X-A": "a\n"}}, "spec.headers"),
        ({"headers": {"X-A": "ü"}}, "spec.headers"),
        ({"headers": {"X-A": " padded "}}, "spaces around it"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "stands here twice in different case"),
        ({"egress": {"allow": [{}]}}, "exactly one of cidr and host must be given"),
        ({"egress": {"allow": [{"cidr": "10.0.0.0/8", "host": "a"}]}}, "exactly one of cidr and host must be given"),
        ({"egress": {"allow": [{"cidr": "10.0.0.1/8"}]}}, "has bits set beyond its prefix"),
        ({"egress": {"allow": [{"cidr": "ten"}]}}, "is no network; write an address and a prefix length"),
        ({"retention": {"succeeded": "0s"}}, "spec.retention.succeeded"),
        ({"retention": {"failed": "91d"}}, "spec.retention.failed"),
        (
            {"retention": {"bodies": "1Mi"}},
            'spec.retention.bodies: "1Mi" is more than is ever read of a response (64Ki)',
        ),
        ({"filter": "true"}, "spec.filter"),
    ],
)
def test_a_bad_endpoint_is_refused_in_words_that_help(spec, message):
    found, resource = messages(**spec)
    assert resource is None
    assert any(message in text for text in found), found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"events": ["*", "order.*"]}, 'holds "*", which matches everything'),
        ({"headers": {"Authorization": "Bearer x"}}, "looks like a credential"),
    ],
)
def test_what_is_only_suspicious_is_a_warning(spec, message):
    found, resource = messages(**spec)
    assert resource is not None
    assert any(message in text for text in found)


@pytest.mark.parametrize(
    "spec",
    [
        {"url": "http://billing.svc/", "egress": {"allow": [{"host": "Billing.svc"}]}},
        {"url": "http://billing.svc/", "egress": {"allow": [{"cidr": "10.0.0.0/8"}]}},
        {"url": "http://127.0.0.1:9/", "egress": {"allow": [{"cidr": "127.0.0.1/32"}]}},
        {"url": "http://[::1]:9/", "egress": {"allow": [{"cidr": "::1/128"}]}},
        {"retry": {"schedule": []}},
        {"retry": {"schedule": ["0s", "0s", "7d"]}},
        {"retention": {"bodies": "0"}},
        {"suspend": True, "selector": {"matchLabels": {"app": "x"}}},
    ],
)
def test_what_is_unusual_but_meant_is_accepted(spec):
    found, resource = messages(**spec)
    assert found == []
    assert resource is not None


def test_the_status_shows_the_host_only():
    _, resource = messages(
        url="https://hooks.example.com/services/T000/B000/token", events=[f"type{n}.*" for n in range(20)]
    )
    summary = KIND.summarize(resource.spec)
    assert summary["host"] == "hooks.example.com"
    assert len(summary["events"]) <= 64


def test_the_crd_can_be_written():
    crd = yaml.safe_load(crd_yaml(KIND))
    (version,) = crd["spec"]["versions"]
    assert [column["name"] for column in version["additionalPrinterColumns"]][:4] == [
        "URL",
        "Events",
        "Backlog",
        "Last-Success",
    ]
    assert crd["spec"]["names"]["shortNames"] == ["whe"]
