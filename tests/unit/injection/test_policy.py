"""The policy for API servers that inject by themselves: generated, current, and made of what the webhook has."""

import re
from pathlib import Path

import pytest
import yaml

from pillion.version import VERSION
from pillion_operator import command, injector
from pillion_operator.injection import policy, rules
from pillion_operator.injection.cel import Each, Hole, literal
from pillion_operator.injection.precedence import ANNOTATIONS, PREFIX, Options
from pillion_operator.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "operator" / "deploy"
SHIPPED = DEPLOY / "optional" / "injection-policy.yaml"
SETTINGS = Settings(namespace="pillion-system")


def webhooks():
    [configuration] = [
        document
        for document in yaml.safe_load_all((DEPLOY / "5-admission.yaml").read_text())
        if document["kind"] == "MutatingWebhookConfiguration"
    ]
    return {webhook["name"].removesuffix(".inject.pillion.dev"): webhook for webhook in configuration["webhooks"]}


@pytest.mark.parametrize("file", [SHIPPED, ROOT / "charts" / "pillion" / "files" / "injection-policy.yaml"])
def test_the_shipped_policy_is_current(file):
    assert file.read_text() == injector.injection_policy(SETTINGS), "run `make crds`"


def test_the_command_prints_it_with_the_settings_of_its_flags(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = [
        "--print-injection-policy",
        "--namespace=ours",
        "--sidecar-image=registry.example/p:2",
        "--sidecar-cpu-limit=1",
    ]

    assert command.run(parser.parse_args(flags)) == 0

    made = list(yaml.safe_load_all(capsys.readouterr().out))
    variables = {one["name"]: one["expression"] for one in made[0]["spec"]["variables"]}
    assert variables["default_image"] == '"registry.example/p:2"'
    assert variables["default_cpu_limit"] == '"1"'
    assert variables["operator_url"] == '"https://pillion-operator.ours.svc:3780"'
    excluded = made[1]["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert excluded == ["kube-system", "ours"]


def test_its_bindings_select_what_the_webhooks_select_whatever_their_failure_policy():
    bindings = {
        document["metadata"]["name"].removeprefix(f"{policy.NAME}-"): document["spec"]["matchResources"]
        for document in yaml.safe_load_all(SHIPPED.read_text())
        if document["kind"] == "MutatingAdmissionPolicyBinding"
    }

    assert set(bindings) == {"namespaces", "pods"}
    for name, webhook in webhooks().items():
        binding = bindings[name.removesuffix(".strict")]
        of_namespaces = webhook["namespaceSelector"]["matchExpressions"]
        assert binding["objectSelector"] == webhook["objectSelector"]
        assert binding["namespaceSelector"]["matchExpressions"] == [
            one for one in of_namespaces if one["key"] != f"{PREFIX}failure-policy"
        ]


def test_the_webhooks_are_asked_about_pods_that_lack_something_and_about_no_others():
    for webhook in webhooks().values():
        assert webhook["matchConditions"] == [{"name": "lacks-something", "expression": rules.LACKS_SOMETHING}]


def test_it_knows_every_annotation_and_every_reason():
    found = rules.variables(Options(image="pillion:1"), "https://operator", VERSION)
    patch = (ROOT / "operator/src/pillion_operator/injection/patch.py").read_text()
    reasons = set(re.findall(r'Refusal\(\s*"([A-Za-z]+)"', patch)) | {"BadAnnotation"}

    for name, (field, _) in ANNOTATIONS.items():
        assert f'"{PREFIX}{name}"' in found["readable"], name
        assert f'variables.own[?"{PREFIX}{name}"]' in found.get(field, "") + found.get(f"asked_{field}", ""), name
    assert set(rules.IMPOSSIBLE) | set(re.findall(r'\? "([A-Za-z]+)"', found["refusal"])) == reasons


def test_every_variable_stands_after_those_that_it_uses():
    known = set()
    for name, expression in rules.variables(Options(image="pillion:1"), "https://operator", VERSION).items():
        assert set(re.findall(r"variables\.(\w+)", expression)) <= known, name
        known.add(name)


def test_an_installation_mounts_no_volumes_of_pods():
    with pytest.raises(ValueError, match="mounts"):
        rules.variables(Options(image="pillion:1", mounts=(("a", "/b"),)), "https://operator", VERSION)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('say "hi"\n', r'"say \"hi\"\n"'),
        (["a", "b"], '["a", "b"]'),
        (["a", 1, True], '[dyn("a"), dyn(1), dyn(true)]'),
        ({"a": "b", "c": {"d": "e"}}, '{"a": dyn("b"), "c": dyn({"d": "e"})}'),
        ({"a": Hole("x"), "b": "c"}, '{"a": x, "b": "c"}'),
        (f"http://host:{Hole('port', 'int')}/", '"http://host:" + string(port) + "/"'),
        ({"a": Hole("x", optional=True)}, '{?"a": optional.ofNonZeroValue(x)}'),
        ([], "[]"),
        ("", '""'),
    ],
)
def test_json_with_holes_becomes_cel(value, expected):
    assert literal(value) == expected


def test_what_is_there_any_number_of_times_is_mapped():
    each = Each("variables.mounts", "mount", "volume", "path")

    assert (
        literal([{"x": "y"}, *({"name": volume} for volume, _ in each), {"x": "z"}])
        == '[{"x": "y"}] + variables.mounts.map(mount, {"name": mount.volume}) + [{"x": "z"}]'
    )


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError, match="set has no CEL literal"):
        literal({"a": {1}})
