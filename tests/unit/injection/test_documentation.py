"""docs/injection.md tells the truth about annotations, defaults, reasons and names."""

import re
from pathlib import Path

import yaml

from pillion_operator.injection.patch import inject
from pillion_operator.injection.precedence import ANNOTATIONS, PREFIX, Options
from pillion_operator.installation import sidecar_options
from pillion_operator.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "injection.md").read_text()
ROWS = dict(re.findall(r"^\| `pillion\.dev/([a-z-]+)` \| (.+?) \| ", PAGE, re.MULTILINE))


def test_every_annotation_has_its_row_in_the_order_of_the_code():
    assert list(ROWS) == list(ANNOTATIONS)


def test_the_defaults_in_the_table_are_those_of_an_installation():
    defaults = sidecar_options(Settings(namespace="x"))
    for name, (field, _) in ANNOTATIONS.items():
        value = getattr(defaults, field)
        shown = "none" if value in ("", ()) else f"`{value}`"
        assert name == "image" or ROWS[name] == shown, name


def test_the_defaults_of_an_installation_are_those_of_the_injection():
    assert sidecar_options(Settings(namespace="x")) == Options(image=Settings(namespace="x").sidecar_image)


def test_every_reason_has_its_row():
    source = (ROOT / "operator/src/pillion_operator/injection/patch.py").read_text()
    reasons = set(re.findall(r'Refusal\(\s*"([A-Za-z]+)"', source)) | {"BadAnnotation"}

    assert set(re.findall(r"^\| `([A-Z][A-Za-z]+)` \|", PAGE, re.MULTILINE)) == reasons


def test_the_example_gets_its_sidecar():
    [example] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    template = example["spec"]["template"]

    injection = inject(
        template,
        namespace_labels={},
        namespace_annotations={},
        defaults=Options(image="pillion:1"),
        operator_url="https://operator",
        version="1",
    )

    sidecar = next(op["value"][0] for op in injection.patch if op["path"] == "/spec/initContainers")
    assert sidecar["resources"]["limits"] == {"memory": "128Mi"}
    assert {"name": "logs", "mountPath": "/var/log/app", "readOnly": True} in sidecar["volumeMounts"]


def test_labels_in_the_webhook_configurations_are_those_of_the_page():
    manifest = (ROOT / "operator" / "deploy" / "5-admission.yaml").read_text()

    for label in set(re.findall(r"key: (pillion\.dev/[a-z-]+)", manifest)):
        assert f"`{label}" in PAGE
    assert PREFIX + "inject" in manifest
