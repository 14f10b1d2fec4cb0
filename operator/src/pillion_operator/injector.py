"""Gives a pod the sidecar of this installation: the pure injection with the installation's own defaults filled in.

Admission and the search for missed pods share one, so that they never disagree about a pod. The policy by which an API server injects alone is made of the same settings.
"""

from collections.abc import Mapping
from typing import Any

from pillion.version import VERSION
from pillion_operator import installation
from pillion_operator.injection import policy
from pillion_operator.injection.patch import Injection, inject
from pillion_operator.namespaces import Namespace
from pillion_operator.settings import Settings

JSON = Any


class Injector:
    """Injects as *settings* say."""

    def __init__(self, settings: Settings) -> None:
        self._defaults = installation.sidecar_options(settings)
        self._url = installation.operator_url(settings)

    def __call__(self, pod: Mapping[str, JSON], namespace: Namespace) -> Injection:
        """Give what *pod* lacks of a sidecar."""
        return inject(
            pod,
            namespace_labels=namespace.labels,
            namespace_annotations=namespace.annotations,
            defaults=self._defaults,
            operator_url=self._url,
            version=VERSION,
        )


def injection_policy(settings: Settings) -> str:
    """Give the manifest of the policy that injects as *settings* say."""
    defaults, url = installation.sidecar_options(settings), installation.operator_url(settings)
    return policy.manifest(defaults, url, VERSION, settings.namespace)
