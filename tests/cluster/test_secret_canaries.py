"""No Secret value leaves the way from the API server over the stream into the sidecar's memory: every value that a resource can refer to is planted, everything else searched.

Receivers are hostile: what they get they repeat in their answers, where error messages, attempt logs and statuses could pick it up.
"""

import asyncio
import base64
import json
import os
import resource
import signal
import ssl
import stat
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from tests.support.cluster.certificates import Authority
from tests.support.operator.canaries import canary, escaped, forms
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.support.operator.running import DEPLOY, QUICK, OperatorProcess, account_access, eventually, profile
from tests.support.operator.sidecars import SidecarProcess

from pillion_operator.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("secret_reader")]

PROTECTED = {"last-known-good.json"}
"""Files of the data directory that may hold values, for their owner alone (docs/operator.md)."""

FATAL = {"PYTHONFAULTHANDLER": "1"}


async def echoing(stack, tls):
    """An HTTP receiver, a mail server and a Redis that refuse everything and repeat what they were sent; gives their ports."""

    async def refuse(request):
        told = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        return web.Response(status=401, text=f"who is this? {told}\n{(await request.read())[:200]!r}")

    async def mail(reader, writer):
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := await reader.readline():
            said = line.decode(errors="replace").strip()
            if said.upper().startswith("EHLO"):
                writer.write(b"250-mail.test\r\n250 AUTH PLAIN\r\n")
            else:
                words = said.split(" ")
                clear = base64.b64decode(words[-1] + "==").decode(errors="replace") if said.startswith("AUTH") else ""
                writer.write(f"535 5.7.8 no such login: {clear!r} ({said})\r\n".encode())
        writer.close()

    async def redis(reader, writer):
        while data := await reader.read(4096):
            writer.write(b"-ERR unknown: " + data.replace(b"\r\n", b" ") + b"\r\n")
        writer.close()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = [runner.addresses[0][1]]
    for handler, context in ((mail, tls), (redis, None)):
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
        stack.callback(server.close)
        ports.append(server.sockets[0].getsockname()[1])
    return ports


