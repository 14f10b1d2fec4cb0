"""A real node carries what the product needs: native sidecars, Services by name, projected tokens, exec and logs."""

import json

from tests.support.cluster.api import Api
from tests.support.cluster.identities import review_token
from tests.support.cluster.kubectl import Kubectl
from tests.support.cluster.node.archives import BUSYBOX_IMAGE


def _container(name: str, script: str, **more: object) -> dict[str, object]:
    return {"name": name, "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **more}


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


async def test_job_completes_beside_its_native_sidecar(kubectl: Kubectl) -> None:
    sidecar = _container(
        "sidecar",
        "touch /shared/ready; sleep 1000",
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["test", "-f", "/shared/ready"]}, "periodSeconds": 1},
        volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
        securityContext=RESTRICTED,
    )
    app = _container(
        "app", "ls /shared", volumeMounts=[{"name": "shared", "mountPath": "/shared"}], securityContext=RESTRICTED
    )
    pod = {
        "restartPolicy": "Never",
        "initContainers": [sidecar],
        "containers": [app],
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 1,
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": {"template": {"spec": pod}}}

    await kubectl("apply", "--filename=-", stdin=json.dumps(job))
    await kubectl("wait", "job/work", "--for=condition=Complete", "--timeout=60s", within=70)

    assert await kubectl("logs", "job/work", "--container=app") == "ready\n"


async def test_service_is_reached_by_its_name(kubectl: Kubectl, namespace: str) -> None:
    server = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                _container(
                    "web",
                    "echo hello > /www/index.html; exec httpd -f -p 8080 -h /www",
                    readinessProbe={"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
                )
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    # A fresh Service refuses until its endpoints are programmed; clients retry, so this one does.
    script = "until wget -q -O - http://web/ 2>/dev/null; do sleep 1; done"
    client = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [_container("client", script)],
        },
    }

    await kubectl(
        "apply",
        "--filename=-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [server, service, client]}),
    )
    await kubectl("wait", "pod/client", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", within=70)

    assert await kubectl("logs", "client") == "hello\n"
    assert f"web.{namespace}.svc.cluster.local" in await kubectl(
        "exec", "web", "--", "nslookup", f"web.{namespace}.svc.cluster.local"
    )


async def test_projected_token_has_our_audience(api: Api, kubectl: Kubectl, namespace: str) -> None:
    token = {"serviceAccountToken": {"audience": "pillion", "expirationSeconds": 600, "path": "token"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "holder"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [_container("app", "sleep 1000", volumeMounts=[{"name": "token", "mountPath": "/token"}])],
            "volumes": [{"name": "token", "projected": {"sources": [token]}}],
        },
    }

    await kubectl("apply", "--filename=-", stdin=json.dumps(pod))
    await kubectl("wait", "pod/holder", "--for=condition=Ready", "--timeout=60s", within=70)

    review = await review_token(api, await kubectl("exec", "holder", "--", "cat", "/token/token"))
    assert review.authenticated
    assert (review.pod_name, review.username) == ("holder", f"system:serviceaccount:{namespace}:default")
