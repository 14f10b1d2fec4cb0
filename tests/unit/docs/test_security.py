"""docs/security.md tells the truth about rights and ports: its tables say what the manifests say, no more and no less."""

import re
from pathlib import Path

import yaml

from pillion_operator.injection.precedence import Options
from pillion_operator.injection.sidecar import SOCKET
from pillion_operator.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "operator" / "deploy"
PAGE = (ROOT / "docs" / "security.md").read_text()


def table(heading):
    """Rows of the first table below a heading, as lists of cells."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def manifests(*files):
    return [document for file in files for document in yaml.safe_load_all((DEPLOY / file).read_text()) if document]


def test_the_rights_are_those_of_the_manifests():
    written = set()
    for document in manifests("2-rbac.yaml", "optional/eviction.yaml"):
        for rule in document.get("rules", ()):
            for group in rule["apiGroups"]:
                written.add(
                    (
                        f"{document['kind']} `{document['metadata']['name']}`",
                        f"`{group}`" if group else "core",
                        tuple(sorted(rule["resources"])),
                        tuple(sorted(rule.get("resourceNames", ()))),
                        tuple(sorted(rule["verbs"])),
                    )
                )
    told = {
        (
            role,
            group,
            tuple(sorted(re.findall(r"`([^`]+)`", resources))),
            tuple(sorted(re.findall(r"`([^`]+)`", names))),
            tuple(sorted(verbs.split())),
        )
        for role, group, resources, names, verbs, _ in table("Rights")
    }

    assert told == written


def test_no_right_is_wider_than_the_page_says():
    for document in manifests("2-rbac.yaml", "optional/eviction.yaml"):
        for rule in document.get("rules", ()):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            secrets = "secrets" in rule["resources"]
            assert not (secrets and {"list", "watch"} & set(rule["verbs"]))


def ports(to):
    """Ports of the flows to somebody."""
    return {port for _, receiver, port, *_ in table("Network flows") if receiver == to}


def test_the_ports_of_the_operator_are_those_of_its_manifests_and_settings():
    settings = Settings(namespace="x")
    [service] = manifests("3-service.yaml")
    deployment = manifests("4-deployment.yaml")[0]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    listened = {
        address.rpartition(":")[2]
        for address in (settings.stream_address, settings.admin_address, settings.admission_address)
    }
    opened = {str(port["containerPort"]) for port in container["ports"]}
    names = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    served = {(str(port["port"]), names[port["targetPort"]]) for port in service["spec"]["ports"]}

    told = {port.partition(",")[0] for port in ports("operator") | ports("operator replica")}
    assert told == listened == opened
    assert "3443, as 443 of the Service" in ports("operator")
    assert served == {("443", "3443"), ("3780", "3780")}


def test_the_ports_of_a_sidecar_are_those_of_its_injection():
    defaults = Options(image="x")

    assert ports("sidecar") == {
        f"{defaults.port}, on 127.0.0.1 alone",
        str(defaults.admin_port),
        f"socket `{SOCKET}`",
    }


def test_every_port_of_the_chart_policy_has_a_flow():
    """The policy speaks of ports by name; each name is a container port of the operator."""
    policy = (ROOT / "charts" / "pillion" / "templates" / "networkpolicy.yaml").read_text()
    deployment = manifests("4-deployment.yaml")[0]
    named = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}

    assert set(re.findall(r"port: ([a-z]+)\b", policy)) == named


def test_switches_of_the_checklist_exist():
    values = yaml.safe_load((ROOT / "charts" / "pillion" / "values.yaml").read_text())
    alerts = (ROOT / "charts" / "pillion" / "files" / "alerts.yaml").read_text()
    checklist = PAGE.partition("## Checklist")[2]

    for path in re.findall(r"`((?:image|secrets|networkPolicy|monitoring|tls|injection)\.[A-Za-z.]+)`", PAGE):
        found = values
        for part in path.split("."):
            assert part in found, path
            found = found[part]
    for alert in re.findall(r"`(Pillion[A-Za-z]+)`", checklist):
        assert f"alert: {alert}\n" in alerts
