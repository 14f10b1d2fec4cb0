"""The tables of `kubectl get`, as a person reads them, over resources in many states with a real sidecar behind them."""

import base64
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio
from tests.support.notifications.mailserver import MailServer
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import condition, is_now, policy, profile
from tests.support.operator.sidecars import SidecarProcess
from tests.support.receivers import SECRET, Receiver, receiving

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("secret_reader")]


def resource(kind, name, **spec):
    return {"apiVersion": "pillion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def flag(name, **spec):
    return resource("FeatureFlag", name, **{"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"} | spec)  # fmt: skip


def endpoint(name, url, secret="hook", **spec):
    return resource("WebhookEndpoint", name, url=url, signing={"secretRef": {"name": secret, "key": "secret"}}, egress={"allow": [{"cidr": "127.0.0.0/8"}]}, **spec)  # fmt: skip


def template(name, text="There"):
    content = {"en": {"subject": "Hello", "text": text}, "de": {"subject": "Hallo", "text": text}}
    return resource("NotificationTemplate", name, channels={"email": {"content": content}})


@pytest_asyncio.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


async def table(kubectl, kind):
    """The rows by name, without the ages."""
    header, *rows = (await kubectl("get", kind)).splitlines()
    starts = [header.index(name) for name in header.split()]
    cells = [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]
    return header.split(), {cell[0]: cell[1:-1] for cell in cells}


async def test_the_tables_tell_at_a_glance(*, api, kubectl, namespace, new_pod, operator, stack, tmp_path):
    receiver = await stack.enter_async_context(receiving(Receiver()))
    mail = await stack.enter_async_context(MailServer())
    shadowed = policy("exports", 2)
    shadowed["spec"]["rules"][0]["enforcement"] = {"mode": "shadow"}
    bad = policy("partners", 9)
    bad["spec"]["rules"][0]["match"] = [{"attribute": "ip", "cidr": "10.0.0.0/99"}]
    email = {"smtp": {"host": "127.0.0.1", "port": mail.port, "tls": "none"}, "from": "no-reply@shop.example"}
    secret = {"metadata": {"name": "hook"}, "data": {"secret": base64.b64encode(SECRET.encode()).decode()}}
    await api.create(f"/api/v1/namespaces/{namespace}/secrets", secret)
    manifests = [
        profile("default", notifications={"email": email}),
        policy("api", 100), shadowed, policy("partners", 5), policy("parked", 5, suspend=True),
        policy("other", 5, selector={"matchLabels": {"app": "other"}}),
        flag("new-checkout"), flag("old-banner", expires="2026-01-01"), flag("twin", key="new-checkout"),
        endpoint("billing", receiver.url, events=["order.*"]), endpoint("erp", receiver.url, secret="missing"),
        template("order-confirmation"),
    ]  # fmt: skip
    await kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    session = await stack.enter_async_context(aiohttp.ClientSession())
    pod = await new_pod("shop-1", labels={"app": "shop"})
    sidecar = SidecarProcess(operator, pod, tmp_path / "sidecar", session)
    stack.callback(sidecar.process.stop)
    sidecar.process.start()
    path = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}"
    await api.until(f"{path}/ratelimitpolicies", "partners", is_now("Ready", "True", "Ready"))
    await kubectl("apply", "--filename=-", stdin=json.dumps(bad))
    for kind, name, reason in (
        ("ratelimitpolicies", "partners", "NotAccepted"),
        ("webhookendpoints", "erp", "SecretMissing"),
        ("featureflags", "old-banner", "Ready"),
        ("featureflags", "twin", "NotAccepted"),
        ("notificationtemplates", "order-confirmation", "Ready"),
    ):
        await api.until(f"{path}/{kind}", name, lambda r, reason=reason: condition(r, "Ready").get("reason") == reason)
    shown = await api.until(f"{path}/ratelimitpolicies", "exports", is_now("Shadowing", "True"))
    assert "per-user" in condition(shown, "Shadowing")["message"]
    await api.until(f"{path}/featureflags", "old-banner", is_now("Expired", "True"))
    rendered = await api.until(f"{path}/notificationtemplates", "order-confirmation", is_now("Renders", "True"))
    assert condition(rendered, "ChannelReady")["status"] == "True"
    refused = await api.until(f"{path}/ratelimitpolicies", "partners", is_now("Stale", "True", "LastGoodVersion"))
    assert condition(refused, "Stalled")["message"].startswith("this generation is refused; edit the resource:")

    assert await table(kubectl, "rlp") == (
        ["NAME", "RULES", "ENFORCING", "SIDECARS", "READY", "REASON", "AGE"],
        {
            "api": ["1", "1", "1/1", "True", "Ready"],
            "exports": ["1", "0", "1/1", "True", "Ready"],
            "other": ["1", "1", "0/0", "True", "NoSidecars"],
            "parked": ["1", "1", "0/0", "True", "Suspended"],
            "partners": ["1", "1", "0/1", "False", "NotAccepted"],
        },
    )
    assert await table(kubectl, "ff") == (
        ["NAME", "STATE", "DEFAULT", "SIDECARS", "READY", "REASON", "AGE"],
        {
            "new-checkout": ["ENABLED", "off", "1/1", "True", "Ready"],
            "old-banner": ["ENABLED", "off", "1/1", "True", "Ready"],
            "twin": ["ENABLED", "off", "0/0", "False", "NotAccepted"],
        },
    )
    header, rows = await table(kubectl, "whe")
    assert header == ["NAME", "URL", "EVENTS", "BACKLOG", "LAST-SUCCESS", "SIDECARS", "READY", "REASON", "AGE"]
    assert rows["billing"][1:3] + rows["billing"][-3:] == ["order.*", "0", "1/1", "True", "Ready"]
    assert rows["erp"][-3:] == ["1/1", "False", "SecretMissing"]
    assert (await table(kubectl, "ntpl"))[1] == {
        "order-confirmation": ["email", "de,en", "0", "0", "1/1", "True", "Ready"]
    }
    assert (await table(kubectl, "scp"))[1]["default"][-4:] == ["6", "1/1", "True", "Ready"]
    assert (
        max(map(len, (await kubectl("get", "pillion")).splitlines())) <= 150
    )  # fits a wide terminal, full names included
