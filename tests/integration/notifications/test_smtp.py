"""The SMTP sender against a real server: TLS, login, replies, broken connections, reuse."""

import asyncio

import pytest
from tests.support.notifications.certificates import server_context
from tests.support.notifications.mailserver import DROP, HANG, MailServer

from pillion.delivery.model import Delivered, Delivery, DestinationName, Message, MessageId, Rejected, Retry
from pillion.notifications.smtp import CONDITION, SmtpChannel, SmtpSender
from pillion.runtime.conditions import Conditions
from pillion.runtime.tasks import Tasks

BODY = b"Subject: x\r\n\r\n.dot\r\ntext\r\n"


class Sender(SmtpSender):
    """The sender with what the machine does around it."""

    def __init__(self, server, **settings):
        self.conditions = Conditions()
        self.tasks = Tasks("test", self.conditions)
        super().__init__(self.conditions, self.tasks)
        self.use(server, **settings)

    def use(self, server, **settings):
        channel = SmtpChannel(**({"host": "127.0.0.1", "port": server.port, "tls": "none"} | settings))
        self.configure(channel, channel.context())

    async def one(self, *, to="ada@example.com", within=10.0):
        message = Message(
            id=MessageId("m1"), type="t", body=BODY, attributes={"from": "no-reply@shop.example", "to": to}
        )
        delivery = Delivery(message=message.id, destination=DestinationName("email"), state="in-flight")
        return await self.send(message, delivery, 1, asyncio.get_running_loop().time() + within)


@pytest.fixture
async def server():
    async with MailServer() as made:
        yield made


@pytest.fixture
async def sender(server):
    made = Sender(server)
    yield made
    await made.stop()
    await made.tasks.stop()


async def test_a_message_is_handed_over_as_it_is(server, sender):
    outcome = await sender.one(to='"a b"@example.com')

    assert outcome == Delivered(status=250, excerpt=b"2.0.0 OK: queued as 4XyZ")
    assert server.received[0].recipients == ['"a b"@example.com']
    assert server.received[0].content == BODY


async def test_a_connection_is_used_again_until_it_is_stale(server, sender):
    for _ in range(3):
        assert isinstance(await sender.one(), Delivered)
    assert (server.connections, sender.idle) == (1, 1)

    await server.down()
    await server.up()
    assert isinstance(await sender.one(), Delivered)
    assert server.connections == 2


async def test_a_server_that_says_goodbye_to_an_idle_connection_costs_no_attempt(server, sender):
    await sender.one()
    server.mail.append("421 4.4.2 idle too long")

    assert isinstance(await sender.one(), Delivered)
    assert (server.connections, len(server.received)) == (2, 2)


async def test_messages_in_parallel_use_connections_in_parallel(server, sender):
    outcomes = await asyncio.gather(*(sender.one() for _ in range(12)))

    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(server.received) == 12
    assert sender.idle <= 4


@pytest.mark.parametrize(
    ("stage", "reply", "kind"),
    [
        ("mail", "451 4.3.0 try later", Retry),
        ("rcpt", "450 4.2.1 greylisted", Retry),
        ("rcpt", "452 4.2.2 mailbox full", Retry),
        ("data", "452 4.3.1 no space", Retry),
        ("after", "451 4.7.0 scanner down", Retry),
        ("mail", "530 5.7.0 authentication required", Retry),
        ("mail", "550 5.7.1 sender refused", Rejected),
        ("rcpt", "550 5.1.1 no such user", Rejected),
        ("rcpt", "553 5.1.3 bad address", Rejected),
        ("data", "554 5.7.1 spam", Rejected),
        ("after", "552 5.3.4 too big", Rejected),
    ],
)
async def test_the_servers_reply_decides(server, sender, stage, reply, kind):
    getattr(server, stage).append(reply)

    outcome = await sender.one()

    assert isinstance(outcome, kind)
    assert outcome.status == int(reply[:3])
    assert reply[4:] in outcome.reason
    assert not list(sender.conditions), "a reply to one message says nothing about the server"
    assert isinstance(await sender.one(), Delivered)


async def test_a_connection_that_breaks_after_the_message_leaves_the_outcome_open_and_says_so(server, sender):
    server.after.append(DROP)
    dropped = await sender.one()
    server.after.append(HANG)
    hung = await sender.one(within=0.3)

    assert isinstance(dropped, Retry)
    assert isinstance(hung, Retry)
    assert "may have been taken" in dropped.reason
    assert "may have been taken" in hung.reason
    assert len(server.received) == 2


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
@pytest.mark.parametrize("what", [DROP, HANG])
async def test_a_connection_that_breaks_before_is_tried_again(server, sender, stage, what):
    getattr(server, stage).append(what)

    outcome = await sender.one(within=0.5)

    assert isinstance(outcome, Retry)
    assert "may have been taken" not in outcome.reason
    assert [one.name for one in sender.conditions] == [CONDITION]


async def test_a_server_that_is_gone_pauses_the_channel_longer_each_time_until_it_is_back(server, sender):
    await server.down()
    pauses = [(await sender.one()).retry_after_ns // 1_000_000_000 for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    (condition,) = sender.conditions
    assert f"127.0.0.1:{server.port}" in condition.message

    await server.up()
    assert isinstance(await sender.one(), Delivered)
    assert not list(sender.conditions)


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_tls_and_login(tmp_path, implicit):
    context, ca = server_context(tmp_path)
    async with MailServer(tls=context, implicit=implicit, login=("shop", "s3cr3t!pass")) as server:
        settings = {"tls": "implicit" if implicit else "starttls", "ca": ca.decode(), "username": "shop"}
        sender = Sender(server, **settings, password="s3cr3t!pass")
        assert isinstance(await sender.one(), Delivered)

        sender.use(server, **settings, password="wrong-Secret")
        refused = await sender.one()
        sender.use(server, **{**settings, "ca": ""}, password="s3cr3t!pass")
        untrusted = await sender.one()
        await sender.stop()
        await sender.tasks.stop()

    assert isinstance(refused, Retry)
    assert refused.status == 535
    assert "wrong-Secret" not in refused.reason + repr(sender._channel)
    assert isinstance(untrusted, Retry)
    assert "certificate" in untrusted.reason
    assert len(server.received) == 1


async def test_starttls_is_not_given_up_where_the_server_does_not_offer_it(server, sender):
    sender.use(server, tls="starttls", username="shop", password="s3cr3t!pass")

    outcome = await sender.one()

    assert isinstance(outcome, Retry)
    assert "STARTTLS" in outcome.reason
    assert server.received == []


async def test_a_certificate_of_nobody_is_refused_at_once(server):
    with pytest.raises(ValueError, match="no PEM certificate"):
        SmtpChannel(host="mail", port=25, tls="starttls", ca="nonsense").context()


async def test_a_changed_channel_is_used_for_the_next_message(server, sender):
    await sender.one()
    async with MailServer() as other:
        sender.use(other)
        await sender.one()

        assert (len(server.received), len(other.received)) == (1, 1)
        assert sender.idle == 1
    sender.configure(None, None)
    assert isinstance(await sender.one(), Retry)
    assert sender.idle == 0
