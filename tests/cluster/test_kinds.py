"""The kinds on a real API server: what a schema or CEL can refuse is refused there, by field; good manifests and their defaults are taken."""

from pathlib import Path

import pytest
import yaml
from tests.support.bad_manifests import BAD
from tests.support.cluster.api import ApiError

from pillion.kinds.manifests import read_documents
from pillion.kinds.registry import kinds
from pillion.kinds.resource import spec_schema
from pillion.kinds.structure import with_defaults

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    pytest.param(document.value, id=f"{file.stem}:{document.value['kind']}")
    for file in sorted((ROOT / "examples" / "shop" / "manifests").glob("*.yaml"))
    for document in read_documents(file.read_text())
    if document.value["kind"] in kinds()
]


@pytest.fixture
def dry_run(api, namespace):
    async def create(document: dict) -> tuple[int, dict]:
        plural = kinds()[document["kind"]].plural
        path = f"/apis/pillion.dev/v1alpha1/namespaces/{namespace}/{plural}"
        try:
            return 201, await api.request("POST", path, document, dryRun="All", fieldValidation="Strict")
        except ApiError as error:
            return error.status, {"message": error.message}

    return create


@pytest.mark.parametrize("bad", [b for b in BAD if b.by == "schema"], ids=lambda b: b.name)
async def test_the_api_server_refuses_what_a_schema_can_see(bad, dry_run):
    status, answer = await dry_run(next(read_documents(bad.text)).value)

    assert status in (400, 422), answer
    # Strict decoding calls an unknown field by its path without indexes' brackets spelled as here; the last name is in every message.
    assert bad.path.rpartition(".")[2].split("[")[0] in answer["message"]


@pytest.mark.parametrize("bad", [b for b in BAD if b.by == "meaning"], ids=lambda b: b.name)
async def test_the_api_server_takes_what_only_meaning_can_refuse(bad, dry_run):
    status, answer = await dry_run(next(read_documents(bad.text)).value)

    assert status == 201, answer


@pytest.mark.parametrize("document", EXAMPLES)
async def test_the_examples_are_taken_with_the_defaults_of_the_schema(document, dry_run):
    status, answer = await dry_run(document)

    assert status == 201, answer
    schema = spec_schema(kinds()[document["kind"]].spec)
    assert answer["spec"] == with_defaults(document["spec"], schema)
    assert answer["status"]["observedGeneration"] == -1


async def test_people_find_the_kinds_by_category_and_short_name(kubectl, namespace):
    for short in ("rlp", "whe", "ntpl", "ff", "scp", "pillion"):
        await kubectl("get", short, "-n", namespace)


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.kind)
async def test_every_field_is_explained(kind, kubectl):
    assert "FIELDS" in await kubectl("explain", f"{kind.plural}.spec")


def test_the_definitions_are_yaml_that_kubectl_applies_as_a_folder():
    for file in (ROOT / "crds").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["kind"] == "CustomResourceDefinition"