class Planted:
    """All values of one generation, in the Secrets that hold them."""

    def __init__(self, generation, redis_port, ca):
        def one(what):
            return canary(f"{what}{generation}")

        self.key = os.urandom(32)
        self.token = one("Token")
        self.values = {
            "hook": {"secret": "whsec_" + base64.b64encode(self.key).decode(), "other": one("Unreferenced")},
            "api": {"token": self.token},
            "smtp": {"username": one("User"), "password": one("Password")},
            "mail-ca": {"ca.crt": ca},
            "redis": {"url": f"redis://{one('RedisUser')}:{one('RedisPassword')}@127.0.0.1:{redis_port}/0"},
            "logs": {"token": one("Logs")},
        }

    def needles(self):
        found = {"signing key": self.key}
        for name, keys in self.values.items():
            for key, value in keys.items():
                if name == "redis":
                    user, _, password = value.split("//")[1].split("@")[0].partition(":")
                    found |= {"redis user": user, "redis password": password}
                elif name != "mail-ca":  # a certificate is no secret
                    found[f"{name}.{key}"] = value
        return found

    def objects(self):
        for name, keys in self.values.items():
            data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
            yield {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def resources(http, mail, logs):
    here = {"allow": [{"cidr": "127.0.0.0/8"}]}
    hook = {
        "url": f"http://127.0.0.1:{http}/hooks", "egress": here, "retry": {"schedule": ["1s", "1s"]},
        "signing": {"secretRef": {"name": "hook", "key": "secret"}},
    }  # fmt: skip
    smtp = {
        "host": "127.0.0.1", "port": mail, "tls": "implicit", "credentialsRef": {"name": "smtp"},
        "caRef": {"name": "mail-ca", "key": "ca.crt"}, "retry": {"schedule": ["1s"]},
    }  # fmt: skip
    sink = {
        "name": "far",
        "http": {"url": f"http://127.0.0.1:{http}/logs", "tokenRef": {"name": "logs", "key": "token"}},
    }
    profile = {
        "auth": {"tokenRef": {"name": "api", "key": "token"}},
        "health": {
            "checks": [{"name": "cache", "redis": {"urlRef": {"name": "redis", "key": "url"}}, "interval": "1s"}]
        },
        "notifications": {"email": {"smtp": smtp, "from": "Shop <no-reply@shop.example>"}},
        "logs": {"sources": [{"name": "app", "files": [logs]}], "sinks": [sink]},
    }
    content = {"channels": {"email": {"content": {"en": {"subject": "Hello", "text": "There"}}}}}
    for kind, name, spec in (
        ("WebhookEndpoint", "billing", hook),
        ("SidecarProfile", "default", profile),
        ("NotificationTemplate", "plain", content),
    ):
        yield {"apiVersion": "pillion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest_asyncio.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def own_operator(cluster, operator_of_session, tmp_path):
    """An operator with an authority of its own, and the interpreter's crash reports."""
    operator_of_session.stop()
    made = OperatorProcess(asyncio.run(account_access(cluster)), tmp_path / "op", *QUICK, own_authority=True)
    made.process._environ |= FATAL
    made.start()
    yield made
    made.stop()


async def test_no_value_of_a_secret_is_found_anywhere_else(
    *, api, kubectl, namespace, new_pod, own_operator, stack, tmp_path
):
    tls = Authority(tmp_path / "tls", "mail-authority")
    pair = tls.server("mail", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    http, mail, redis = await echoing(stack, context)
    log = tmp_path / "app.log"
    log.write_text('{"message": "hello"}\n')
    generations = [Planted(number, redis, tls.certificate.read_text()) for number in (1, 2)]
    await kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(generations[0].objects())}))  # fmt: skip
    await kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(resources(http, mail, str(log)))}))  # fmt: skip
    authority = tmp_path / "ca.crt"
    authority.write_text(
        json.loads(await kubectl("get", "secret", "pillion-ca", "--namespace=pillion-system", "--output=json"))["data"]["ca.crt"]
    )  # fmt: skip
    authority.write_bytes(base64.b64decode(authority.read_text()))
    pod = await new_pod("shop-1", labels={"app": "shop"})
    answers = {}
    session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)))
    # As a cluster would with core dumps switched on.
    roomy = ("sh", "-c", 'ulimit -c unlimited; cd "$0" && exec "$@"', str(tmp_path))
    sidecar = SidecarProcess(own_operator, pod, tmp_path / "sidecar", session, ca_file=authority, environ=FATAL, prefix=roomy)  # fmt: skip
    stack.callback(sidecar.process.stop)
    sidecar.process.start()

    async def ask(method, path, token, body=None, base=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with session.request(method, (base or sidecar.url) + path, headers=headers, json=body) as answer:
            answers[f"{method} {path} {len(answers)}"] = str(answer.headers).encode() + await answer.read()
            return answer.status

    async def everything(token):
        for path in ("/v1/config", "/v1/statistics", "/openapi.json", "/docs", "/health", "/health/cache", "/metrics"):
            await ask("GET", path, token)
        for path in ("/v1/webhooks/endpoints", "/v1/webhooks/deliveries", "/v1/webhooks/attempts", "/v1/logs?q="):
            await ask("GET", path, token)
        for path in ("/v1/events", "/v1/notifications", "/v1/ratelimit/check", "/nowhere"):
            await ask("POST", path, token, {"nonsense": 1})
            await ask("POST", path, "", {})
            await ask("POST", path, "wrong-token-of-somebody", {})
        for base in (sidecar.admin, own_operator.admin):
            for path in ("/metrics", "/livez", "/readyz", "/nowhere"):
                await ask("GET", path, "", base=base)
        await ask("GET", "/health", "", base=sidecar.admin)

    async def runs(planted):
        """Whether the API demands this token, which rotates with all the others."""
        demanded = await ask("GET", "/v1/config", "") == 401
        return demanded and await ask("GET", "/v1/config", planted.token) == 200

    async def fails(token):
        """Send something everywhere, and wait until all of it has been refused and told."""
        for path, body in (
            ("/v1/events", {"type": "order.created", "data": {}}),
            ("/v1/notifications", {"template": "plain", "to": "ada@example.com"}),
        ):
            # Right after a start the stores are still being opened.
            await sidecar.becomes(partial(ask, "POST", path, token, body), lambda status: status == 202)
        with log.open("a") as lines:
            lines.write('{"message": "more"}\n')

        async def told():
            async with session.get(f"{sidecar.admin}/metrics") as answer:
                text = await answer.text()
            return all(
                any(line.startswith(name) and not line.endswith(" 0.0") for line in text.splitlines())
                for name in ("pillion_webhooks_retries_total", "pillion_notifications_retried_total")
            )

        await sidecar.becomes(told, bool)

    first, second = generations
    await sidecar.becomes(lambda: runs(first), bool)
    await fails(first.token)
    await everything(first.token)

    process = sidecar.process.pid
    for changed in second.objects():
        await kubectl("apply", "--filename=-", stdin=json.dumps(changed))
    await sidecar.becomes(lambda: runs(second), bool, within=30)
    assert await ask("GET", "/v1/config", first.token) == 401
    assert sidecar.process.pid == process  # a rotation needs no restart
    await fails(second.token)
    await everything(second.token)

    # It crashes with a report, as badly as it can, and comes back with what it had.
    for how in (signal.SIGABRT, signal.SIGKILL):
        os.kill(sidecar.process.pid, how)
        await eventually(lambda: not sidecar.process.running, what=f"the end by {how.name}")
        sidecar.process.start()
        await sidecar.becomes(lambda: runs(second), bool)
    await everything(second.token)

    # So does the operator, with a Secret that cannot be used and one that is gone.
    await kubectl("delete", "secret", "smtp")
    broken = second.values["hook"]["secret"].removeprefix("whsec_")[:-9] + "!"
    await api.patch(f"/api/v1/namespaces/{namespace}/secrets/hook", {"data": {"secret": base64.b64encode(broken.encode()).decode()}})  # fmt: skip
    path = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}"

    def reason(wanted):
        return lambda r: any(
            c["type"] == "Degraded" and c["reason"] == wanted for c in r["status"].get("conditions", ())
        )

    await api.until(f"{path}/webhookendpoints", "billing", reason("SecretInvalid"))
    await api.until(f"{path}/notificationtemplates", "plain", reason("SecretMissing"))
    os.kill(own_operator.process.pid, signal.SIGABRT)
    await eventually(lambda: not own_operator.process.running, what="the operator's end")
    own_operator.start()
    await everything(second.token)

    kinds = (await kubectl("api-resources", "--verbs=list", "--output=name")).split()
    listed = ",".join(kind for kind in kinds if kind != "secrets")
    haystacks = {
        "kubectl get": (await kubectl("get", listed, "--all-namespaces", "--output=yaml", "--show-managed-fields", "--ignore-not-found")).encode(),
        "kubectl describe": (await kubectl("describe", "pillion,events", "--all-namespaces")).encode(),
        "operator's log": own_operator.process.log.read_bytes(),
        "sidecar's log": sidecar.process.log.read_bytes(),
        **answers,
    }  # fmt: skip
    authority_keys = json.loads(await kubectl("get", "secret", "pillion-ca", "--namespace=pillion-system", "--output=json"))["data"]  # fmt: skip
    planted = {"pod's token": pod.token}
    for generation in generations:
        planted |= {f"{what} {len(planted)}": value for what, value in generation.needles().items()}
    planted |= {"broken signing secret": broken}
    for name, value in authority_keys.items():
        if "crt" not in name:
            pem = base64.b64decode(value)
            # The middle of the key: headings are the same for all.
            planted[f"authority {name}"] = b"".join(pem.splitlines()[1:-1])[:48]

    files, held = {}, set()
    for file in (one for one in tmp_path.rglob("*") if one.is_file()):
        if file.is_relative_to(sidecar.data) or "core" in file.name:
            content = file.read_bytes()
            if file.name in PROTECTED:
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                held |= {what for what, value in planted.items() if forms(value)["base64+0"] in content}
            else:
                files[f"file {file.relative_to(tmp_path)}"] = content

    assert escaped(haystacks | files, planted) == []
    # The search finds what is there.
    assert held
    assert b"Fatal Python error: Aborted" in haystacks["sidecar's log"]
    assert b"Fatal Python error: Aborted" in haystacks["operator's log"]
    assert b"SecretInvalid" in haystacks["kubectl get"]
    assert not [name for name in files if Path(name).name.startswith("core")]
    assert b"no such login" in b"".join(answers.values())


