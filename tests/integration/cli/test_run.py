"""`pillion run`: an edit counts without a restart, a broken edit is refused with the reason, Ctrl-C ends it cleanly."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.running import Sidecar, eventually

LIMIT = """\
apiVersion: pillion.dev/v1alpha1
kind: RateLimitPolicy
metadata: {{name: shop}}
spec:
  rules: [{{name: user, key: [user], limits: [{{requests: {requests}, per: 1h}}]}}]
"""

CHECK = {"policy": "shop", "attributes": {"user": "ada"}}


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "limit.yaml").write_text(LIMIT.format(requests=5))
    return folder


@pytest.fixture
def sidecar(manifests, tmp_path):
    with Sidecar(manifests, tmp_path / "data") as running:
        yield running


def limit(sidecar):
    return sidecar.post("/v1/ratelimit/check", CHECK | {"peek": True})[1].get("limit")


def test_an_edit_counts_without_a_restart(sidecar, manifests):
    assert limit(sidecar) == 5

    (manifests / "limit.yaml").write_text(LIMIT.format(requests=7))

    eventually(lambda: limit(sidecar) == 7)


def test_a_broken_edit_is_refused_and_the_last_good_one_goes_on(sidecar, manifests):
    (manifests / "limit.yaml").write_text(LIMIT.format(requests=0))

    config = eventually(lambda: (c := sidecar.get("/v1/config")[1])["stale"] and c)

    assert limit(sidecar) == 5
    assert (
        f"{manifests}/limit.yaml:5: spec.rules[0].limits[0].requests: 0 is below the minimum of 1; use 1 or more"
        in config["message"]
    )
    assert f"{manifests}/limit.yaml:5: error: RateLimitPolicy/shop" in sidecar.log.read_text()


def test_a_mended_edit_clears_the_refusal(sidecar, manifests):
    (manifests / "limit.yaml").write_text("kind: [")
    eventually(lambda: sidecar.get("/v1/config")[1]["stale"])

    (manifests / "limit.yaml").write_text(LIMIT.format(requests=9))

    eventually(lambda: not sidecar.get("/v1/config")[1]["stale"])
    assert limit(sidecar) == 9


def test_a_new_file_is_seen_and_a_removed_one_withdrawn(sidecar, manifests):
    flag = manifests / "flag.yaml"
    flag.write_text(
        'apiVersion: pillion.dev/v1alpha1\nkind: FeatureFlag\nmetadata: {name: f}\nspec: {state: ENABLED, variants: {"on": true}, defaultVariant: "on"}\n'
    )
    eventually(lambda: sidecar.post("/ofrep/v1/evaluate/flags/f", {})[0] == 200)

    flag.unlink()

    eventually(lambda: sidecar.post("/ofrep/v1/evaluate/flags/f", {})[0] == 404)


def test_ctrl_c_ends_it_cleanly(sidecar):
    assert sidecar.interrupt() == 0
    assert "Traceback" not in sidecar.log.read_text()
    assert "Warning" not in sidecar.log.read_text()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pillion.cli.main", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_start_with_broken_manifests_is_refused_with_the_reason(manifests):
    (manifests / "limit.yaml").write_text(LIMIT.format(requests=-1))

    done = run("-f", str(manifests), "--data-dir", str(manifests.parent / "d"))

    assert done.returncode == 1
    assert (
        "limit.yaml:5: error: RateLimitPolicy/shop: spec.rules[0].limits[0].requests: -1 is below the minimum of 1"
        in done.stderr
    )


def test_a_taken_port_is_one_line(sidecar, manifests, tmp_path):
    port = sidecar.url.rpartition(":")[2]

    done = run("-f", str(manifests), "--data-dir", str(tmp_path / "other"), "--port", port, "--admin-port", "0")

    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_is_asked_for_once_the_profile_says_so(sidecar, manifests):
    (manifests / "profile.yaml").write_text(
        "apiVersion: pillion.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: p}\nspec: {auth: {tokenRef: {name: t, key: token}}}\n---\n"
        "apiVersion: v1\nkind: Secret\nmetadata: {name: t}\nstringData: {token: 0123456789abcdef-canary}\n"
    )
    eventually(lambda: sidecar.post("/v1/ratelimit/check", CHECK)[0] == 401)

    right = {"Authorization": "Bearer 0123456789abcdef-canary"}
    assert sidecar.call("POST", "/v1/ratelimit/check", CHECK, right)[0] == 200
    assert (
        sidecar.call("POST", "/v1/ratelimit/check", CHECK, {"Authorization": "Bearer 0123456789abcdef-canarz"})[0]
        == 401
    )
    assert sidecar.get("/livez")[0] == 200
    assert "canary" not in sidecar.log.read_text()


def test_a_block_that_is_off_says_so(sidecar, manifests):
    (manifests / "profile.yaml").write_text(
        "apiVersion: pillion.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: p}\nspec: {blocks: [ratelimit, health]}\n"
    )

    # Before the edit counts, OFREP answers 404 as well, but in its own words.
    eventually(lambda: "spec.blocks" in sidecar.post("/ofrep/v1/evaluate/flags/f", {})[1].get("detail", ""))
