"""Pods as they are met in the world: each gets its sidecar and is otherwise untouched, or is let through with the reason."""

import copy

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operator.pods import IMPOSSIBLE, PODS, pod

from pillion_operator.injection import sidecar
from pillion_operator.injection.forms import OWN_FOLDERS
from pillion_operator.injection.patch import INJECTED_ANNOTATION, inject
from pillion_operator.injection.precedence import BadAnnotation, Options, options_for

DEFAULTS = Options(image="registry.example/pillion:0.1.0")
URL = "https://pillion-operator.pillion-system.svc:3780"


def run(pod, namespace_labels=None, namespace_annotations=None):
    return inject(
        pod,
        namespace_labels={"pillion.dev/inject": "true"} if namespace_labels is None else namespace_labels,
        namespace_annotations=namespace_annotations or {},
        defaults=DEFAULTS,
        operator_url=URL,
        version="0.1.0",
    )


def patched(pod, **where):
    return jsonpatch.apply_patch(pod, list(run(pod, **where).patch))


@pytest.mark.parametrize("name", PODS)
def test_the_sidecar_comes_first_and_starts_before_all_others(name):
    first = patched(PODS[name])["spec"]["initContainers"][0]

    assert (first["name"], first["restartPolicy"]) == ("pillion", "Always")
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(first)


@pytest.mark.parametrize("name", PODS)
def test_a_second_run_changes_nothing(name):
    assert run(patched(PODS[name])).patch == ()


@pytest.mark.parametrize("name", PODS)
def test_the_application_is_otherwise_untouched(name):
    before, after = PODS[name], patched(PODS[name])

    assert stripped(after) == stripped(before)


def stripped(pod):
    """The pod without what injection adds; for a pod without it, the pod itself, empty lists dropped."""
    rest = copy.deepcopy(pod)
    rest["metadata"].get("annotations", {}).pop(INJECTED_ANNOTATION, None)
    spec = rest["spec"]
    spec["initContainers"] = [c for c in spec.get("initContainers", []) if c["name"] != "pillion"]
    spec["volumes"] = [v for v in spec.get("volumes", []) if not v["name"].startswith("pillion-")]
    for container in [*spec["containers"], *spec["initContainers"]]:
        container["env"] = [
            v for v in container.get("env", []) if v["name"] not in ("PILLION_URL", "PILLION_SOCKET", "OFREP_ENDPOINT")
        ]
        container["volumeMounts"] = [
            m for m in container.get("volumeMounts", []) if not m["name"].startswith("pillion-")
        ]
    return _without_empty(_without_empty(rest))


def _without_empty(value):
    if isinstance(value, dict):
        return {k: _without_empty(v) for k, v in value.items() if v not in ([], {})}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value


def test_every_other_container_finds_its_sidecar():
    spec = patched(PODS["init containers"])["spec"]

    for container in [*spec["containers"], *spec["initContainers"][1:]]:
        assert {v["name"]: v["value"] for v in container["env"]} == {
            "PILLION_URL": "http://127.0.0.1:3700",
            "PILLION_SOCKET": "/run/pillion/pillion.sock",
            "OFREP_ENDPOINT": "http://127.0.0.1:3700",
        }
        assert {"name": "pillion-socket", "mountPath": "/run/pillion"} in container["volumeMounts"]


def test_a_variable_of_the_application_is_left_alone():
    env = patched(PODS["own variables"])["spec"]["containers"][0]["env"]

    assert [v["value"] for v in env if v["name"] == "PILLION_URL"] == ["http://elsewhere"]


def test_a_container_that_came_later_is_equipped_too():
    once = patched(PODS["plain"])
    once["spec"]["containers"].append({"name": "late", "image": "l"})

    twice = jsonpatch.apply_patch(once, list(run(once).patch))

    assert len(twice["spec"]["initContainers"]) == 1
    assert "PILLION_URL" in {v["name"] for v in twice["spec"]["containers"][1]["env"]}


