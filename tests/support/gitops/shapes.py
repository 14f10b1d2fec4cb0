"""The shape of the Argo CD and Flux objects that the examples use: every field that stands in an example, its type, and nothing else.

Written by hand from Argo CD 3.2 and Flux 2.7, and only as wide as the examples: a field that is misspelt, stands at the wrong depth or has the wrong type is found
without either tool. What the tools make of the values, only they can tell.
"""

# ruff: noqa: N815 - fields are spelt as the APIs spell them

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class _Object(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An object that has no other fields than these."""


class Metadata(_Object):
    """What the examples say of an object."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Helm(_Object):
    """How Argo CD renders a chart."""

    releaseName: str
    valueFiles: list[str]
    skipTests: bool


class ArgoSource(_Object):
    """Where Argo CD reads from."""

    repoURL: str
    targetRevision: str
    path: str = ""
    ref: str = ""
    helm: Helm | None = None


class Destination(_Object):
    """Where Argo CD writes to."""

    server: str
    namespace: str


class Automated(_Object):
    """What Argo CD does unasked."""

    prune: bool
    selfHeal: bool


class Backoff(_Object):
    """Pauses between attempts."""

    duration: str
    factor: int
    maxDuration: str


class Retry(_Object):
    """Attempts after a failed one."""

    limit: int
    backoff: Backoff


class NamespaceMetadata(_Object):
    """Labels of a namespace that Argo CD makes."""

    labels: dict[str, str]


class SyncPolicy(_Object):
    """How Argo CD applies."""

    automated: Automated
    syncOptions: list[Literal["ServerSideApply=true", "CreateNamespace=true", "SkipDryRunOnMissingResource=true"]]
    managedNamespaceMetadata: NamespaceMetadata | None = None
    retry: Retry | None = None


class ApplicationSpec(_Object):
    """One thing that Argo CD keeps as Git says. There is no `ignoreDifferences` here, on purpose."""

    project: str
    destination: Destination
    syncPolicy: SyncPolicy
    source: ArgoSource | None = None
    sources: list[ArgoSource] = []


class Application(_Object):
    """argoproj.io/v1alpha1."""

    apiVersion: Literal["argoproj.io/v1alpha1"]
    kind: Literal["Application"]
    metadata: Metadata
    spec: ApplicationSpec


class GroupKind(_Object):
    """Kinds that a project may bring."""

    group: str
    kind: str


class AppProjectSpec(_Object):
    """Who may bring what."""

    description: str
    sourceRepos: list[str]
    destinations: list[Destination]
    clusterResourceWhitelist: list[GroupKind]


class AppProject(_Object):
    """argoproj.io/v1alpha1."""

    apiVersion: Literal["argoproj.io/v1alpha1"]
    kind: Literal["AppProject"]
    metadata: Metadata
    spec: AppProjectSpec


class Folder(_Object):
    """Folders of a repository, as a pattern."""

    path: str


class GitGenerator(_Object):
    """An Application for each folder."""

    repoURL: str
    revision: str
    directories: list[Folder]


class Generator(_Object):
    """What Applications are made from."""

    git: GitGenerator


class ApplicationTemplate(_Object):
    """The Application to be made."""

    metadata: Metadata
    spec: ApplicationSpec


class ApplicationSetSpec(_Object):
    """Applications that are made from a list."""

    goTemplate: bool
    goTemplateOptions: list[str]
    generators: list[Generator]
    template: ApplicationTemplate


class ApplicationSet(_Object):
    """argoproj.io/v1alpha1."""

    apiVersion: Literal["argoproj.io/v1alpha1"]
    kind: Literal["ApplicationSet"]
    metadata: Metadata
    spec: ApplicationSetSpec


class Reference(_Object):
    """Another object."""

    name: str
    kind: str = ""


class FluxKustomizationSpec(_Object):
    """A folder that Flux keeps applied. There is no `force` here, on purpose."""

    interval: str
    retryInterval: str
    timeout: str
    sourceRef: Reference
    path: str
    prune: bool
    wait: bool
    dependsOn: list[Reference] = []


class FluxKustomization(_Object):
    """kustomize.toolkit.fluxcd.io/v1."""

    apiVersion: Literal["kustomize.toolkit.fluxcd.io/v1"]
    kind: Literal["Kustomization"]
    metadata: Metadata
    spec: FluxKustomizationSpec


class GitReference(_Object):
    """What is checked out."""

    tag: str


class GitRepositorySpec(_Object):
    """A repository that Flux fetches."""

    interval: str
    url: str
    ref: GitReference
    ignore: str


class GitRepository(_Object):
    """source.toolkit.fluxcd.io/v1."""

    apiVersion: Literal["source.toolkit.fluxcd.io/v1"]
    kind: Literal["GitRepository"]
    metadata: Metadata
    spec: GitRepositorySpec


class ChartSpec(_Object):
    """A chart in a source."""

    chart: str
    sourceRef: Reference


class Chart(_Object):
    """A chart in a source."""

    spec: ChartSpec


class ValuesReference(_Object):
    """Values from an object of the cluster."""

    kind: Literal["ConfigMap", "Secret"]
    name: str
    valuesKey: str


class Remediation(_Object):
    """What Flux does about a failed release."""

    retries: int
    remediateLastFailure: bool = False
    strategy: Literal["rollback", "uninstall"] = "rollback"


class Action(_Object):
    """An installation or an upgrade."""

    remediation: Remediation


class DriftDetection(_Object):
    """What Flux does about edits by hand. There is no `ignore` here, on purpose."""

    mode: Literal["enabled", "warn", "disabled"]


class HelmReleaseSpec(_Object):
    """A chart that Flux keeps installed."""

    interval: str
    timeout: str
    releaseName: str
    chart: Chart
    valuesFrom: list[ValuesReference]
    install: Action
    upgrade: Action
    driftDetection: DriftDetection


class HelmRelease(_Object):
    """helm.toolkit.fluxcd.io/v2."""

    apiVersion: Literal["helm.toolkit.fluxcd.io/v2"]
    kind: Literal["HelmRelease"]
    metadata: Metadata
    spec: HelmReleaseSpec


KINDS: dict[tuple[str, str], type[_Object]] = {
    ("argoproj.io", "Application"): Application,
    ("argoproj.io", "AppProject"): AppProject,
    ("argoproj.io", "ApplicationSet"): ApplicationSet,
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): FluxKustomization,
    ("source.toolkit.fluxcd.io", "GitRepository"): GitRepository,
    ("helm.toolkit.fluxcd.io", "HelmRelease"): HelmRelease,
}


def read(document: Json) -> Any:
    """Give the object in its shape, or None where it is of neither tool.

    Raises:
        msgspec.ValidationError: a field is unknown, missing or of another type; or the tool has no such kind here.
    """
    group = document["apiVersion"].partition("/")[0]
    if group not in {one for one, _ in KINDS}:
        return None
    model = KINDS.get((group, document["kind"]))
    if model is None:
        raise msgspec.ValidationError(f"{group} has no kind {document['kind']!r} that the examples use")
    return msgspec.convert(document, model)
