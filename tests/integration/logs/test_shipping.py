"""Log shipping by a real process: nothing is lost over rotation, a dead sink, or kill -9, and nothing unmasked gets out."""

import json
import random
import threading
from collections import Counter

import pytest
from tests.support.running import Sidecar, eventually
from tests.support.shipping import Receiver, Writer

PROFILE = """\
apiVersion: pillion.dev/v1alpha1
kind: SidecarProfile
metadata: {{name: p}}
spec:
  blocks: [logs, health]
  logs:
    sources: [{{name: app, files: ["{folder}/*.log"], format: json}}]
    mask: [email]
    intake: {intake}
    sinks:
    - {{name: live, http: {{url: "{url}"}}, batch: {{linger: 50ms}}}}
    - {{name: archive, file: {{path: {archive}}}, batch: {{linger: 50ms}}}}
"""


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def place(tmp_path, receiver):
    folder, manifests = tmp_path / "app", tmp_path / "manifests"
    folder.mkdir()
    manifests.mkdir()
    text = PROFILE.format(folder=folder, url=receiver.url, archive=tmp_path / "archive.ndjson", intake="1Mi")
    (manifests / "profile.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def sidecar(place):
    with Sidecar(place / "manifests", place / "data") as running:
        yield running


@pytest.fixture
def writer(place):
    one = Writer(place / "app" / "shop.log")
    yield one
    one.file.close()


def archived(place):
    path = place / "archive.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_rotation_loses_and_repeats_nothing(sidecar, place, receiver, writer):
    for _ in range(20):
        writer.write(50)
        writer.rotate()

    eventually(lambda: len(set(receiver.numbers())) == writer.n)
    assert Counter(receiver.numbers()) == Counter(range(writer.n))
    eventually(lambda: len(archived(place)) == writer.n)
    assert "@example.com" not in json.dumps(receiver.lines)
    assert receiver.lines[0]["user"] == "[email]"
    assert receiver.lines[0]["source"] == "app"


def test_what_was_rotated_away_before_the_first_look_is_shipped_oldest_first(place, receiver, writer):
    for _ in range(5):
        writer.write(10)
        writer.rotate()
    writer.write(2)
    (place / "app" / "shop.log.9.gz").write_bytes(b"compressed")

    with Sidecar(place / "manifests", place / "data") as sidecar:
        eventually(lambda: len(receiver.numbers()) == writer.n)
        assert receiver.numbers() == list(range(writer.n))
        # A query is about what is recent.
        found = [line["n"] for line in sidecar.get("/v1/logs?limit=1000")[1]["lines"]]
        assert found == list(range(writer.n - 2, writer.n))
        sidecar.kill()
        sidecar.start()
        writer.write(5)
        eventually(lambda: len(receiver.numbers()) >= writer.n)
    assert receiver.numbers() == list(range(writer.n))


def test_a_dead_sink_stalls_no_other_and_gets_all_of_it_later(sidecar, place, receiver, writer):
    receiver.status = 503
    writer.write(500)

    eventually(lambda: len(archived(place)) == 500)
    eventually(lambda: sidecar.get("/v1/statistics")[1]["logs"]["sinks"]["live"]["retries"] >= 2)
    receiver.status = 200

    eventually(lambda: len(receiver.numbers()) == 500)
    assert Counter(receiver.numbers()) == Counter(range(500))


def test_what_a_sink_refuses_for_good_is_kept_aside_and_said(sidecar, place, receiver, writer):
    receiver.status = 400
    writer.write(10)

    eventually(lambda: sidecar.get("/v1/statistics")[1]["logs"]["sinks"]["live"]["quarantined"] == 10)
    kept = (place / "data" / "logs" / "live.quarantine.ndjson").read_text().splitlines()
    assert [json.loads(line)["n"] for line in kept] == list(range(10))
    assert "quarantine" in json.dumps(sidecar.get("/health")[1])


def test_kill_9_loses_nothing_and_repeats_at_most_the_batch_under_way(place, receiver, writer):
    chance = random.Random(20261120)
    pushed = []
    kills = 6
    with Sidecar(place / "manifests", place / "data") as sidecar:
        for trial in range(kills):
            writer.write(chance.randrange(50, 400))
            if chance.random() < 0.5:
                writer.rotate()
            record = f"pushed {trial}"
            assert sidecar.post("/v1/logs", {"message": record})[0] == 202
            pushed.append(record)
            writer.write(chance.randrange(200))
            threading.Event().wait(chance.random() * 0.15)
            sidecar.kill()
            writer.write(chance.randrange(100))
            sidecar.start()
        eventually(lambda: set(receiver.numbers()) == set(range(writer.n)))
        eventually(lambda: {line.get("message") for line in receiver.lines} >= set(pushed))
    # A repeat must lie inside a batch that was under way when a kill came: at most one batch a kill.
    repeats = sum(count - 1 for count in Counter(receiver.numbers()).values())
    assert repeats <= kills * 1000


def test_pushed_records_are_masked_shipped_and_bounded(sidecar, receiver):
    assert sidecar.post("/v1/logs", b'{"user": "ada@example.com", "n": 1}\nplain text\n') == (
        202,
        {"accepted": 2, "durability": "local"},
    )

    eventually(lambda: len(receiver.lines) == 2)
    assert receiver.lines[0]["user"] == "[email]"
    assert receiver.lines[1]["message"] == "plain text"


def test_a_full_intake_is_a_clear_507_and_keeps_what_it_took(sidecar, receiver):
    receiver.status = 503
    chunk = (json.dumps({"text": "x" * 1000}) + "\n").encode() * 200
    statuses = [sidecar.call("POST", "/v1/logs", chunk)[0] for _ in range(8)]

    assert statuses[:4] == [202] * 4
    assert statuses[-1] == 507
    receiver.status = 200
    eventually(lambda: len(receiver.lines) == 200 * statuses.count(202))
    eventually(lambda: sidecar.post("/v1/logs", {"text": "again"})[0] == 202)


def test_damaged_progress_is_set_aside_and_said_and_nothing_is_lost(place, receiver, writer):
    writer.write(20)
    with Sidecar(place / "manifests", place / "data") as sidecar:
        eventually(lambda: len(receiver.numbers()) == 20)
    (place / "data" / "logs" / "live.progress").write_bytes(b'{"format": 1, "rub')
    writer.write(17)
    writer.rotate()

    with Sidecar(place / "manifests", place / "data") as sidecar:
        eventually(lambda: set(receiver.numbers()) == set(range(40)))
        assert "live.progress is damaged" in json.dumps(sidecar.get("/health")[1])
    assert (place / "data" / "logs" / "live.damaged").exists()


def test_recent_lines_are_found_by_their_words_and_masked(sidecar, place, writer):
    writer.write(150)

    status, answer = sidecar.get("/v1/logs?q=" + "%22n%22:%207&limit=3")
    assert status == 200
    assert len(answer["lines"]) == 3
    assert "@example.com" not in json.dumps(answer)
    assert sidecar.get("/v1/logs?limit=0")[0] == 400
    assert sidecar.get("/v1/logs?follow=perhaps")[0] == 400
    assert sidecar.get("/v1/logs?source=nowhere")[0] == 404


def test_followers_see_new_lines_only(sidecar, place, writer):
    import urllib.request

    writer.write(5)
    eventually(lambda: len(sidecar.get("/v1/logs")[1]["lines"]) == 5)
    with urllib.request.urlopen(sidecar.url + "/v1/logs?follow=true", timeout=10) as stream:
        eventually(lambda: sidecar.get("/v1/statistics")[1]["logs"]["followers"] == 1)
        threading.Event().wait(0.5)  # the follower's first look marks what is old; only the clock tells when it is over
        writer.write(2)

        assert [json.loads(stream.readline())["n"] for _ in range(2)] == [5, 6]


def test_an_edit_changes_the_mask_without_a_restart(sidecar, place, receiver, writer):
    profile = place / "manifests" / "profile.yaml"
    profile.write_text(
        profile.read_text().replace("mask: [email]", "mask: [{name: person, pattern: 'u[0-9]+@example.com'}]")
    )
    eventually(lambda: (writer.write(1), any("[person]" in str(line) for line in receiver.lines))[1])

    assert Counter(receiver.numbers()).most_common(1)[0][1] == 1


def test_a_drain_hands_over_what_is_there(place, receiver, writer):
    with Sidecar(place / "manifests", place / "data") as sidecar:
        writer.write(1)
        eventually(receiver.numbers)  # the pipeline runs; before that, lines simply wait for the next start
        writer.write(29)
        assert sidecar.interrupt() == 0

    assert Counter(receiver.numbers()) == Counter(range(30))


def test_the_data_folder_is_private(sidecar, place):
    assert (place / "data").stat().st_mode & 0o077 == 0
