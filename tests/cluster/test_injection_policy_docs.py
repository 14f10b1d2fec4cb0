"""The commands by which docs/injection.md injects by policy do what the page says, on an API server without any operator."""

import asyncio
import os
import subprocess
import sys
import time

import pytest
from tests.support.charting import ROOT
from tests.support.cluster import namespaces
from tests.support.cluster.api import Api
from tests.support.docs import commands

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "injection.md").read_text()
SECTION = PAGE.partition("## By policy, without a call")[2].partition("\n## ")[0]


@pytest.fixture
def reader(cluster, tmp_path):
    """Runs a command as a reader would, in whose cluster the namespace of the page has another name."""
    own = namespaces.name_for("shop")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(cluster.kubectl.program)
    (programs / "pillion").write_text(f'#!/bin/sh\nexec {sys.executable} -m pillion.cli.main "$@"\n')
    (programs / "pillion").chmod(0o755)
    kubeconfig = cluster.access.write(tmp_path / "kubeconfig")
    environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(kubeconfig)}

    def run(text):
        text = text.replace("-n shop", f"-n {own}").replace("namespace shop", f"namespace {own}")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-euc", text],
            capture_output=True, text=True, check=False, timeout=60, env=environ, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, (text, done.stdout + done.stderr)
        if "create namespace" in text:  # nobody else makes the account of a namespace here
            cluster.kubectl.within(own).run("create", "serviceaccount", "default")
        return done.stdout

    yield run

    async def clean():
        async with Api(cluster.access) as api:
            await namespaces.remove(api, own, controlled=cluster.controlled)

    asyncio.run(clean())
    cluster.kubectl.run(
        "delete", "--ignore-not-found", f"--filename={ROOT}/operator/deploy/optional/injection-policy.yaml"
    )


def test_the_commands_of_the_page(reader):
    ran = []
    for command in commands.read("injection.md", SECTION):
        if command.text.startswith("helm "):
            continue  # tests/chart renders it, tests/cluster/test_chart_release.py applies what it renders
        ran.append(command.text)
        until = time.monotonic() + 20
        while (differing := commands.differs(command.shown, reader(command.text))) and time.monotonic() < until:
            assert "--dry-run" in command.text, differing
        assert not differing, differing

    assert len(ran) == 6
