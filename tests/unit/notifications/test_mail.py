"""The finished message: well-formed, the same every time, and closed against values that would add to it."""

import base64
from email import message_from_bytes, policy
from email.headerregistry import Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillion.notifications.content import Rendered
from pillion.notifications.engine import one_line, tidy
from pillion.notifications.mail import Envelope, build

HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Content-Language", "Auto-Submitted"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
WORDS = st.lists(
    st.sampled_from(
        ["=?utf-8?q?a=0D=0ABcc:_eve@example.com?=", "=?utf-8?b?DQpCY2M6IGV2ZQ==?=", "=?", "?=", "\r\n", "\n ", "\r", "Bcc: eve@example.com", ":", ",", "<", ">", '"',
         "é", "😀", "漢字", " ", "\t", "\x00", "\u2028", "\x85", "a" * 90, "word", ".", "\n.\r\n", "From ", "--=_"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


def envelope(**changes):
    made = {
        "from_name": "Shop",
        "from_address": "no-reply@shop.example",
        "to_name": "",
        "to_address": "ada@example.com",
        "message_id": "msg_0123456789abcdef",
        "date_ns": 1_800_000_000_000_000_000,
        "locale": "en",
    }
    return Envelope(**(made | changes))


def parsed(raw):
    return message_from_bytes(raw, policy=policy.default)


@settings(max_examples=300)
@given(WORDS | TEXT, WORDS | TEXT, WORDS | TEXT, WORDS | TEXT)
@example("=?utf-8?q?a=0D=0ABcc:_eve@example.com?=", "", "t", "")
def test_no_value_adds_a_header_a_recipient_or_a_line(subject, name, text, html):
    """Oracle: the standard library's parser finds exactly the headers that were written, with the values that were meant."""
    subject, name = one_line(subject), one_line(name)
    rendered = Rendered(subject=subject, text=tidy(text), html=tidy(html))

    raw = build(rendered, envelope(to_name=name))

    message = parsed(raw)
    assert sorted(set(message.keys()) & set(HEADERS)) == sorted(HEADERS)
    assert len(message.keys()) == len(set(message.keys())) == len(HEADERS) + (2 if rendered.html else 3)
    assert [one.addr_spec for one in message["To"].addresses] == ["ada@example.com"]
    assert " ".join(str(message["Subject"]).split()) == " ".join(subject.split())
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    bodies = [one for one in message.walk() if not one.is_multipart()]
    assert [_body(one) for one in bodies] == [rendered.text + "\n"] + ([rendered.html + "\n"] if rendered.html else [])


def _body(part):
    return part.get_payload(decode=True).decode().replace("\r\n", "\n")


@given(WORDS | TEXT)
def test_a_display_name_stays_one_name(name):
    name = one_line(name)

    addresses = parsed(build(Rendered(subject="s", text="t"), envelope(to_name=name)))["To"].addresses

    assert [one.addr_spec for one in addresses] == ["ada@example.com"]


@pytest.mark.parametrize("field", ["to_name", "from_name", "reply_to_name", "locale"])
def test_a_control_character_in_a_header_is_a_mistake_of_the_caller(field):
    with pytest.raises(ValueError, match="control character"):
        build(Rendered(subject="s", text="t"), envelope(**{"reply_to_address": "a@b", field: "x\r\nBcc: y"}))
    with pytest.raises(ValueError, match="control character"):
        build(Rendered(subject="s\nBcc: y", text="t"), envelope())


def test_the_same_notification_gives_the_same_bytes():
    rendered = Rendered(subject="Grüße", text="ä" * 50, html="<p>x</p>")

    assert build(rendered, envelope()) == build(rendered, envelope())
    assert build(rendered, envelope()) != build(rendered, envelope(message_id="msg_other"))


def test_both_parts_are_alternatives_the_richer_one_last():
    message = parsed(
        build(
            Rendered(subject="s", text="t", html="<p>t</p>"),
            envelope(reply_to_name="Help", reply_to_address="help@shop.example"),
        )
    )

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Message-ID"] == "<msg_0123456789abcdef@shop.example>"
    assert message["Date"].datetime.isoformat() == "2027-01-15T08:00:00+00:00"
    assert message["Reply-To"].addresses[0] == Address("Help", "help", "shop.example")


def test_text_outside_ascii_is_sent_in_its_shorter_form():
    plain = build(Rendered(subject="s", text="mostly ascii, é"), envelope())
    foreign = build(Rendered(subject="s", text="漢字\n" * 20), envelope())

    assert b"Content-Transfer-Encoding: quoted-printable" in plain
    assert b"Content-Transfer-Encoding: base64" in foreign
    assert base64.b64decode(foreign.split(b"\r\n\r\n", 1)[1]).decode().startswith("漢字\r\n漢字\r\n")


@pytest.mark.parametrize("address", ['"a b"@example.com', "x@[192.0.2.1]", "x@[IPv6:2001:db8::1]"])
def test_unusual_addresses_survive(address):
    message = parsed(build(Rendered(subject="s", text="t"), envelope(to_name="N", to_address=address)))

    assert message["To"].addresses[0].addr_spec == address
