"""The operator's authority: found or made, rotated with an announcement, agreed upon by replicas that race."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from pillion_operator.authority import ANNOUNCE, decode, encode, plan
from pillion_operator.certificates import (
    CA_LIFE,
    CA_RENEW,
    SERVER_RENEW,
    KeyPair,
    expires,
    issue,
    make_authority,
    serves,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
NAMES = ("pillion-operator.pillion-system.svc", "127.0.0.1")


def test_the_first_replica_makes_it_and_the_others_find_it():
    first = plan(None, NOW)
    second = plan(decode(encode(first.write)), NOW)

    assert second.write is None
    assert second.authority == first.authority


def test_replicas_that_race_agree_on_what_is_stored():
    stored = dict(plan(None, NOW).write)
    loser = plan(None, NOW)

    assert plan(stored, NOW).authority.signing != loser.authority.signing
    assert plan(stored, NOW).authority == plan(stored, NOW).authority


def test_a_new_authority_is_announced_before_it_signs_and_the_old_one_is_trusted_after():
    stored = plan(None, NOW).write
    late = NOW + CA_LIFE - CA_RENEW
    announced = plan(stored, late)
    waiting = plan(announced.write, late + ANNOUNCE / 2)
    taken = plan(announced.write, late + ANNOUNCE)

    old, new = stored["ca.crt"], announced.write["next-ca.crt"]
    assert (announced.authority.signing.certificate, waiting.write) == (old, None)
    assert new in announced.authority.trusted
    assert old in announced.authority.trusted
    assert taken.authority.signing.certificate == new
    assert old in taken.authority.trusted
    assert plan(taken.write, late + ANNOUNCE).write is None


@pytest.mark.parametrize("damage", [{"ca.key": b"rubbish"}, {"ca.crt": b""}, {"ca.key": b""}])
def test_a_damaged_secret_is_replaced(damage):
    mended = plan(dict(plan(None, NOW).write) | damage, NOW)

    assert mended.write is not None
    assert expires(mended.authority.signing) > NOW


def test_a_server_certificate_serves_until_a_third_of_its_life():
    authority = make_authority(NOW)
    pair = issue(authority, NAMES, NOW)
    end = expires(pair)

    assert serves(pair, authority, NAMES, NOW)
    assert serves(pair, authority, NAMES, end - SERVER_RENEW - timedelta(seconds=1))
    assert not serves(pair, authority, NAMES, end - SERVER_RENEW)


def test_it_does_not_serve_for_another_authority_name_or_key():
    authority = make_authority(NOW)
    pair = issue(authority, NAMES, NOW)

    assert not serves(pair, make_authority(NOW), NAMES, NOW)
    assert not serves(pair, authority, [*NAMES, "other.svc"], NOW)
    assert not serves(
        KeyPair(certificate=pair.certificate, key=issue(authority, NAMES, NOW).key), authority, NAMES, NOW
    )
    assert not serves(KeyPair(certificate=b"x", key=b"y"), authority, NAMES, NOW)


def test_no_key_is_in_a_repr():
    assert "PRIVATE" not in repr(make_authority(NOW))


def test_a_real_tls_handshake_believes_it(tmp_path):
    now = datetime.now(UTC)
    authority = make_authority(now)
    pair = issue(authority, NAMES, now)
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with server.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        trusting = ssl.create_default_context(cadata=authority.certificate.decode())
        with (
            socket.create_connection(listener.getsockname()) as raw,
            trusting.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.recv(5) == b"hello"
        thread.join()
