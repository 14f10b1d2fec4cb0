"""Rules of the house that no other tool enforces."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pillion.cli.reference import reference_page
from pillion.kinds.bundle import read_bundle
from pillion.kinds.crd import crd_yaml
from pillion.kinds.registry import kinds

ROOT = Path(__file__).parents[3]


def tracked():
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if out.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_the_operator_folder_is_no_package():
    """`operator/__init__.py` would shadow the standard library: any Python started here would die in `collections`."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_package_registry_is_named():
    host = re.compile(rb"https?://[a-z0-9.-]*(pypi|pythonhosted|npmjs|crates\.io|proxy\.golang)", re.IGNORECASE)

    assert [str(f) for f in tracked() if host.search(f.read_bytes())] == []


def test_locks_carry_hashes_and_no_index():
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        pinned = re.findall(r"^[a-z0-9._-]+(?:\[[^]]*\])?==", text, re.MULTILINE | re.IGNORECASE)

        assert pinned, lock
        assert text.count("--hash=sha256:") >= len(pinned), lock
        assert "index-url" not in text, lock


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.kind)
def test_crds_are_what_the_models_say(kind):
    assert (ROOT / "crds" / f"{kind.plural}.yaml").read_text() == crd_yaml(kind), "run `make crds`"


def test_the_reference_is_what_the_models_say():
    assert (ROOT / "docs" / "reference.md").read_text() == reference_page(kinds()), "run `make crds`"


def test_there_is_no_crd_without_a_kind():
    assert {f.stem for f in (ROOT / "crds").glob("*.yaml")} == {kind.plural for kind in kinds().values()}


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.kind)
def test_every_kind_is_reached_by_category_and_short_name(kind):
    names = yaml.safe_load(crd_yaml(kind))["spec"]["names"]

    assert names["categories"] == ["pillion"]
    assert len(names["shortNames"]) >= 1


def fences():
    for page in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]):
        if page.exists():
            for number, fence in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
                if "apiVersion: pillion.dev/v1alpha1" in fence:
                    yield pytest.param(fence, id=f"{page.relative_to(ROOT)}:{number}")


@pytest.mark.parametrize("fence", list(fences()))
def test_examples_in_the_docs_lint_clean(fence):
    bundle = read_bundle([("example.yaml", fence)], kinds())

    assert [f.violation.message for f in bundle.errors] == []


def test_links_between_the_pages_lead_somewhere():
    pages = [p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")) if p.exists()]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []
