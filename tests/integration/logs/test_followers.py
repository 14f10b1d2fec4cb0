"""Queries over a real process: since when, and followers that stay, go, or read nothing at all."""

import json
import socket
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from tests.support.running import Sidecar, eventually

PROFILE = """\
apiVersion: pillion.dev/v1alpha1
kind: SidecarProfile
metadata: {{name: p}}
spec:
  blocks: [logs, health]
  logs:
    sources: [{{name: app, files: ["{folder}/app/*.log"], format: json}}, {{name: text, files: ["{folder}/app/*.txt"]}}]
    sinks: [{{name: archive, file: {{path: {folder}/archive.ndjson}}, batch: {{linger: 50ms}}}}]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "profile.yaml").write_text(PROFILE.format(folder=tmp_path))
    return tmp_path


@pytest.fixture
def sidecar(place):
    with Sidecar(place / "manifests", place / "data") as running:
        yield running


def followers(sidecar):
    return sidecar.get("/v1/statistics")[1]["logs"]["followers"]


def follow(sidecar, query=""):
    """A raw connection that has asked to follow, and has its answer's head."""
    parts = urlsplit(sidecar.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(f"GET /v1/logs?follow=true{query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return connection


def write(place, name, lines):
    with (place / "app" / name).open("a") as file:
        file.write("".join(line + "\n" for line in lines))


def test_since_gives_what_was_written_from_then_on(sidecar, place):
    now = datetime.now(UTC)
    ages = [3600, 600, 200, 50, 1]
    write(
        place, "a.log", [json.dumps({"time": (now - timedelta(seconds=age)).isoformat(), "age": age}) for age in ages]
    )
    write(place, "b.txt", [f"{(now - timedelta(seconds=age)).strftime('%Y-%m-%d %H:%M:%S')} old {age}" for age in ages])
    write(place, "b.txt", ["  at some.trace(line)"])
    sidecar.post("/v1/logs", {"message": "pushed just now"})

    def ages_since(text, source="app"):
        lines = sidecar.get(f"/v1/logs?source={source}&since={quote(text)}")[1]["lines"]
        return [line.get("age", line.get("message")) for line in lines]

    assert ages_since("5m") == [200, 50, 1]
    assert ages_since("1h30m") == ages
    assert ages_since("1ms") == []
    assert ages_since((now - timedelta(seconds=100)).isoformat()) == [50, 1]
    assert ages_since((now - timedelta(seconds=100)).strftime("%Y-%m-%dT%H:%M:%SZ")) == [50, 1]
    assert [text[20:] for text in ages_since("2m", "text")] == ["old 50", "old 1", ")"]
    assert ages_since("1m", "pushed") == ["pushed just now"]
    assert ages_since((now + timedelta(hours=1)).isoformat(), "pushed") == []


def test_a_since_that_cannot_be_read_says_how_to_write_it(sidecar):
    for text in ("yesterday", "5", "-5m", "2026-05-01T12:00:00", "2026-13-01T00:00:00Z"):
        status, problem = sidecar.get(f"/v1/logs?since={quote(text)}")

        assert status == 400
        assert "query:since" in json.dumps(problem["errors"])
        assert "as in 5m" in json.dumps(problem["errors"])


def test_a_follower_with_since_gets_the_past_and_then_what_comes(sidecar, place):
    now = datetime.now(UTC)
    write(
        place, "a.log", [json.dumps({"time": (now - timedelta(seconds=age)).isoformat(), "n": age}) for age in (900, 9)]
    )
    eventually(lambda: len(sidecar.get("/v1/logs")[1]["lines"]) == 2)
    with urllib.request.urlopen(sidecar.url + "/v1/logs?follow=true&since=1m", timeout=10) as stream:
        assert json.loads(stream.readline())["n"] == 9
        write(place, "a.log", ['{"n": 0}'])
        assert json.loads(stream.readline())["n"] == 0


def test_a_drain_ends_followers_with_a_whole_answer(sidecar, place):
    write(place, "a.log", ['{"n": 0}'])
    eventually(lambda: len(sidecar.get("/v1/logs")[1]["lines"]) == 1)
    with urllib.request.urlopen(sidecar.url + "/v1/logs?follow=true&since=2020-01-01T00:00:00Z", timeout=10) as stream:
        assert json.loads(stream.readline())["n"] == 0

        assert sidecar.interrupt() == 0
        # A chunked answer that is cut off raises IncompleteRead here.
        assert stream.read() == b""
    assert "did not end within the grace period" not in sidecar.log.read_text()


def test_a_follower_that_reads_nothing_holds_up_no_drain(sidecar, place):
    stuck = follow(sidecar)
    eventually(lambda: followers(sidecar) == 1)
    write(place, "a.log", [json.dumps({"n": number, "text": "x" * 10_000}) for number in range(2000)])
    eventually(lambda: sidecar.get("/v1/statistics")[1]["logs"]["sinks"]["archive"]["lagBytes"] == 0)
    write(place, "a.log", ['{"n": 2000}'])

    assert sidecar.interrupt() == 0

    stuck.close()
    assert "did not end within the grace period" not in sidecar.log.read_text()
    lines = (place / "archive.ndjson").read_bytes().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(2001))


def test_followers_are_bounded_and_those_that_are_gone_make_room(sidecar):
    """Nothing is written to any file: only the connections tell."""
    some = [follow(sidecar) for _ in range(8)]
    eventually(lambda: followers(sidecar) == 8)
    assert sidecar.get("/v1/logs?follow=true")[0] == 429

    for connection in some:
        connection.close()

    eventually(lambda: followers(sidecar) == 0)
    follow(sidecar).close()
