"""The section `notifications` of a SidecarProfile."""

import pytest

from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import check_document
from pillion.notifications.kind import BLOCK

KINDS = {"SidecarProfile": profile_kind([BLOCK])}


def check(email):
    return check_document(
        {
            "apiVersion": "pillion.dev/v1alpha1",
            "kind": "SidecarProfile",
            "metadata": {"name": "default"},
            "spec": {"notifications": {"email": email}},
        },
        KINDS,
    )


def test_the_short_form_gets_its_defaults():
    checked = check({"smtp": {"host": "mail"}, "from": '"Shop, Inc." <no-reply@shop.example>'})

    compiled = KINDS["SidecarProfile"].compile("default", checked.resource.spec)["settings"]["notifications"]["email"]
    assert compiled == {
        "fromName": "Shop, Inc.",
        "fromAddress": "no-reply@shop.example",
        "replyToName": "",
        "replyToAddress": "",
        "host": "mail",
        "port": 587,
        "tls": "starttls",
        "credentials": "",
        "ca": None,
        "timeoutNs": 60_000_000_000,
        "concurrency": 4,
        "scheduleNs": [s * 1_000_000_000 for s in (30, 120, 600, 1800, 3600, 7200, 14400, 28800, 43200)],
    }


def test_secrets_are_named_for_the_snapshot():
    checked = check(
        {
            "smtp": {"host": "mail", "credentialsRef": {"name": "smtp"}, "caRef": {"name": "ca", "key": "ca.crt"}},
            "from": "a@b",
        }
    )

    assert checked.resource.secrets == {"smtp", "ca"}


FROM = "Shop <no-reply@shop.example>"
BAD = [
    ({"smtp": {"host": "mail"}}, "spec.notifications.email.from: is missing"),
    ({"from": FROM}, "spec.notifications.email.smtp: is missing"),
    (
        {"smtp": {"host": "http://mail"}, "from": FROM},
        "is no host name and no IP address; write it as in smtp.example.com",
    ),
    ({"smtp": {"host": "mail", "port": 0}, "from": FROM}, "is below the minimum of 1"),
    ({"smtp": {"host": "mail"}, "from": "Shop"}, 'spec.notifications.email.from: "Shop" has no @'),
    ({"smtp": {"host": "mail"}, "from": "a@b\r\nBcc: c@d"}, "spec.notifications.email.from"),
    ({"smtp": {"host": "mail"}, "from": FROM, "replyTo": "x@y z"}, "spec.notifications.email.replyTo"),
    (
        {"smtp": {"host": "mail", "tls": "none", "credentialsRef": {"name": "x"}}, "from": FROM},
        "would send the password in clear; use starttls or implicit",
    ),
    (
        {"smtp": {"host": "mail", "tls": "none", "caRef": {"name": "x", "key": "y"}}, "from": FROM},
        "caRef verifies nothing with tls: none",
    ),
    ({"smtp": {"host": "mail", "tls": "ssl"}, "from": FROM}, "is not one of the allowed values"),
    ({"smtp": {"host": "mail", "timeout": "1h"}, "from": FROM}, 'smtp.timeout: "1h" is out of range; use 1s to 10m'),
    (
        {"smtp": {"host": "mail", "retry": {"schedule": ["30s", "1ms"]}}, "from": FROM},
        'smtp.retry.schedule[1]: "1ms" is out of range',
    ),
    (
        {"smtp": {"host": "mail", "concurrency": {"max": 0}}, "from": FROM},
        "smtp.concurrency.max: 0 is below the minimum of 1",
    ),
    ({"smtp": {"host": "mail", "tls": "implicit"}, "from": FROM}, "is unusual on port 587; 465 speaks implicit TLS"),
]


@pytest.mark.parametrize(("email", "expected"), BAD, ids=[message[:50] for _, message in BAD])
def test_a_wrong_channel_is_refused_with_its_path_and_the_fix(email, expected):
    found = [violation.message for violation in check(email).violations]

    assert any(expected in message for message in found), found
