"""Certificates reach the TLS context from memory or from files, again and again, and leave no trace."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pillion_operator.certificates import KeyPair, expires, issue, last_day, make_authority
from pillion_operator.transport_security import FileCertificates, load, server_context

NOW = datetime.now(UTC)


def fresh():
    authority = make_authority(NOW)
    return authority, issue(authority, ["127.0.0.1"], NOW)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def shown(context, authority):
    """Shake hands, believing *authority* alone."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate


async def test_a_certificate_in_memory_is_replaced_in_place():
    context = server_context()
    first_authority, first = fresh()
    second_authority, second = fresh()
    load(context, first)
    one = await shown(context, first_authority)

    load(context, second)

    assert await shown(context, second_authority) != one


def test_it_leaves_no_file_open_and_none_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = open_files()

    for _ in range(3):
        load(server_context(), fresh()[1])

    assert open_files() == before
    assert not list(tmp_path.iterdir())


def test_what_is_no_certificate_is_refused_and_leaves_no_file_open():
    before = open_files()

    with pytest.raises(ssl.SSLError):
        load(server_context(), KeyPair(certificate=b"x", key=b"y"))

    assert open_files() == before


async def test_files_are_followed_and_a_torn_pair_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("pillion_operator.transport_security.LOOK_PAUSE", 0.01)
    certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
    first_authority, first = fresh()
    second_authority, second = fresh()

    def write(pair, authority):
        certificate.write_bytes(pair.certificate)
        ca.write_bytes(authority.certificate)
        yield
        key.write_bytes(pair.key)
        yield

    list(write(first, first_authority))
    files = FileCertificates(certificate, key, ca)
    assert not files.ready
    await files.start()
    task = asyncio.create_task(files.run(), name="files")
    one = await shown(files.context, first_authority)
    steps = write(second, second_authority)
    next(steps)
    await asyncio.sleep(0.05)
    assert await shown(files.context, first_authority) == one

    next(steps)
    async with asyncio.timeout(10):
        while files.trusted != second_authority.certificate:  # noqa: ASYNC110 - a loop that looks at files announces nothing
            await asyncio.sleep(0.01)

    assert await shown(files.context, second_authority) != one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_file_it_does_not_start(tmp_path):
    with pytest.raises(OSError):
        await FileCertificates(tmp_path / "a", tmp_path / "b").start()


async def test_files_say_when_they_end_and_when_the_authority_is_another(tmp_path):
    """Alerts do not ask who made a certificate."""
    paths = [tmp_path / name for name in ("tls.crt", "tls.key", "ca.crt")]
    authority, pair = fresh()
    for path, content in zip(paths, (pair.certificate, pair.key, authority.certificate), strict=True):
        path.write_bytes(content)
    registry, told = CollectorRegistry(), []
    files = FileCertificates(*paths, registry=registry, changed=lambda: told.append(True))

    await files.start()
    await files.start()

    name = "pillion_operator_certificate_expiry_timestamp_seconds"
    ends = {which: registry.get_sample_value(name, {"certificate": which}) for which in ("server", "authority")}
    assert ends == {"server": expires(pair).timestamp(), "authority": expires(authority).timestamp()}
    assert told == [True]
    assert last_day(b"no certificate") is None


async def test_a_mounted_secret_is_followed_when_the_kubelet_swaps_it(tmp_path, monkeypatch):
    """The kubelet writes a new folder and swaps the link `..data` to it: the paths stay, and all files change in one step."""
    monkeypatch.setattr("pillion_operator.transport_security.LOOK_PAUSE", 0.01)
    authorities = []
    for name in ("..first", "..second"):
        authority, pair = fresh()
        (tmp_path / name).mkdir()
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.certificate}
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        authorities.append(authority)
    (tmp_path / "..data").symlink_to("..first")
    for file in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    told = asyncio.Event()
    mounted = FileCertificates(*(tmp_path / name for name in ("tls.crt", "tls.key", "ca.crt")), changed=told.set)
    await mounted.start()
    told.clear()
    task = asyncio.create_task(mounted.run(), name="files")

    (tmp_path / "..next").symlink_to("..second")
    (tmp_path / "..next").rename(tmp_path / "..data")
    async with asyncio.timeout(10):
        await told.wait()

    assert await shown(mounted.context, authorities[1])
    assert mounted.trusted == authorities[1].certificate
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
