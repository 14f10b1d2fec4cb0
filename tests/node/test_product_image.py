"""The product's own image, from its real Dockerfile, runs under restricted Pod Security."""

import json

import pytest
from tests.support.cluster.api import Api
from tests.support.cluster.kubectl import Kubectl

from pillion.version import VERSION


@pytest.mark.timeout(1200)  # the first build installs every dependency
async def test_image_runs_as_nobody(image: str, api: Api, namespace: str, kubectl: Kubectl) -> None:
    await api.patch(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "pillion",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["--version"],
        "securityContext": security,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pillion"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }

    await kubectl("apply", "--filename=-", stdin=json.dumps(pod))
    await kubectl("wait", "pod/pillion", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", within=70)

    assert await kubectl("logs", "pillion") == f"pillion {VERSION}\n"
