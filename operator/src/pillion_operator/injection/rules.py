"""The webhook's rules as CEL: which pods a policy leaves alone, how the options of one pod come about, and what is added where it is missing.

Names, patterns, bounds, the table of annotations and the whole template come from the modules that the webhook runs (`precedence`, `forms`, `sidecar`, `patch`); what stands here is
the twin of their control flow alone, and tests/cluster creates the same pods through both. Differences that remain: a policy cannot say why it leaves a pod alone, and it
gives up on a pod that costs more than the API server allows an expression.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from pillion_operator.injection import sidecar
from pillion_operator.injection.cel import Each, Hole, literal, matches
from pillion_operator.injection.forms import above
from pillion_operator.injection.patch import INJECTED_ANNOTATION, MIRROR_ANNOTATION, escape
from pillion_operator.injection.precedence import ANNOTATIONS, INJECT_LABEL, PREFIX, Options

SETTING: Final = "default_"
"""Begins the names of the variables that hold what the installation says; a chart puts its values there."""

OPERATOR_URL: Final = "operator_url"

_LABELS: Final = "object.metadata.?labels.orValue({})"
_VOLUMES: Final = "object.spec.?volumes.orValue([])"
_CONTAINERS: Final = "object.spec.?containers.orValue([])"
_INITIAL: Final = "object.spec.?initContainers.orValue([])"
_NAME: Final = literal(sidecar.NAME)
_HAS_SIDECAR: Final = f'{_INITIAL}.exists(c, c.name == {_NAME} && c.?restartPolicy.orValue("") == "Always")'

ASKED: Final = f'{_LABELS}[?{literal(INJECT_LABEL)}].orValue("true") == "true"'
"""Selectors have seen to it that pod or namespace asks; what is left are labels that are neither `true` nor `false`."""

IMPOSSIBLE: Final[Mapping[str, str]] = {
    "StaticPod": f"{literal(MIRROR_ANNOTATION)} in object.metadata.?annotations.orValue({{}})",
    "Windows": 'object.spec.?os.?name.orValue("") == "windows" || object.spec.?nodeSelector[?"kubernetes.io/os"].orValue("") == "windows"',
    "HostNetwork": "object.spec.?hostNetwork.orValue(false)",
    "NameTaken": (
        f"!{_HAS_SIDECAR} && (({_INITIAL} + {_CONTAINERS}).exists(c, c.name == {_NAME})"
        f" || {_VOLUMES}.exists(v, v.name in {literal(sorted(sidecar.RESERVED_VOLUMES))}))"
    ),
}
"""Why a pod cannot have a sidecar, as far as the pod alone tells, in the order of the webhook."""


def _mounted(container: str) -> str:
    # A mount with slashes at its end is the same place.
    same = matches("m.mountPath", re.escape(sidecar.SOCKET_FOLDER) + "/*")
    return f"{container}.?volumeMounts.orValue([]).exists(m, {same})"


def _lacks_something() -> str:
    whatever = Options(image="")
    names = literal([variable["name"] for variable in sidecar.application_environment(whatever)])
    environment = f"[c.?env.orValue([]).map(e, e.name)].all(own, {names}.all(name, name in own))"
    present = f"{literal([volume['name'] for volume in sidecar.volumes(whatever)])}.all(name, {_VOLUMES}.exists(v, v.name == name))"
    every = f"({_INITIAL} + {_CONTAINERS}).all(c, c.name == {_NAME} || ({_mounted('c')} && {environment}))"
    return f"!({_HAS_SIDECAR} && {present} && {every})"


LACKS_SOMETHING: Final = _lacks_something()
"""Whether a webhook has anything to do: no sidecar, or a container that came after it. Never false for a pod that `inject` would patch."""


def variables(defaults: Options, operator_url: str, version: str) -> dict[str, str]:
    """Give the variables of a policy, each after those that it uses: `refusal` is empty for a pod that can have a sidecar, `additions` is what it lacks.

    Args:
        defaults: how sidecars are made where no annotation says otherwise.
        operator_url: where sidecars find the operator.
        version: what the annotation of injected pods says.

    Raises:
        ValueError: *defaults* mount volumes, which are a pod's own.
    """
    if defaults.mounts:
        raise ValueError("an installation mounts no volumes of pods; leave mounts empty")
    settings = {field: str(getattr(defaults, field)) for field, _ in ANNOTATIONS.values() if field != "mounts"}
    return {
        **{SETTING + field: literal(text) for field, text in settings.items()},
        OPERATOR_URL: literal(operator_url),
        "own": "object.metadata.?annotations.orValue({})",
        "inherited": "namespaceObject.metadata.?annotations.orValue({})",
        **_asked(settings),
        **_reconciled(),
        "run_as_user": f"object.spec.?securityContext.?runAsUser.orValue(-1) == 0 ? {sidecar.UNPRIVILEGED} : 0",
        "has_sidecar": _HAS_SIDECAR,
        "readable": _readable(settings),
        "refusal": _refusal(),
        **_template(),
        **_additions(version),
    }


def _asked(settings: Mapping[str, str]) -> dict[str, str]:
    """Give what annotations ask for, the nearer one first, then the installation."""
    found = {}
    for name, (field, form) in ANNOTATIONS.items():
        key, default = literal(PREFIX + name), f"variables.{SETTING}{field}" if field in settings else '""'
        text = f"string(variables.own[?{key}].or(variables.inherited[?{key}]).orValue({default}))"
        value = form.value("text")
        reconciled = field.endswith(("_request", "_limit"))
        found["asked_" * reconciled + field] = text if value == "text" else f"[{text}].map(text, {value})[0]"
    return found


def _reconciled() -> dict[str, str]:
    """Keep requests within limits: where one of the two is annotated, the other follows it."""
    found = {}
    for what in ("cpu", "memory"):
        request, limit = f"variables.asked_{what}_request", f"variables.asked_{what}_limit"
        over = f"variables.{what}_over"
        found[f"{what}_over"] = f'{limit} != "" && {above(request, limit)}'
        found[f"{what}_request"] = f"{over} && !{_annotated(f'{what}-request')} ? {limit} : {request}"
        found[f"{what}_limit"] = f"{over} && {_annotated(f'{what}-request')} ? {request} : {limit}"
    return found


def _annotated(name: str) -> str:
    key = literal(PREFIX + name)
    return f"({key} in variables.own || {key} in variables.inherited)"


def _readable(settings: Mapping[str, str]) -> str:
    # Settings too: one that only a chart has seen must not make the API server refuse pods.
    installed = {
        PREFIX + name: Hole(f"variables.{SETTING}{field}", optional=field.endswith("_limit"))
        for name, (field, _) in ANNOTATIONS.items()
        if field in settings
    }
    given = f"dyn(variables.own), dyn(variables.inherited), dyn({literal(installed)})"
    each = [
        f"(!({literal(PREFIX + name)} in given) || [string(given[{literal(PREFIX + name)}])].all(text, {form.accepts('text')}))"
        for name, (_, form) in ANNOTATIONS.items()
    ]
    return f"[{given}].all(given,\n  " + " &&\n  ".join(each) + ")"


def _refusal() -> str:
    """Give the reason why this pod cannot have a sidecar with its options."""
    contradictions = [
        f"variables.{what}_over && {_annotated(f'{what}-request')} && {_annotated(f'{what}-limit')}"
        for what in ("cpu", "memory")
    ]
    ports = "c.?ports.orValue([]).exists(p, p.containerPort in [variables.port, variables.admin_port])"
    steps = {
        "BadAnnotation": " || ".join(
            ["!variables.readable", "variables.port == variables.admin_port", *(f"({one})" for one in contradictions)]
        ),
        "": "variables.has_sidecar",
        "NoSuchVolume": f"!variables.mounts.all(mount, {_VOLUMES}.exists(v, v.name == mount.volume))",
        "PortTaken": f"{_CONTAINERS}.exists(c, {ports})",
    }
    return "".join(f"{condition} ? {literal(reason)} :\n" for reason, condition in steps.items()) + '""'


def _template() -> dict[str, str]:
    """Run what makes a sidecar for the webhook, with holes for values that come with the pod."""
    holes: dict[str, Any] = {field: Hole(f"variables.{field}") for field, _ in ANNOTATIONS.values()}
    for field in ("port", "admin_port"):
        holes[field] = Hole(f"variables.{field}", "int")
    for field in ("cpu_limit", "memory_limit"):
        holes[field] = Hole(f"variables.{field}", optional=True)
    holes["mounts"] = Each("variables.mounts", "mount", "volume", "path")
    options = Options(**holes)
    user = cast("int", Hole("variables.run_as_user", "int", optional=True))
    container = sidecar.container(options, cast("str", Hole(f"variables.{OPERATOR_URL}")), run_as_user=user)
    return {
        "environment": literal(sidecar.application_environment(options)),
        "volumes": literal(sidecar.volumes(options)),
        "sidecar": literal(container),
    }


def _additions(version: str) -> dict[str, str]:
    """Give what a pod lacks, as paths and values: containers first, while their indexes are those of the pod as it came."""
    missing = f"variables.volumes.filter(v, !{_VOLUMES}.exists(other, other.name == v.name))"
    mark = f"/metadata/annotations/{escape(INJECTED_ANNOTATION)}"
    return {
        "equipped_init_containers": _equipped("initContainers"),
        "equipped_containers": _equipped("containers"),
        "added_volumes": (
            f"[{missing}].map(missing,\n"
            f"  (size(missing) == 0 || size({_VOLUMES}) > 0 ? [] : [{_addition('/spec/volumes', '[]')}]) +\n"
            f"  missing.map(v, {_addition('/spec/volumes/-', 'v')}))[0]"
        ),
        "added_sidecar": (
            "variables.has_sidecar ? [] :\n"
            f"  (size({_INITIAL}) > 0 ? [] : [{_addition('/spec/initContainers', '[]')}]) +\n"
            f"  [{_addition('/spec/initContainers/0', 'variables.sidecar')}] +\n"
            f"  (size(variables.own) > 0 ? [] : [{_addition('/metadata/annotations', '{}')}]) +\n"
            f"  [{_addition(mark, literal(version))}]"
        ),
        "additions": 'variables.refusal != "" ? [] :\n  variables.equipped_init_containers + variables.equipped_containers +\n'
        "  variables.added_volumes + variables.added_sidecar",
    }


def _equipped(field: str) -> str:
    """Give what the containers of one list lack: variables, and the folder of the socket."""
    here = f'"/spec/{field}/" + string(i) + '
    return (
        f"object.spec.?{field}.orValue([]).transformList(i, c, c.name != {_NAME},\n"
        "  [c.?env.orValue([]).map(e, e.name)].map(own, variables.environment.filter(v, !(v.name in own))).map(missing,\n"
        f"    (size(missing) == 0 || size(c.?env.orValue([])) > 0 ? [] : [{_addition('/env', '[]', here)}]) +\n"
        f"    missing.map(v, {_addition('/env/-', 'v', here)}))[0] +\n"
        f"  ({_mounted('c')} ? [] :\n"
        f"    (size(c.?volumeMounts.orValue([])) > 0 ? [] : [{_addition('/volumeMounts', '[]', here)}]) +\n"
        f"    [{_addition('/volumeMounts/-', literal(sidecar.application_mount()), here)}])\n"
        ").flatten()"
    )


def _addition(path: str, value: str, before: str = "") -> str:
    return f'{{"path": dyn({before}{literal(path)}), "value": dyn({value})}}'
