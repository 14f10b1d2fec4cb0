"""The logs section of a SidecarProfile: what is refused, and what it compiles to."""

import msgspec
import pytest
import yaml

from pillion.kinds.profile import profile_kind
from pillion.kinds.resource import check_document
from pillion.logs.compiled import FileSinkPlan, HttpSinkPlan, LogPlan, SinkPlan, SourcePlan
from pillion.logs.identity import matches_path
from pillion.logs.kind import BLOCK
from pillion.logs.patterns import BUILT_IN, MaskRule

PROFILE = profile_kind([BLOCK])
SOURCE = "sources: [{name: app, files: [/var/log/app/*.log]}]"
SINK = "sinks: [{name: s, file: {path: /tmp/x}}]"


def checked(section):
    document = {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "SidecarProfile",
        "metadata": {"name": "p"},
        "spec": {"logs": yaml.safe_load(section)},
    }
    return check_document(document, {"SidecarProfile": PROFILE})


def plan(section):
    found = checked(section)
    assert [v.message for v in found.violations] == []
    settings = PROFILE.compile("p", found.resource.spec)["settings"]["logs"]
    return msgspec.convert(msgspec.json.decode(msgspec.json.encode(settings)), LogPlan)


def test_a_section_compiles_to_integers_and_defaults():
    found = plan(
        """
        sources: [{name: app, files: ["/var/log/app/*.log"], format: json}]
        mask: [email, {name: internal-id, pattern: 'ID-[0-9]{8}'}]
        sinks:
        - {name: live, http: {url: "http://loki:3100/push", tokenRef: {name: loki, key: token}}}
        - {name: archive, file: {path: /archive/shop.ndjson}, batch: {linger: 100ms}}
        """
    )

    assert found == LogPlan(
        sources=(SourcePlan(name="app", files=("/var/log/app/*.log",), format="json"),),
        mask=(BUILT_IN["email"], MaskRule(name="internal-id", pattern="ID-[0-9]{8}")),
        sinks=(
            SinkPlan(
                name="live",
                http=HttpSinkPlan(
                    url="http://loki:3100/push",
                    headers={},
                    gzip=True,
                    timeout_ns=10_000_000_000,
                    token=("loki", "token"),
                ),
                file=None,
                batch_bytes=1 << 20,
                linger_ns=1_000_000_000,
            ),
            SinkPlan(
                name="archive",
                http=None,
                file=FileSinkPlan(path="/archive/shop.ndjson", max_bytes=64 << 20),
                batch_bytes=1 << 20,
                linger_ns=100_000_000,
            ),
        ),
        intake_bytes=256 << 20,
    )


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ("{sources: [{name: app}]}", "spec.logs.sources[0].files", "missing"),
        ("{sources: [{name: app, files: [app.log]}]}", "spec.logs.sources[0].files[0]", "app.log"),
        ("{sources: [{name: app, files: [/var/**/a.log]}]}", "spec.logs.sources[0].files[0]", "within one folder"),
        ("{sources: [{name: app, files: [/var/../a.log]}]}", "spec.logs.sources[0].files[0]", "in full"),
        ("{sources: [{name: app, files: [/a.log], format: xml}]}", "spec.logs.sources[0].format", "xml"),
        (f"{{{SOURCE}, mask: [emial], {SINK}}}", "spec.logs.mask[0]", 'did you mean "email"'),
        (f"{{{SOURCE}, mask: [{{name: a, pattern: '('}}], {SINK}}}", "spec.logs.mask[0].pattern", "RE2"),
        (f"{{{SOURCE}, mask: [{{name: a, pattern: 'x*'}}], {SINK}}}", "spec.logs.mask[0].pattern", "empty text"),
        (f"{{{SOURCE}, mask: [{{name: email, pattern: x}}], {SINK}}}", "spec.logs.mask[0].name", "taken"),
        (f"{{{SOURCE}, mask: [{{name: 'true', pattern: x}}], {SINK}}}", "spec.logs.mask[0].name", "JSON"),
        (f"{{{SOURCE}, mask: [{{name: '7', pattern: x}}], {SINK}}}", "spec.logs.mask[0].name", "JSON"),
        (
            f"{{{SOURCE}, mask: [{{name: a, pattern: x}}, {{name: a, pattern: y}}], {SINK}}}",
            "spec.logs.mask[1].name",
            "taken",
        ),
        (f"{{{SOURCE}, mask: email, {SINK}}}", "spec.logs.mask", "list"),
        (f"{{{SOURCE}, sinks: [{{name: s}}]}}", "spec.logs.sinks[0]", "exactly one"),
        (f"{{{SOURCE}, sinks: [{{name: s, http: {{url: 'loki:3100'}}}}]}}", "spec.logs.sinks[0].http.url", "loki:3100"),
        (f"{{{SOURCE}, sinks: [{{name: s, http: {{url: 'http://'}}}}]}}", "spec.logs.sinks[0].http.url", "http://"),
        (
            f"{{{SOURCE}, sinks: [{{name: s, http: {{url: 'http://aa', headers: {{Cookie: b}}}}}}]}}",
            "spec.logs.sinks[0].http.headers.Cookie",
            "tokenRef",
        ),
        (
            f"{{{SOURCE}, sinks: [{{name: s, file: {{path: /var/log/app/out.log}}}}]}}",
            "spec.logs.sinks[0].file.path",
            "round for ever",
        ),
        (
            "{sources: [{name: app, files: [/logs/*.1]}], sinks: [{name: s, file: {path: /logs/out}}]}",
            "spec.logs.sinks[0].file.path",
            "round for ever",
        ),
        (f"{{{SOURCE}, {SINK}, intake: 1Ki}}", "spec.logs.intake", "1Mi"),
    ],
)
def test_what_is_wrong_is_named(section, path, words):
    found = checked(section)

    assert found.resource is None
    assert any(v.path.startswith(path) and words in v.message for v in found.violations), found.violations


def test_a_password_in_a_url_is_refused_without_repeating_it():
    found = checked(f"{{{SOURCE}, sinks: [{{name: s, http: {{url: 'http://u:hunter2@a/'}}}}]}}")

    assert [v.path for v in found.violations] == ["spec.logs.sinks[0].http.url"]
    assert "hunter2" not in found.violations[0].message


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/var/log/*.log", "/var/log/a.log", True),
        ("/var/log/*.log", "/var/log/a/b.log", False),
        ("/var/*/a.log", "/var/x/a.log", True),
        ("/var/log/a.log", "/var/log/a.log", True),
        ("/var/log/[ab].log", "/var/log/c.log", False),
    ],
)
def test_wildcards_stay_within_their_folder(pattern, path, expected):
    assert matches_path(pattern, path) is expected
