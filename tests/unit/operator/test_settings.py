"""Settings: one list for flags, help and documentation; impossible ones are refused by name."""

import argparse
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pillion_operator import arguments, installation
from pillion_operator.arguments import from_arguments
from pillion_operator.settings import InvalidSettingsError, Settings


def parsed(*flags):
    parser = argparse.ArgumentParser()
    arguments.add_arguments(parser)
    return from_arguments(parser.parse_args(flags))


def test_flags_become_settings():
    found = parsed("--insecure", "--kubeconfig", "/k", "--max-streams", "7", "--settle-time", "0.5")

    assert (found.insecure, found.kubeconfig, found.max_streams, found.settle_time) == (True, Path("/k"), 7, 0.5)
    assert found.lease_duration == Settings().lease_duration


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--tls-ca", "a"), "--tls-ca belongs to --tls-cert"),
        (("--sidecar-cpu-request", "much"), "--sidecar-cpu-request: 'much' is not allowed; write a quantity"),
        (("--sidecar-memory-request", "1Gi"), "--sidecar-memory-request: 1Gi is above the limit, 256Mi"),
        (("--sidecar-image", "Not An Image"), "--sidecar-image"),
        (("--repair", "kill"), "--repair: 'kill'"),
        (("--tls-cert", "c"), "--tls-cert and --tls-key belong together"),
        (("--tls-cert", "c", "--tls-key", "k", "--insecure"), "--insecure contradicts"),
        (("--insecure", "--status-workers", "0"), "--status-workers: '0'"),
        (("--insecure", "--secret-interval", "soon"), "--secret-interval: 'soon'"),
        (("--insecure", "--stream-address", "here"), "--stream-address: 'here'"),
        (("--insecure", "--lease-renew-deadline", "20"), "--lease-renew-deadline"),
        (("--insecure", "--advertise-url", "https://x"), "--peer-token-file"),
    ],
)
def test_what_cannot_be_is_refused_with_the_flag_and_the_fix(flags, named):
    with pytest.raises(InvalidSettingsError) as refused:
        parsed(*flags)

    assert named in str(refused.value)


def test_every_setting_is_described():
    for line in arguments.documentation().splitlines()[2:]:
        assert len(line.split(" | ")[2]) > 20, line


def test_the_documentation_holds_the_current_table():
    page = Path(__file__).parents[3] / "docs" / "operator.md"

    assert arguments.documentation() in page.read_text()


def test_the_documentation_names_every_metric_and_no_other():
    root = Path(__file__).parents[3]
    named = set(re.findall(r"`(pillion_operator_[a-z_]+)`", (root / "docs" / "operator.md").read_text()))
    sources = "".join(path.read_text() for path in (root / "operator/src/pillion_operator").rglob("*.py"))
    registered = set(re.findall(r'"(pillion_operator_[a-z_]+)"', sources))

    assert named == registered


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://10.1.2.3:3780", "https://10.1.2.3:3780"),
        ("https://fd00::1:3780", "https://[fd00::1]:3780"),
        ("https://[fd00::1]:3780", "https://[fd00::1]:3780"),
        ("https://replica.example:3780", "https://replica.example:3780"),
    ],
)
def test_a_pods_address_of_either_family_can_be_advertised(given, taken, tmp_path):
    found = parsed("--insecure", "--advertise-url", given, "--peer-token-file", str(tmp_path / "token"))

    assert found.advertise_url == taken
    assert urlsplit(taken).hostname in installation.own_names(found)
