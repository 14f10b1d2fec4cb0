"""Admission answers: resources are judged as lint judges them, pods are patched or let through."""

import base64
import json

import pytest

from pillion.kinds.violations import SPEC, Violation
from pillion.ratelimit.kind import BLOCK
from pillion_operator.admission.review import BadReview, decode, mutate, validate
from pillion_operator.injection.patch import Injection

KINDS = {kind.kind: kind for kind in BLOCK.kinds}


def review(spec, operation="CREATE", **metadata):
    document = {
        "apiVersion": "pillion.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": {"name": "p"} | metadata,
        "spec": spec,
    }
    request = {"uid": "u1", "operation": operation, "namespace": "shop", "object": document}
    return decode(
        json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    )


def judged(request, relations=lambda _resource: ()):
    return json.loads(validate(request, KINDS, relations))["response"]


GOOD = {"rules": [{"name": "a", "limits": [{"requests": 5, "per": "1m"}]}]}
BAD = {"rules": [{"name": "a", "limits": [{"requests": 0, "per": "1m"}]}]}


def test_a_good_resource_is_allowed():
    assert judged(review(GOOD)) == {"uid": "u1", "allowed": True}


def test_a_bad_one_is_refused_with_field_value_and_fix():
    answer = judged(review(BAD))

    assert answer["allowed"] is False
    assert "spec.rules[0].limits[0].requests: 0 is below the minimum of 1; use 1 or more" in answer["status"]["message"]


def test_relations_count():
    clash = Violation(path=SPEC, rule="clashes with another", fix="rename it")

    assert "clashes with another" in judged(review(GOOD), lambda _r: [clash])["status"]["message"]


def test_a_warning_does_not_refuse():
    risky = Violation(path=SPEC, rule="is risky", severity="warning")

    assert judged(review(GOOD), lambda _r: [risky]) == {"uid": "u1", "allowed": True, "warnings": ["spec: is risky"]}


@pytest.mark.parametrize("request_", [review(BAD, "DELETE"), review(BAD, deletionTimestamp="2026-01-01T00:00:00Z")])
def test_what_goes_away_is_never_hindered(request_):
    assert judged(request_)["allowed"] is True


def test_a_patch_is_base64_json():
    patch = ({"op": "add", "path": "/metadata/annotations", "value": {}},)

    body, _ = mutate(review(GOOD), lambda _pod, _namespace: Injection(patch=patch))

    response = json.loads(body)["response"]
    assert (response["allowed"], response["patchType"]) == (True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == list(patch)


def test_a_pod_without_sidecar_starts_with_a_warning():
    body, _ = mutate(
        review(GOOD), lambda _pod, _namespace: Injection(reason="HostNetwork", message="it uses the node's network")
    )

    assert json.loads(body)["response"] == {
        "uid": "u1",
        "allowed": True,
        "warnings": ["no Pillion sidecar: it uses the node's network"],
    }


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"apiVersion": "v1", "kind": "AdmissionReview", "request": {"uid": "x"}}']
)
def test_what_is_no_review_is_told(body):
    with pytest.raises(BadReview):
        decode(body)
