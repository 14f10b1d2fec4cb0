"""What is accepted as an address, and that nothing else can travel in one."""

from email import message_from_string, policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillion.notifications.addresses import header_address, mailbox, named_mailbox

GOOD = [
    "ada@example.com",
    "ada.lovelace+orders@mail.example.co.uk",
    "a@b",
    "x_!#$%&'*+/=?^`{|}~-@example.com",
    '"ada lovelace"@example.com',
    r'"quo\"te"@example.com',
    '"a@b"@example.com',
    "ada@[192.0.2.1]",
    "ada@[IPv6:2001:db8::1]",
    "ada@xn--bcher-kva.example",
    "a" * 64 + "@example.com",
]
BAD = {
    "": "no @",
    "ada": "no @",
    "@example.com": "local part",
    "ada@": "domain",
    "ada..l@example.com": "local part",
    ".ada@example.com": "local part",
    "ada@-x.com": "domain",
    "ada@x-.com": "domain",
    "ada@example..com": "domain",
    "ada@exa mple.com": "domain",
    "ada lovelace@example.com": "local part",
    "ada@example.com\n": "domain",
    "ada\r\nBcc: x@example.com": "local part",
    "ada@[192.0.2.999]": "domain",
    "ada@[fe80::1%eth0]": "domain",
    "ada@[IPv6:fe80::1%eth0]": "domain",
    "ada@bücher.example": "ASCII",
    "a" * 65 + "@example.com": "64 octets",
    "a@" + "b." * 130 + "com": "254 octets",
    "a,b@example.com": "local part",
    "<ada@example.com>": "local part",
    '"a"b"@example.com': "local part",
    '"a\tb"@example.com': "local part",
}


@pytest.mark.parametrize("address", GOOD)
def test_an_address_by_rfc_5321_is_accepted(address):
    assert mailbox(address) == address


@pytest.mark.parametrize("address", BAD)
def test_anything_else_is_refused_with_its_reason(address):
    with pytest.raises(ValueError, match=BAD[address]):
        mailbox(address)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("Shop <no-reply@shop.example>", "Shop", "no-reply@shop.example"),
        ('"Shop, Inc." <no-reply@shop.example>', "Shop, Inc.", "no-reply@shop.example"),
        ("no-reply@shop.example", "", "no-reply@shop.example"),
        ("<no-reply@shop.example>", "", "no-reply@shop.example"),
        ("Bücher & Söhne <b@shop.example>", "Bücher & Söhne", "b@shop.example"),
        (r'"a \"b\" c" <b@shop.example>', 'a "b" c', "b@shop.example"),
    ],
)
def test_a_sender_has_a_name_and_an_address(text, name, address):
    assert named_mailbox(text) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "Shop",
        "Shop <>",
        "Shop <a@b> x",
        "Shop, Inc <a@b>",
        "a@b, c@d",
        '"Shop <a@b>',
        "Sho\np <a@b>",
        "Shop <a@b\r\n>",
        "x" * 201 + " <a@b>",
        "<a@b",
        "",
    ],
)
def test_a_sender_that_is_no_single_mailbox_is_refused(text):
    with pytest.raises(ValueError, match=r"; write|no @|is longer|holds|allow"):
        named_mailbox(text)


PIECES = st.lists(
    st.sampled_from(
        [
            '"',
            "<",
            ">",
            "@",
            "\r",
            "\n",
            "\r\n",
            " ",
            ",",
            ":",
            ";",
            "\\",
            "a",
            "b.c",
            "example.com",
            "Bcc: x@y",
            "\x00",
            "é",
            "(",
            ")",
            "[",
            "]",
        ]
    ),
    max_size=10,
).map("".join)


@st.composite
def damaged(draw):
    """Draw a good address with something pushed into it; often it stays good."""
    address = draw(st.sampled_from(GOOD))
    at = draw(st.integers(0, len(address)))
    return address[:at] + draw(PIECES | st.just("")) + address[at:]


NAME_PIECES = st.text(max_size=12) | PIECES | st.sampled_from(["Shop", '"Shop, Inc."', "Bücher", r'"a \"b\""'])


@settings(max_examples=300)
@given(damaged(), NAME_PIECES)
@example('"a,b"@c', "a")
def test_what_is_accepted_is_one_address_to_the_standard_librarys_parser(address, name):
    try:
        shown, accepted = named_mailbox(f"{name} <{address}>")
    except ValueError:
        return
    header = str(header_address(shown, accepted))

    parsed = message_from_string(f"To: {header}\n\n", policy=policy.SMTP)

    assert not {"\r", "\n", "\x00"} & set(header)
    assert [one.addr_spec for one in parsed["To"].addresses] == [str(header_address("", accepted).addr_spec)]
    assert list(parsed.keys()) == ["To"]
