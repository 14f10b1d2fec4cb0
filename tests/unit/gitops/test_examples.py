"""The GitOps examples hold together: shapes, names, paths, and resources that lint clean. What needs kubectl, helm or an API server is in tests/cluster/test_gitops.py."""

from pathlib import Path

import msgspec
import pytest
import yaml
from tests.support.argocd import argocd_health
from tests.support.gitops import shapes

from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import kinds
from pillion.version import VERSION

ROOT = Path(__file__).parents[3]
FLEET = ROOT / "examples" / "gitops"
MANIFESTS = sorted(file for file in FLEET.rglob("*.yaml") if file.name not in ("kustomization.yaml", "values.yaml"))
KUSTOMIZATIONS = sorted(FLEET.rglob("kustomization.yaml"))
ENVIRONMENTS = ("staging", "production")


def documents(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def objects(model):
    for file in MANIFESTS:
        for document in documents(file):
            found = shapes.read(document)
            if isinstance(found, model):
                yield found


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: str(file.relative_to(FLEET)))
def test_objects_of_both_tools_have_the_fields_that_the_tools_know(file):
    for document in documents(file):
        shapes.read(document)


def test_a_misspelt_field_would_be_found():
    [release] = documents(FLEET / "flux" / "pillion" / "base" / "release.yaml")
    release["spec"]["driftdetection"] = release["spec"].pop("driftDetection")

    with pytest.raises(msgspec.ValidationError):
        shapes.read(release)


def test_resources_of_the_team_lint_clean_and_use_every_kind():
    files = sorted((FLEET / "teams" / "shop" / "base").glob("*.yaml"))
    bundle = read_bundle([(file.name, file.read_text()) for file in files], kinds())

    assert [finding.violation.message for finding in bundle.errors] == []
    # Secrets come from a secret store, which lint cannot see.
    assert all("names a Secret that is not among these files" in one.violation.message for one in bundle.findings)
    assert {resource.kind for resource in bundle.resources} == set(kinds())


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda file: str(file.parent.relative_to(FLEET)))
def test_a_kustomization_names_files_that_are_there_and_leaves_out_none(file):
    content = yaml.safe_load(file.read_text())
    named = content.get("resources", []) + [patch["path"] for patch in content.get("patches", ()) if "path" in patch]
    named += [name for generator in content.get("configMapGenerator", ()) for name in generator["files"]]

    assert [name for name in named if not (file.parent / name).exists()] == []
    beside = {one.name for one in file.parent.glob("*.yaml")} - {file.name}
    assert beside <= set(named)


def test_paths_in_the_objects_lead_to_folders_of_the_repository():
    paths = [one.spec.path for one in objects(shapes.FluxKustomization)]
    paths += [one.spec.source.path for one in objects(shapes.Application) if one.spec.source]

    assert [path for path in paths if not (FLEET / path / "kustomization.yaml").exists()] == []
    for application in objects(shapes.Application):
        for source in application.spec.sources:
            for name in source.helm.valueFiles if source.helm else ():
                assert (FLEET / name.removeprefix("$fleet/")).exists()
    for made in objects(shapes.ApplicationSet):
        for generator in made.spec.generators:
            assert [list(FLEET.glob(folder.path)) for folder in generator.git.directories] == [
                [FLEET / "teams" / "shop" / "production"]
            ]


def test_every_reference_of_flux_has_its_object():
    """The repository itself, named flux-system, is made by `flux bootstrap`."""
    names = {
        ("GitRepository", "flux-system"),
        ("Kustomization", "pillion"),
        ("ConfigMap", "pillion-values"),
        *(("GitRepository", one.metadata.name) for one in objects(shapes.GitRepository)),
    }
    for one in objects(shapes.FluxKustomization):
        assert (one.spec.sourceRef.kind, one.spec.sourceRef.name) in names
        assert all(("Kustomization", other.name) in names for other in one.spec.dependsOn)
        assert one.spec.wait
    for one in objects(shapes.HelmRelease):
        assert (one.spec.chart.spec.sourceRef.kind, one.spec.chart.spec.sourceRef.name) in names
        assert all((other.kind, other.name) in names for other in one.spec.valuesFrom)
        assert (ROOT / one.spec.chart.spec.chart / "Chart.yaml").exists()


def test_teams_come_after_the_operator():
    [made] = objects(shapes.ApplicationSet)
    chart = next(one for one in objects(shapes.Application) if one.metadata.name == "pillion")
    wave = "argocd.argoproj.io/sync-wave"

    assert int(chart.metadata.annotations[wave]) < int(made.metadata.annotations[wave])
    for environment in ENVIRONMENTS:
        [teams] = documents(FLEET / "flux" / "clusters" / environment / "teams.yaml")
        assert shapes.read(teams).spec.dependsOn == [shapes.Reference(name="pillion")]


def test_both_tools_pin_this_version():
    pinned = [one.spec.ref.tag for one in objects(shapes.GitRepository)]
    pinned += [
        source.targetRevision for one in objects(shapes.Application) for source in one.spec.sources if source.helm
    ]

    assert set(pinned) == {f"v{VERSION}"}


def test_the_environments_of_flux_differ_in_nothing_but_their_name():
    for name in ("pillion.yaml", "teams.yaml"):
        one, other = (
            (FLEET / "flux" / "clusters" / environment / name).read_text().replace(environment, "ENVIRONMENT")
            for environment in ENVIRONMENTS
        )
        assert one == other


def test_the_health_checks_are_those_that_are_shipped():
    """A repository that is copied must be complete, so the file is there twice."""
    copy = FLEET / "argocd" / "health" / "argocd-health.yaml"

    assert copy.read_text() == (ROOT / "operator" / "deploy" / "optional" / "argocd-health.yaml").read_text(), (
        "run `make crds`"
    )


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({}, ("Progressing", "")),
        ({"health": {"status": "Degraded", "message": "one"}}, ("Degraded", "one")),
        ({"health": {"status": "Healthy"}}, ("Healthy", "")),
    ],
)
def test_waves_wait_for_the_health_of_applications(status, health):
    [config] = documents(FLEET / "argocd" / "health" / "application.yaml")
    [script] = config["data"].values()

    assert argocd_health(script, {"status": status}) == health
