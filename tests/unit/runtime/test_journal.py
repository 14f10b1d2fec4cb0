"""Our own log lines: JSON, redacted, bounded, and not repeated without end."""

import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context, trace

from pillion.runtime import journal


class Lines:
    """What was logged."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.seconds = 0.0

    def configure(self, level: journal.Level = "info", *, console: bool = False) -> None:
        repetitions = journal.Repetitions(lambda: self.seconds)
        journal.configure(level, stream=self.stream, console=console, repetitions=repetitions)

    def all(self) -> list[dict]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def last(self) -> dict:
        return self.all()[-1]


def fail(why: str) -> None:
    raise RuntimeError(why)


@pytest.fixture
def lines():
    """A journal into memory; everything is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    lines = Lines()
    lines.configure()
    yield lines
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()
    journal.CONCEALED.replace([])


def test_a_line_is_one_json_object_with_time_level_logger_and_message_in_front(lines):
    structlog.get_logger("server").info("listening", port=3700)
    line = lines.last()
    assert list(line) == ["time", "level", "logger", "message", "port"]
    assert (line["level"], line["logger"], line["message"], line["port"]) == ("info", "server", "listening", 3700)
    assert line["time"].endswith("Z")


def test_libraries_write_through_the_same_pipeline(lines):
    logging.getLogger("some.library").warning("it is %s", "late")
    assert lines.last()["message"] == "it is late"
    assert lines.last()["logger"] == "some.library"


def test_the_chatter_of_known_libraries_is_left_out_unless_debugging(lines):
    logging.getLogger("aiohttp.access").info("GET /")
    assert lines.all() == []
    lines.configure("debug")
    logging.getLogger("aiohttp.access").info("GET /")
    assert lines.last()["message"] == "GET /"


def test_the_level_decides_what_is_written(lines):
    lines.configure("error")
    structlog.get_logger("x").warning("no")
    logging.getLogger("y").warning("no")
    structlog.get_logger("x").error("yes")
    assert [line["message"] for line in lines.all()] == ["yes"]


def test_an_unknown_level_is_refused_with_the_known_ones():
    with pytest.raises(ValueError) as refusal:
        journal.configure("loud")
    assert str(refusal.value) == 'level: "loud" is not allowed (one of debug, info, warning, error)'


@pytest.mark.parametrize(
    "name", ["token", "Authorization", "api_key", "apiKey", "db.password", "client-secret", "Set-Cookie", "credentials"]
)
def test_a_field_named_like_a_secret_is_redacted_at_any_depth(lines, name):
    structlog.get_logger("x").info("e", **{name: "v4lue"}, deep=[{name: "v4lue"}])
    assert "v4lue" not in lines.stream.getvalue()
    assert lines.last()[name] == journal.REDACTED


@pytest.mark.parametrize("name", ["tokens", "key", "partition_key", "secret_name", "remaining_tokens"])
def test_a_field_that_only_sounds_like_a_secret_is_written(lines, name):
    structlog.get_logger("x").info("e", **{name: "v4lue"})
    assert lines.last()[name] == "v4lue"


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer s3same.x", "basic czNzYW1lOng=", "redis://user:s3same@host/0", "redis://:s3same@host"],
)
def test_a_text_that_looks_like_a_secret_is_redacted(lines, text):
    structlog.get_logger("x").info(text, other=text)
    assert "s3same" not in lines.stream.getvalue()
    assert "czNz" not in lines.stream.getvalue()


def test_known_secret_values_are_hidden_in_messages_fields_and_tracebacks(lines):
    journal.CONCEALED.replace([b"hunter22-long", b"abc"])
    log = structlog.get_logger("x")
    try:
        fail("login with hunter22-long failed")
    except RuntimeError:
        log.exception("sent hunter22-long", other={"a": ["hunter22-long"]})
        logging.getLogger("lib").exception("hunter22-long")
    assert "hunter22-long" not in lines.stream.getvalue()
    log.info("abc")
    assert lines.last()["message"] == "abc"  # too short to look for


@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=6, max_size=40),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
)
def test_a_known_secret_never_survives_whatever_surrounds_it(secret, before, after):
    concealed = journal.Concealed()
    concealed.replace([secret.encode()])
    hidden = concealed.hide(before + secret + after)
    assert secret not in hidden.replace(journal.REDACTED, "")


