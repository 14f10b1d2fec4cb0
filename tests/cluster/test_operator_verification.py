"""`pillion verify` against a running operator: what `helm test` runs, with the very arguments of its pod."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from tests.support.operator.fixtures import *  # noqa: F403 - fixtures are found by their names

from pillion_operator.certificates import make_authority

pytestmark = pytest.mark.slow


def verified(operator, authority):
    command = [
        sys.executable, "-m", "pillion.cli.main", "verify", f"--admission-url={operator.webhooks}",
        f"--stream-url={operator.url}", f"--ca-file={authority}", "--timeout=1",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_running_operator_is_verified(operator):
    done = verified(operator, operator.ca_file)

    assert (done.returncode, done.stderr) == (0, "")
    assert [line[:8] for line in done.stdout.splitlines()] == ["ok      "] * 4


def test_an_operator_whose_authority_is_another_is_not_believed(operator, tmp_path):
    other = tmp_path / "ca.crt"
    other.write_bytes(make_authority(datetime.now(UTC)).certificate)

    done = verified(operator, other)

    assert done.returncode == 1
    assert "certificate verify failed" in done.stdout
    assert "ok " not in done.stdout
