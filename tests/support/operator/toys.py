"""Two small kinds for tests of the operator, which must work with any kinds: `Gauge` knows every way to be wrong, SidecarProfile comes as it is."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from pillion.kinds.definition import API_VERSION, BlockDefinition, Kind, OwnCondition
from pillion.kinds.model import JSON, SecretKeyRef, Spec
from pillion.kinds.profile import profile_kind
from pillion.kinds.violations import FieldPath, Violation, at
from pillion_operator.catalogue import Vocabulary


class GaugeSpec(Spec, frozen=True, kw_only=True):
    """A value between 0 and 100."""

    value: Annotated[int, Meta(ge=0, le=100, description="The value.")]
    claim: Annotated[str, Meta(max_length=20, description="Only one gauge may hold it.")] = ""
    secret: Annotated[SecretKeyRef | None, Meta(description="A Secret.")] = None


def _check(spec: GaugeSpec, path: FieldPath) -> Iterable[Violation]:
    if spec.value == 13:
        yield Violation(path=at(path, "value"), value=13, rule="is unlucky", fix="use 12 or 14")
    if spec.value == 12:
        yield Violation(path=at(path, "value"), value=12, rule="is near an unlucky one", severity="warning")
    if spec.value == 99:
        raise RuntimeError("a bug in a kind")


def _claims(specs: Mapping[str, GaugeSpec]) -> Iterable[tuple[str, Violation]]:
    held: dict[str, str] = {}
    for name in sorted(specs):
        claim = specs[name].claim
        if claim and claim in held:
            yield name, Violation(path=FieldPath("spec.claim"), value=claim, rule=f"is held by {held[claim]}")
        elif claim:
            held[claim] = name


GAUGE: Kind[Any] = Kind(
    kind="Gauge",
    plural="gauges",
    short_names=("gg",),
    summary="A value.",
    spec=GaugeSpec,
    check=_check,
    relate=_claims,
    compile=lambda name, spec: {"name": name, "value": spec.value},
    conditions={
        "Calibrated": OwnCondition(summary="Whether it can be trusted.", normally=True),
        "Stuck": OwnCondition(summary="True while it shows the same whatever happens."),
    },
    summarize=lambda spec: {"value": spec.value},
    status_schema={"value": {"type": "integer"}, "hits": {"type": "integer"}, "last": {"type": "string"}},
)

TOY = BlockDefinition(name="toy", kinds=(GAUGE,))
PROFILE = profile_kind((TOY,))

VOCABULARY = Vocabulary(
    kinds={"Gauge": GAUGE, PROFILE.kind: PROFILE}, blocks=("toy",), block_of={"Gauge": "toy", PROFILE.kind: ""}
)


def gauge(
    name: str,
    value: JSON,
    *,
    namespace: str = "shop",
    generation: int = 1,
    version: int = 1,
    uid: str = "",
    status: JSON = None,
    **spec: JSON,
) -> dict[str, JSON]:
    """A Gauge as the API server shows it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Gauge",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "generation": generation,
            "resourceVersion": str(version),
        },
        "spec": {"value": value, **spec},
        "status": status if status is not None else {"observedGeneration": -1},
    }