def test_a_warning_that_repeats_is_written_once_in_ten_seconds_with_the_number_left_out(lines):
    log = structlog.get_logger("x")
    for _ in range(5):
        log.warning("late", endpoint="a", error="changes")
    lines.seconds = journal.REPEAT_SECONDS
    log.warning("late", endpoint="a")
    assert [line.get("repeated") for line in lines.all()] == [None, 4]


def test_warnings_about_different_things_are_no_repetitions(lines):
    log = structlog.get_logger("x")
    log.warning("late", endpoint="a")
    log.warning("late", endpoint="b")
    log.error("late", endpoint="a")
    structlog.get_logger("y").warning("late", endpoint="a")
    assert len(lines.all()) == 4


def test_a_library_that_repeats_itself_is_limited_as_well(lines):
    for _ in range(5):
        logging.getLogger("lib").error("again")
    assert len(lines.all()) == 1


def test_information_is_never_left_out(lines):
    for _ in range(5):
        structlog.get_logger("x").info("applied")
    assert len(lines.all()) == 5


def test_the_memory_for_repetitions_is_bounded():
    repetitions = journal.Repetitions(lambda: 0.0)
    for number in range(3000):
        repetitions(None, "warning", {"event": str(number), "level": "warning"})
    assert len(repetitions._seen) == 1024


def test_a_line_is_bounded_however_much_is_logged(lines):
    structlog.get_logger("x").info("m" * 100_000, many=list(range(100_000)), deep=[[[[[[1]]]]]], blob=b"x" * 100_000)
    assert len(lines.stream.getvalue()) < 8000
    assert lines.last()["blob"] == "<100000 bytes>"


@given(
    value=st.recursive(
        st.none() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_any_value_becomes_one_line_of_json(value):
    event = journal.Concealed()(None, "info", {"message": "m", "value": value})
    assert "\n" not in journal._json(None, "info", event)
    json.loads(journal._json(None, "info", event))


def test_a_line_names_the_trace_it_belongs_to(lines):
    span = trace.NonRecordingSpan(trace.SpanContext(0xA1, 0xB2, is_remote=True))
    token = context.attach(trace.set_span_in_context(span))
    try:
        structlog.get_logger("x").info("e")
    finally:
        context.detach(token)
    assert lines.last()["trace_id"] == f"{0xA1:032x}"
    assert lines.last()["span_id"] == f"{0xB2:016x}"


def test_a_person_gets_readable_lines(lines):
    lines.configure(console=True)
    try:
        fail("why")
    except RuntimeError:
        structlog.get_logger("x").exception("broken", task="t")
    text = lines.stream.getvalue()
    assert "[error    ] broken" in text
    assert "task=t" in text
    assert "RuntimeError: why" in text


def test_a_closed_stream_does_not_fail_who_logs(lines):
    lines.stream.close()
    structlog.get_logger("x").info("nobody reads")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"whsec_firstsecret whsec_secondsecret\n", "no whsec_secondsecret here"),
        (b"redis://shop-user:s3cr3t%21pass@cache:6379/0", "AUTH shop-user s3cr3t!pass"),
        (b"s3cr3t!pass", "AUTH PLAIN AHNob3AtdXNlcgBzM2NyM3QhcGFzcw=="),
        (b"-----BEGIN CERTIFICATE-----\n" + b"MIIBszCCAVmgAwIBAgI\n" * 20, "no CERTIFICATE----- of yours"),
    ],
)
def test_parts_of_a_secret_are_concealed_as_they_turn_up_alone(value, told):
    concealed = journal.Concealed()
    concealed.replace([value])
    hidden = concealed.hide(told)

    kept = {"secondsecret", "s3cr3t!pass", "shop-user", "M3IzdCFwYX"}
    assert not [word for word in kept if word in hidden]
    assert (hidden == told) == (b"CERTIFICATE" in value)  # a certificate's lines are no secrets


def test_what_was_concealed_stays_so_while_more_is_added():
    concealed = journal.Concealed()
    concealed.replace([b"first-secret"])
    concealed.add([b"second-secret"])

    assert concealed.hide("first-secret second-secret") == "[redacted] [redacted]"
