"""`pillion lint` refuses what must be refused, and says field, value and fix; as a person, a program and a pull request want it."""

import json
import re

import pytest
from tests.support.bad_manifests import BAD

from pillion.cli.main import main

GOOD = """\
apiVersion: pillion.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: good}
spec:
  rules: [{name: a, key: [user], limits: [{requests: 5, per: 1m}]}]
"""


def test_the_table_is_large_enough_and_names_are_unique():
    assert len({bad.name for bad in BAD}) == len(BAD) >= 60


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_a_bad_manifest_is_refused_with_field_value_and_fix(bad, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(bad.text)

    code = main(["lint", "-o", "json", str(tmp_path)])

    findings = [f for f in json.loads(capsys.readouterr().out) if f["severity"] == "error"]
    about = [f for f in findings if f["path"].startswith(bad.path)]
    assert code == 1
    assert about, f"nothing about {bad.path}: {[f['message'] for f in findings]}"
    for words in bad.says:
        assert any(words in f["message"] for f in about), [f["message"] for f in about]
    assert all(f["fix"] for f in about), about
    assert all(f["line"] >= 4 for f in about), about


def test_good_manifests_give_0(tmp_path, capsys):
    (tmp_path / "good.yaml").write_text(GOOD)

    assert main(["lint", str(tmp_path)]) == 0
    assert "1 resources good, 0 errors" in capsys.readouterr().err


def test_a_person_reads_file_line_field_value_and_fix(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(GOOD.replace("requests: 5", "requests: 0"))

    assert main(["lint", str(tmp_path)]) == 1
    assert re.search(
        r"bad\.yaml:5: error: RateLimitPolicy/good: spec\.rules\[0\]\.limits\[0\]\.requests: 0 is below the minimum of 1; use 1 or more",
        capsys.readouterr().out,
    )


def test_a_pull_request_gets_annotations(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(GOOD.replace("requests: 5", "requests: 0"))

    main(["lint", "-o", "github", str(tmp_path)])

    assert capsys.readouterr().out.startswith(
        f"::error file={tmp_path}/bad.yaml,line=5,title=RateLimitPolicy/good::spec.rules[0]"
    )


def test_a_missing_path_is_one_line_and_2(capsys):
    assert main(["lint", "/nowhere"]) == 2
    assert capsys.readouterr().err == "pillion lint: /nowhere does not exist\n"


def test_the_same_resource_twice_names_both_places(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)

    assert main(["lint", str(tmp_path)]) == 1
    assert (
        f'b.yaml:3: error: RateLimitPolicy/good: metadata.name: "good" is defined twice: also at {tmp_path}/a.yaml:1'
        in capsys.readouterr().out
    )


def test_a_secret_that_is_elsewhere_is_a_warning_that_strict_refuses(tmp_path, capsys):
    (tmp_path / "hook.yaml").write_text(
        "apiVersion: pillion.dev/v1alpha1\nkind: WebhookEndpoint\nmetadata: {name: h}\nspec:\n  url: https://hooks.example.com/in\n"
        "  signing: {scheme: standard, secretRef: {name: elsewhere, key: secret}}\n"
    )

    assert (main(["lint", str(tmp_path)]), main(["lint", "--strict", str(tmp_path)])) == (0, 1)
    assert (
        'hook.yaml:6: warning: WebhookEndpoint/h: spec.signing.secretRef.name: "elsewhere" names a Secret'
        in capsys.readouterr().out
    )


def test_the_example_is_clean(capsys):
    assert main(["lint", "--strict", "examples/shop/manifests"]) == 0
