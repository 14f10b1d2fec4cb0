"""CustomResourceDefinitions from the kinds, as the YAML that stands in `crds/`."""

from typing import Any, Final

import yaml

from pillion.kinds.definition import GROUP, VERSION, Kind
from pillion.kinds.model import JSON
from pillion.kinds.resource import spec_schema

CATEGORY: Final = "pillion"
HEADER: Final = "# Generated from the models by `make crds`; edit the model, not this file.\n"

MAX_LAGGING: Final = 10
"""Names of lagging pods in a status: enough to look at, few enough for an object that is watched."""

LAST_GOOD: Final = "lastGood"
"""Field of a status that keeps the last accepted version while a newer one is refused."""
MAX_LAST_GOOD: Final = 512 * 1024
"""Characters of it: the object holds the refused version as well, and etcd takes 1.5 MiB."""

_CONDITION: Final[JSON] = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316, "description": "What the condition is about, in CamelCase."},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "Generation that was judged.",
        },
        "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one CamelCase word."},
        "message": {
            "type": "string",
            "maxLength": 32768,
            "description": "Why, for a person; names the field and the fix.",
        },
    },
}


def crd(kind: Kind[Any]) -> JSON:
    """Give the CustomResourceDefinition of *kind*."""
    columns = [
        {"name": c.name, "jsonPath": c.json_path, "type": c.type}
        | ({"description": c.description} if c.description else {})
        | ({"priority": c.priority} if c.priority else {})
        | ({"format": c.format} if c.format else {})
        for c in kind.columns
    ]
    ready = '.status.conditions[?(@.type=="Ready")]'
    columns += [
        {
            "name": "Sidecars",
            "type": "string",
            "jsonPath": ".status.sidecars.summary",
            "description": "Sidecars that run it, of those that it selects.",
        },
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": f"{ready}.status",
            "description": "Accepted, and running in every selected sidecar.",
        },
        {
            "name": "Reason",
            "type": "string",
            "jsonPath": f"{ready}.reason",
            "description": "Why it is ready or not.",
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
            ],
        },
    }


def _schema(kind: Kind[Any]) -> JSON:
    return {
        "type": "object",
        "description": kind.summary,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(kind.spec),
            "status": {
                "type": "object",
                "description": "What the operator sees; written by it alone.",
                # kstatus calls a resource that no controller has seen yet "Current"; -1 differs from every generation and prevents that.
                "default": {"observedGeneration": -1},
                "properties": {
                    "observedGeneration": {
                        "type": "integer",
                        "format": "int64",
                        "default": -1,
                        "description": "Generation that this status is about; -1 until seen.",
                    },
                    "revision": {
                        "type": "string",
                        "maxLength": 64,
                        "description": "Fingerprint of the resource's compiled form.",
                    },
                    "sidecars": {
                        "type": "object",
                        "description": "Sidecars that the resource selects.",
                        "properties": {
                            "applied": {
                                "type": "integer",
                                "format": "int32",
                                "minimum": 0,
                                "description": "How many run this generation.",
                            },
                            "total": {
                                "type": "integer",
                                "format": "int32",
                                "minimum": 0,
                                "description": "How many it selects.",
                            },
                            "summary": {"type": "string", "maxLength": 32, "description": "Both, as in 11/12."},
                            "lagging": {
                                "type": "array",
                                "maxItems": MAX_LAGGING,
                                "items": {"type": "string", "maxLength": 253},
                                "description": "Some pods whose sidecar does not run it yet.",
                            },
                        },
                    },
                    LAST_GOOD: {
                        "type": "object",
                        "description": "The version that stays in force while this generation is refused; absent otherwise.",
                        "properties": {
                            "generation": {
                                "type": "integer",
                                "format": "int64",
                                "description": "Generation that was accepted last.",
                            },
                            "spec": {
                                "type": "string",
                                "maxLength": MAX_LAST_GOOD,
                                "description": "Its spec, as JSON.",
                            },
                        },
                    },
                    "conditions": {
                        "type": "array",
                        "maxItems": 16,
                        "description": ", ".join(
                            ("Accepted", "Propagated", "Ready", "Stalled", "Stale", "Degraded", *kind.conditions)
                        )
                        + ".",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["type"],
                        "items": _CONDITION,
                    },
                    **kind.status_schema,
                },
            },
        },
    }


def crd_yaml(kind: Kind[Any]) -> str:
    """Write the CustomResourceDefinition of *kind* as it stands in `crds/`."""

    class _Plain(yaml.SafeDumper):
        def ignore_aliases(self, _data: object) -> bool:
            return True

    return HEADER + yaml.dump(crd(kind), Dumper=_Plain, sort_keys=False, width=140, allow_unicode=True)