def test_the_container_passes_the_restricted_profile():
    security = patched(PODS["plain"])["spec"]["initContainers"][0]["securityContext"]

    assert security == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_pod_that_runs_as_root_gets_a_sidecar_that_does_not():
    assert patched(PODS["runs as root"])["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == 65532


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_work_is_let_through_with_the_reason(name):
    spec, reason = IMPOSSIBLE[name]
    outcome = run(spec)

    assert (outcome.patch, outcome.reason) == ((), reason)
    assert outcome.message


@pytest.mark.parametrize(
    ("own", "namespace", "injected"),
    [
        (None, "true", True),
        ("false", "true", False),
        ("true", None, True),
        (None, None, False),
        (None, "false", False),
        ("True", "true", False),
    ],
)
def test_the_pods_own_label_decides_before_its_namespaces(own, namespace, injected):
    asking = pod()
    if own is not None:
        asking["metadata"]["labels"] = {"pillion.dev/inject": own}

    outcome = run(asking, namespace_labels={} if namespace is None else {"pillion.dev/inject": namespace})

    assert bool(outcome.patch) == injected


def test_the_nearer_annotation_wins():
    options = options_for(
        DEFAULTS,
        {"pillion.dev/memory-limit": "512Mi", "pillion.dev/log-level": "debug"},
        {"pillion.dev/memory-limit": "none", "pillion.dev/mounts": "logs=/var/log/app, more=/srv"},
    )

    assert (options.memory_limit, options.log_level, options.cpu_request) == ("", "debug", "10m")
    assert options.mounts == (("logs", "/var/log/app"), ("more", "/srv"))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("image", "bad image"),
        ("image", "-flag"),
        ("memory-limit", "lots"),
        ("port", "80"),
        ("port", "99999"),
        ("port", "3790"),
        ("log-level", "loud"),
        ("mounts", "logs"),
        ("mounts", "logs=/a/../etc"),
        ("image-pull-policy", "Sometimes"),
    ],
)
def test_a_bad_annotation_names_itself_and_the_fix(annotation, value):
    with pytest.raises(BadAnnotation, match=f"pillion.dev/{annotation}"):
        options_for(DEFAULTS, {}, {f"pillion.dev/{annotation}": value})


def test_a_mount_of_a_volume_that_is_not_there_is_told():
    asking = pod()
    asking["metadata"]["annotations"] = {"pillion.dev/mounts": "logs=/var/log/app"}

    assert run(asking).reason == "NoSuchVolume"


names = st.sampled_from(["app", "web", "db", "init"])
containers = st.builds(
    lambda name, env, mounts: (
        {"name": name, "image": "i"}
        | ({"env": env} if env is not None else {})
        | ({"volumeMounts": mounts} if mounts is not None else {})
    ),
    names,
    st.none()
    | st.lists(
        st.builds(lambda n: {"name": n, "value": "v"}, st.sampled_from(["A", "PILLION_URL", "OFREP_ENDPOINT"])),
        max_size=3,
        unique_by=lambda v: v["name"],
    ),
    st.none()
    | st.lists(
        st.builds(lambda p: {"name": "v", "mountPath": p}, st.sampled_from(["/a", "/run/pillion", "/run/pillion/"])),
        max_size=2,
    ),
)
pods = st.builds(
    lambda cs, inits, volumes, root: pod(
        *cs,
        **({"initContainers": inits} if inits is not None else {}),
        **({"volumes": volumes} if volumes is not None else {}),
        **({"securityContext": {"runAsUser": 0}} if root else {}),
    ),
    st.lists(containers, min_size=1, max_size=3),
    st.none() | st.lists(containers, max_size=2),
    st.none() | st.lists(st.just({"name": "v", "emptyDir": {}}), max_size=1),
    st.booleans(),
)


@given(pods)
def test_any_pod_is_patched_once_and_only_by_additions(given_pod):
    before = copy.deepcopy(given_pod)
    outcome = run(given_pod)
    after = jsonpatch.apply_patch(given_pod, list(outcome.patch))

    assert given_pod == before
    assert {operation["op"] for operation in outcome.patch} == {"add"}
    assert run(after).patch == ()


@pytest.mark.parametrize(
    ("annotations", "request_", "limit"),
    [
        ({"memory-limit": "32Mi"}, "32Mi", "32Mi"),
        ({"memory-request": "1Gi"}, "1Gi", "1Gi"),
        ({"memory-request": "1000000k", "memory-limit": "1Gi"}, "1000000k", "1Gi"),
        ({"memory-request": "1Gi", "memory-limit": "none"}, "1Gi", ""),
        ({}, "64Mi", "256Mi"),
    ],
)
def test_a_request_stays_within_its_limit_and_the_one_that_is_not_annotated_follows(annotations, request_, limit):
    options = options_for(DEFAULTS, {}, {f"pillion.dev/{name}": value for name, value in annotations.items()})

    assert (options.memory_request, options.memory_limit) == (request_, limit)


def test_a_request_above_an_annotated_limit_is_told():
    annotations = {"pillion.dev/cpu-request": "2", "pillion.dev/cpu-limit": "1500m"}

    with pytest.raises(BadAnnotation, match="cpu-request: 2 is above"):
        options_for(DEFAULTS, {}, annotations)


@pytest.mark.parametrize("path", ["/", "/run/pillion", "/run/pillion/", "/var/lib", "/a:b", "/logs,b=/logs/"])
def test_a_mount_that_the_api_server_would_refuse_is_told(path):
    with pytest.raises(BadAnnotation, match="mounts"):
        options_for(DEFAULTS, {}, {"pillion.dev/mounts": f"a={path}"})


def test_the_sidecars_own_folders_are_those_that_it_mounts():
    assert {mount["mountPath"] for mount in sidecar.container(DEFAULTS, URL, run_as_user=0)["volumeMounts"]} == set(
        OWN_FOLDERS
    )
