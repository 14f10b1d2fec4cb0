"""Values: each has one description, wrong ones are refused by name, and the table of the README is current."""

import importlib.util
import json

import pytest
import yaml
from tests.support.charting import CHART, EVERYTHING, GIVEN, ROOT, HelmError

from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import kinds

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def readme():
    spec = importlib.util.spec_from_file_location("chart_readme", ROOT / "charts" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_readme_are_current(readme):
    assert readme.rendered() == (CHART / "README.md").read_text(), "run `make crds`"


def test_a_value_without_a_comment_is_refused_by_name(readme):
    schema = {"properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}}}

    with pytest.raises(readme.Undescribed, match=r"^a\.b: has no comment"):
        readme.values("a:\n  b: x\n", schema)


def test_a_value_that_the_schema_does_not_have_is_refused_by_name(readme):
    with pytest.raises(readme.Undescribed, match="differ in b, c"):
        readme.values("# Meaning.\nb: x\n", {"properties": {"c": {"type": "string"}}})


def test_a_value_is_described_by_type_default_and_comment(readme):
    schema = {"properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}}}

    assert readme.values("# One line,\n# and | another.\na: 3\n", schema) == [
        ("a", "integer, 1 to 9", "`3`", "One line, and | another.")
    ]


def closed(schema, path="values"):
    """Every object of the schema that lets unknown members in."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for name, child in schema.items():
            yield from closed(child, f"{path}.{name}")


def test_no_object_with_known_members_takes_unknown_ones():
    assert list(closed(SCHEMA)) == []


def incomplete(schema, root, path=""):
    """Every group of values of which one may be absent: after `helm upgrade --reuse-values` those of the new version are."""
    for name, given in schema["properties"].items():
        reference = given.get("$ref", "")
        child = root["$defs"][reference.removeprefix("#/$defs/")] if reference else given
        if "properties" in child and name not in {"issuerRef", "resources"}:
            yield from incomplete(child, root, f"{path}.{name}".removeprefix("."))
    if set(schema["properties"]) - {"global"} != set(schema.get("required", ())):
        yield path


def test_a_value_that_is_missing_is_named_by_the_schema_before_a_template_fails():
    assert list(incomplete(SCHEMA, SCHEMA)) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("replicas=0", "/replicas"),
        ("replica=2", "replica"),
        ("sidecar=null", "missing property 'sidecar'"),
        ("monitoring.sidecars.labels=null", "missing property 'labels'"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=abc", "/image/digest"),
        ("image.tag=a b", "/image/tag"),
        ("monitoring.podMonitor=true", "/monitoring/podMonitor"),
        ("monitoring.serviceMonitor.interval=often", "/monitoring/serviceMonitor/interval"),
        ("sidecar.memoryRequest=", "/sidecar/memoryRequest"),
        ("sidecar.dataSize=much", "/sidecar/dataSize"),
        ("operator.extraArgs={status-workers=4}", "/operator/extraArgs/0"),
        ("redis.url=redis://user:secret@redis:6379/0", "/redis/url"),
        ("secrets.namespaces={A}", "/secrets/namespaces/0"),
        ("tls.certManager.issuerRef.kind=ClusterIssuer", "/tls/certManager/issuerRef"),
        ("tls.existingSecret=own,tls.certManager.enabled=true", "unset one of them"),
        ("redis.url=redis://a:6379", "redis.namespaces is empty"),
        ("redis.namespaces={shop}", "set one of redis.url, redis.existingSecret and redis.trial.enabled"),
        ("redis.namespaces={shop},redis.url=redis://a:6379,redis.trial.enabled=true", "keep one"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm, values, says):
    with pytest.raises(HelmError, match=says):
        helm.template("--set", values)


@pytest.mark.parametrize("values", [EVERYTHING, GIVEN], ids=lambda path: path.stem)
def test_lint_finds_nothing_whatever_is_switched_on(helm, values):
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(values))


def set_paths(document, path=""):
    for name, value in document.items():
        here = f"{path}.{name}".removeprefix(".")
        yield here
        if isinstance(value, dict):
            yield from set_paths(value, here)


def test_every_value_is_set_by_the_values_of_the_tests(readme):
    """A value that no test ever sets may do anything."""
    given = {path for file in (EVERYTHING, GIVEN) for path in set_paths(yaml.safe_load(file.read_text()))}
    elsewhere = {
        "image.pullPolicy", "crds.enabled", "injection.enabled", "tls.certManager.issuerRef", "tls.certManager.duration",
        "tls.certManager.renewBefore", "networkPolicy.egress.apiServerPorts", "monitoring.prometheusRule.runbookBase",
        "redis.url", "redis.trial.image", "redis.trial.resources", "test.timeout",
    }  # fmt: skip
    known = {value.path for value in readme.values((CHART / "values.yaml").read_text(), SCHEMA)}
    quiet = {
        path
        for path in known
        if path.startswith(("sidecar.", "operator.resources")) or path.endswith((".interval", ".labels"))
    }

    assert known - given - elsewhere - quiet == set()


def test_the_manifest_of_the_readme_is_one_that_lint_accepts():
    fences = [part.split("```")[0] for part in (CHART / "README.md").read_text().split("```yaml\n")[1:]]

    assert len(fences) == 1
    assert [one.violation.message for one in read_bundle([("README.md", fences[0])], kinds()).errors] == []