async def test_a_secret_goes_to_the_namespace_that_owns_it_and_to_no_other(api, kubectl, new_namespace, new_sidecar):
    """The same names everywhere: what tells them apart is the namespace of the pod that the token is bound to."""
    found = {}
    for value, readable in (("first-tokens-value", True), ("second-tokens-value", True), ("third-tokens-value", False)):
        namespace = await new_namespace()
        if readable:
            await kubectl("apply", f"--namespace={namespace}", f"--filename={DEPLOY / 'namespaced'}")
        data = {"token": base64.b64encode(value.encode()).decode()}
        await api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "api"}, "data": data})
        await api.apply(
            f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/sidecarprofiles/main",
            profile("main", auth={"tokenRef": {"name": "api", "key": "token"}}),
        )
        sidecar = await new_sidecar(f"pod-{value[:5]}", within=namespace)
        await sidecar.until(lambda document: document["profile"]["name"] == "main")
        found[value] = sidecar.secrets

    assert found == {
        "first-tokens-value": {"api": {"token": b"first-tokens-value"}},
        "second-tokens-value": {"api": {"token": b"second-tokens-value"}},
        "third-tokens-value": {},
    }


def test_a_rotation_is_looked_for_twice_in_thirty_seconds():
    assert Settings().secret_interval <= 15


def test_the_processes_that_hold_secrets_leave_no_core(own_operator):
    limits = Path(f"/proc/{own_operator.process.pid}/limits").read_text()

    assert resource.getrlimit(resource.RLIMIT_CORE)[0] != 1
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["1", "1"]]
