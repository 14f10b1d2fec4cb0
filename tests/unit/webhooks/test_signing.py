"""Signatures against the published vector, the official library, and a second implementation."""

import base64
import datetime as dt
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from pillion.webhooks.signing import read_keys, signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
keys = st.binary(min_size=24, max_size=64)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
times = st.integers(0, 2**33)


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def test_the_published_vector():
    made = signature(read_keys(SECRET.encode()), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(key=keys, message=ids, stamp=times, body=st.text())
def test_the_official_library_signs_the_same(key, message, stamp, body):
    moment = dt.datetime.fromtimestamp(stamp, dt.UTC)
    theirs = Webhook(secret(key)).sign(message, moment, body)
    assert signature(read_keys(secret(key).encode()), message, stamp, body.encode()) == theirs


@given(several=st.lists(keys, min_size=1, max_size=4), message=ids, stamp=times, body=st.binary(max_size=2000))
def test_every_secret_signs_in_its_place(several, message, stamp, body):
    value = " ".join(secret(key) for key in several)
    made = signature(read_keys(value.encode()), message, stamp, body).split(" ")
    signed = b"%b.%d.%b" % (message.encode(), stamp, body)
    assert made == [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in several
    ]


@pytest.mark.parametrize("spelling", [SECRET, SECRET[6:], f"  {SECRET}\n", SECRET + "==", f"{SECRET}\r\n"])
def test_spellings_of_one_secret(spelling):
    assert read_keys(spelling.encode()) == read_keys(SECRET.encode())


def test_padding_may_be_left_out():
    key = bytes(range(25))
    assert read_keys(secret(key).rstrip("=").encode()) == read_keys(secret(key).encode())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"whsec_!!!!", "secret 1 is not base64"),
        (b"whsec_" + base64.b64encode(b"x" * 23), "secret 1 has 23 bytes"),
        (b"whsec_" + base64.b64encode(b"x" * 65), "secret 1 has 65 bytes"),
        (SECRET.encode() + b" whsec_abc-_", "secret 2 is not base64"),
        (b"\xff\xfe", "holds bytes that are no ASCII"),
        (b" ".join([SECRET.encode()] * 9), "holds 9 secrets"),
    ],
)
def test_what_cannot_sign_is_refused_without_repeating_it(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_keys(value)
    for word in value.split():
        assert word.decode("latin-1") not in str(caught.value)


def test_a_key_never_shows_itself():
    (key,) = read_keys(SECRET.encode())
    assert repr(key) == "SigningKey(…)"
