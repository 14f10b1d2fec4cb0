"""Alerts and dashboard: each expression is one that Prometheus reads, over series and labels that exist; each alert has a runbook."""

import json
import re
import subprocess

import pytest
import yaml
from tests.support.charting import CHART, EVERYTHING, ROOT, only
from tests.support.cluster import programs
from tests.support.metrics import declared

GROUPS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
PANELS = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
SERIES = declared()
TARGET = {"namespace", "pod", "instance", "job"}
"""Labels that a scrape adds."""
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"

alerts = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def expressions():
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)
    yield from ((panel["title"], panel["targets"][0]["expr"]) for panel in PANELS)


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_an_expression_asks_for_series_and_labels_that_exist(title, expression):
    asked = re.findall(r"\b(pillion_\w+)(?:\{([^}]*)\})?", expression)
    grouped = {
        label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(",")
    }

    assert asked
    for name, matchers in asked:
        assert name in SERIES, name
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= SERIES[name], (name, matchers)
    assert grouped <= set().union(*(SERIES[name] for name, _ in asked)) | TARGET


def test_prometheus_reads_every_expression():
    parser = programs.cached(["promql"]).get("promql")
    if parser is None:
        pytest.skip("no parser: `make tools` builds it")
    lines = [expression for _, expression in expressions()]

    read = subprocess.run(
        [str(parser)], input="\n".join([*lines, "sum("]), capture_output=True, text=True, check=True, timeout=30
    )

    assert "\n" not in "".join(lines)
    assert [line[:5] for line in read.stdout.splitlines()] == ["sum(:"]


@alerts
def test_an_alert_speaks_of_labels_that_its_expression_keeps(rule):
    said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    by = re.findall(r"(?:sum|max) by \(([^)]*)\)", rule["expr"])
    series = set().union(*(SERIES[name] for name in re.findall(r"pillion_\w+", rule["expr"])))
    kept = {label.strip() for group in by for label in group.split(",")} if by else series | TARGET

    assert said <= kept


@alerts
def test_an_alert_says_how_bad_it_is_and_what_it_means(rule):
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"}, {"severity": "info"})
    assert all(rule["annotations"][text].endswith(".") for text in ("summary", "description"))
    assert re.fullmatch(r"Pillion[A-Za-z]+", rule["alert"])


def test_outcomes_that_an_alert_counts_are_outcomes_of_the_webhooks():
    source = (ROOT / "operator/src/pillion_operator/admission/server.py").read_text()
    rule = next(rule for rule in RULES if rule["alert"] == "PillionAdmissionFailing")
    outcomes = re.search(r'outcome=~"([^"]+)"', rule["expr"])[1].split("|")

    assert [outcome for outcome in outcomes if f'"{outcome}"' not in source] == []


def test_the_rule_of_the_cluster_has_every_alert_with_its_runbook(helm):
    rule = only(helm.documents("--values", str(EVERYTHING)), "PrometheusRule")

    found = {
        one["alert"]: one["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for one in group["rules"]
    }
    assert found == {one["alert"]: f"https://pillion.dev/docs/troubleshooting#{one['alert'].lower()}" for one in RULES}
    assert "{{ $labels.pod }}" in json.dumps(rule)


def test_the_dashboard_is_the_file(helm):
    map_ = only(helm.documents("--values", str(EVERYTHING)), "ConfigMap", "pillion-dashboard")

    assert json.loads(map_["data"]["pillion.json"])["panels"] == PANELS
    assert map_["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))


@alerts
def test_a_runbook_is_a_heading_of_the_page_on_troubleshooting(rule):
    if not TROUBLESHOOTING.exists():
        pytest.skip("docs/troubleshooting.md is not written")
    anchors = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", TROUBLESHOOTING.read_text(), re.MULTILINE)}

    assert rule["alert"].lower() in anchors
