"""What happens when things break: the mail server, the sidecar, a Secret, the disk, a template."""

import asyncio
import json
import os
import random
import signal
import sys

import pytest
from tests.support.notifications.mailserver import (
    MailServer,
    channel,
    configuration,
    notification_block,
)
from tests.support.serving import ROOT

from pillion.delivery.failures import Overloaded, StoreFull, StoreUnavailable
from pillion.notifications.views import Notification
from pillion.runtime.problems import Problem

PLAIN = Notification(template="plain", to="ada@example.com")


async def test_a_mail_server_that_comes_back_gets_everything(tmp_path):
    async with MailServer() as server, notification_block(tmp_path, configuration(channel(server))) as block:
        await server.down()
        accepted = {(await block.block._sending.accept(PLAIN)).id for _ in range(5)}
        await block.until(lambda: any("mail server" in one.name for one in block.conditions))
        told = {(one.name, one.type, one.status, one.reason, one.degrades) for one in block.block.reports()}
        assert told == {("", "ChannelReady", False, "ServerUnreachable", True)}  # one word for all templates
        await server.up()

        mails = await server.arrived(5)

        assert {mail.message["Message-ID"].split("@")[0].strip("<") for mail in mails} == accepted
        await block.until(lambda: not list(block.conditions))
        assert not list(block.block.reports())


async def test_a_missing_secret_holds_messages_until_it_is_there(tmp_path):
    secrets = {"smtp": {"username": b"shop\n", "password": b"s3cr3t!pass\n"}}
    async with MailServer() as server:
        section = channel(server, tls="starttls", credentialsRef={"name": "smtp"})
        async with notification_block(tmp_path, configuration(section)) as block:
            prepared = await block.apply(configuration(section))
            await block.block._sending.accept(PLAIN)
            status = block.block.statistics().delivery.destinations[0]
            assert {one.reason for one in prepared.unready} == {"SecretMissing"}
            assert {(one.type, one.reason) for one in block.block.reports()} == {("ChannelReady", "SecretMissing")}
            assert 'Secret "smtp" does not exist' in status.hold
            assert (status.backlog, server.connections) == (1, 0)

            prepared = await block.apply(configuration(section, secrets=secrets))
            assert prepared.unready == ()
            await block.until(lambda: server.connections)
            assert "s3cr3t" not in repr(block.block.statistics())

            await block.apply(configuration(channel(server)))
            await server.arrived(1)


async def test_an_edited_template_renders_anew_and_a_deleted_one_is_unknown(tmp_path):
    async with MailServer() as server, notification_block(tmp_path, configuration(channel(server))) as block:
        await block.block._sending.accept(PLAIN)
        edited = """
apiVersion: pillion.dev/v1alpha1
kind: NotificationTemplate
metadata: {name: plain}
spec: {channels: {email: {content: {en: {subject: "Hello again", text: There}}}}}
"""
        await block.apply(configuration(channel(server), templates=edited))
        await block.block._sending.accept(PLAIN)

        assert sorted(mail.message["Subject"] for mail in await server.arrived(2)) == ["Hello", "Hello again"]
        with pytest.raises(Problem) as caught:
            await block.block._sending.accept(Notification(template="order-confirmation", to="a@b"))
        assert caught.value.status == 404


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (StoreFull("the disk is full"), 507, "store-full"),
        (Overloaded("too much waits"), 503, "overloaded"),
        (StoreUnavailable("the store is closed"), 503, "store-unavailable"),
    ],
)
async def test_a_store_that_cannot_take_it_is_a_clear_problem(tmp_path, error, status, slug):
    async with MailServer() as server, notification_block(tmp_path, configuration(channel(server))) as block:

        async def accept(_submissions):
            raise error

        block.block._machine.accept = accept
        with pytest.raises(Problem) as caught:
            await block.block._sending.accept(PLAIN)

    assert (caught.value.status, caught.value.type.rpartition("/")[2]) == (status, slug)
    assert "Nothing was accepted" in caught.value.detail
    assert block.sample("pillion_notifications_refused_total", reason="store") == 1


async def test_a_template_that_nobody_checked_cannot_stop_the_service(tmp_path):
    """A snapshot may come from an operator with a gap in its check: the bomb costs its own request an error, nobody else."""
    compare = "{% if big == b %}{% endif %}" * 300
    bomb = "{% set b = big ~ '' %}{% for a in range(9900) %}" + compare + "{% endfor %}"
    async with MailServer() as server, notification_block(tmp_path, configuration(channel(server))) as block:
        block.block._renderer._deadline = 1.5
        wanted = configuration(channel(server))
        schema = {"type": "object", "properties": {"big": {"type": "string", "maxLength": 200_000}}}
        wanted.resources["NotificationTemplate"]["bomb"] = {
            "variables": schema, "defaultLocale": "en", "email": {"en": {"subject": "x", "text": bomb, "html": ""}}
        }  # fmt: skip
        await block.apply(wanted)
        hostile = Notification(template="bomb", to="a@b", data={"big": "x" * 130_000})

        results = await asyncio.gather(
            *(block.block._sending.accept(one) for one in (PLAIN, hostile, PLAIN)), return_exceptions=True
        )

        await server.arrived(2)
        assert isinstance(results[1], Problem)
        assert (results[1].status, results[1].type.rpartition("/")[2]) == (422, "not-renderable")
        assert block.sample("pillion_notifications_renderer_kills_total") == 1
        (told,) = block.block.reports()
        assert (told.name, told.type, told.status, told.reason) == ("bomb", "Renders", False, "RenderFailed")
        assert "en text" in told.message
        await block.apply(wanted)
        assert not list(block.block.reports())  # it may have been mended


CHILD = """
import asyncio, json, sys
from pathlib import Path
from pillion.notifications.views import Notification
from tests.support.notifications.mailserver import configuration, notification_block

async def main(folder, section, count):
    async with notification_block(Path(folder), configuration(section)) as block:
        print("started", flush=True)
        for number in range(count):
            wanted = Notification(template="plain", to=f"n{number}@example.com", idempotency_key=None)
            receipt = await block.block._sending.accept(wanted)
            print(receipt.id, flush=True)
        await asyncio.sleep(60)

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])))
"""


async def run_child(folder, section, count):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(folder), json.dumps(section), str(count),
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
async def test_a_sidecar_that_is_killed_delivers_everything_it_accepted(tmp_path):
    """Killed with -9 at seeded random moments while it accepts and delivers; whatever was answered arrives, under its id."""
    chance = random.Random(5)
    accepted = []
    async with MailServer() as server:
        section = channel(server)
        for _ in range(3):
            child = await run_child(tmp_path, section, 60)
            assert await child.stdout.readline() == b"started\n"
            seen = chance.randrange(5, 50)
            accepted += [(await child.stdout.readline()).decode().strip() for _ in range(seen)]
            os.kill(child.pid, signal.SIGKILL)
            rest = (await child.stdout.read()).decode().split()
            accepted += rest
            await child.wait()
        async with notification_block(tmp_path, configuration(section)) as block:

            def arrived():
                return {mail.message["Message-ID"].split("@")[0].strip("<") for mail in server.received}

            await block.until(lambda: set(accepted) <= arrived())
            await block.until(lambda: not block.block.statistics().delivery.destinations[0].backlog)

    assert len(accepted) >= 15
    assert len(server.received) - len(arrived()) <= 3 * 4, "only what was in flight may be sent twice"
