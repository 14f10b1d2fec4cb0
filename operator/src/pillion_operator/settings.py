"""Every setting of the operator: one field each, with its unit, its bounds, why the default, and what happens at the extremes.

The command line, its help and the table in the documentation are made from these fields (`arguments`); there is no second list. Settings come as flags only: a
Deployment shows them where it shows everything else.
"""

import os
import secrets
import socket
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pillion.version import VERSION

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        return "pillion-system"


def _identity() -> str:
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}-{secrets.token_hex(3)}"


def _text(description: str, **bounds: Any) -> Any:
    return Meta(description=description, **bounds)


class InvalidSettingsError(ValueError):
    """A setting, or a combination of them, is not possible. The message names flag, value and fix."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one operator process."""

    kubeconfig: Annotated[
        Path | None,
        _text(
            "Kubeconfig of the cluster, its current context. Absent: the service account of the pod. A person's own configuration is never taken unasked."
        ),
    ] = None
    namespace: Annotated[
        str,
        _text(
            "Namespace of the operator itself, for its Lease. Default: the pod's own, else pillion-system.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=_own_namespace)
    identity: Annotated[
        str,
        _text(
            "Who this replica is, in the Lease and in Events; must differ between replicas and between two starts. Default: pod name and a random suffix.",
            min_length=1,
            max_length=200,
        ),
    ] = msgspec.field(default_factory=_identity)
    stream_address: Annotated[
        str,
        _text(
            "host:port of the listener for sidecars; no host is every address of both families. Port 0 takes a free one (tests).",
            pattern=r"^\S*:\d+$",
        ),
    ] = ":3780"
    admin_address: Annotated[
        str,
        _text("host:port of /livez, /readyz and /metrics. Plain HTTP: nothing secret is there.", pattern=r"^\S*:\d+$"),
    ] = ":3790"
    tls_cert: Annotated[
        Path | None,
        _text(
            "PEM file with the certificate chain of the listeners for streams and admission, as cert-manager makes it. Read again when it changes, without a restart. Absent: the operator makes and renews its own."
        ),
    ] = None
    tls_key: Annotated[Path | None, _text("PEM file with the key of that certificate.")] = None
    tls_ca: Annotated[
        Path | None,
        _text(
            "PEM file with the authority of that certificate; the operator then tells it to the API server and to sidecars. Absent with a certificate of your own: you tell them."
        ),
    ] = None
    insecure: Annotated[
        bool,
        _text(
            "Serve streams without TLS. Tokens and Secret values then travel in the clear: tests and development only."
        ),
    ] = False
    advertise_url: Annotated[
        str,
        _text(
            "URL under which the other replicas reach this replica's stream listener, as in https://10.1.2.3:3780. Empty: this replica counts only its own sidecars, right for one replica."
        ),
    ] = ""
    peer_token_file: Annotated[
        Path | None,
        _text(
            "File with a token of the operator's own service account, audience pillion, with which replicas report to the leader."
        ),
    ] = None
    peer_ca_file: Annotated[
        Path | None,
        _text("PEM file that the other replicas' certificates must lead to. Absent: the operator's own authority."),
    ] = None
    peer_server_name: Annotated[
        str,
        _text(
            "Name that the other replicas' certificates must carry, since they are reached by address. Empty: the host of their URL."
        ),
    ] = ""
    service_name: Annotated[
        str,
        _text(
            "Name of the Service before the operator, in its namespace: the certificate is made for it, and sidecars connect to it.",
            min_length=1,
            max_length=63,
        ),
    ] = "pillion-operator"
    certificate_names: Annotated[
        str,
        _text(
            "Further DNS names and addresses that the operator's own certificate is for, separated by commas.",
            max_length=2000,
        ),
    ] = ""
    operator_url: Annotated[
        str,
        _text(
            "URL that injected sidecars connect to. Empty: https at the Service, port 3780.",
            pattern=r"^(https?://\S+)?$",
        ),
    ] = ""
    admission_address: Annotated[
        str,
        _text(
            "host:port of the admission webhooks. Empty, or with --insecure: no admission, because the API server calls webhooks by TLS alone.",
            pattern=r"^(\S*:\d+)?$",
        ),
    ] = ":3443"
    webhook_name: Annotated[
        str,
        _text(
            "Name of the webhook configurations that are told the authority; the operator's rights name it too.",
            min_length=1,
        ),
    ] = "pillion"
    sidecar_image: Annotated[
        str,
        _text(
            "Image of injected sidecars. Of the operator's own version, so that both speak the same snapshot format.",
            min_length=1,
        ),
    ] = f"pillion:{VERSION}"
    sidecar_pull_policy: Annotated[
        str,
        _text(
            "When the kubelet pulls that image: Always, IfNotPresent or Never.", pattern="^(Always|IfNotPresent|Never)$"
        ),
    ] = "IfNotPresent"
    sidecar_cpu_request: Annotated[str, _text("CPU that is set aside for a sidecar, as a Kubernetes quantity.")] = "10m"
    sidecar_memory_request: Annotated[
        str, _text("Memory that is set aside for a sidecar, as a Kubernetes quantity.")
    ] = "64Mi"
    sidecar_cpu_limit: Annotated[
        str,
        _text("CPU limit of a sidecar. Empty for none: a throttled sidecar delays its application."),
    ] = ""
    sidecar_memory_limit: Annotated[
        str,
        _text("Memory limit of a sidecar. Empty for none: a leak then takes the node's memory, not the sidecar alone."),
    ] = "256Mi"
    sidecar_data_size: Annotated[
        str, _text("Bound of a sidecar's data volume; a pod that fills it is evicted by the kubelet.")
    ] = "1Gi"
    repair: Annotated[
        str,
        _text(
            "What to do about pods that are to have a sidecar and have none: off, report (Events, status, metrics), or evict as well, so that their controllers make them anew. Evicting needs the ClusterRole pillion-operator-evict.",
            pattern="^(off|report|evict)$",
        ),
    ] = "report"
    repair_interval: Annotated[
        float,
        _text(
            "Seconds between two searches for such pods. Each lists the labelled pods; a short interval costs a large cluster traffic.",
            ge=1,
            le=86_400,
        ),
    ] = 60.0
    eviction_pause: Annotated[
        float,
        _text(
            "Seconds between two evictions, whatever they are of; and one pod per controller and search at most. 0 leaves the pace to disruption budgets.",
            ge=0,
            le=3600,
        ),
    ] = 5.0
    lease_name: Annotated[str, _text("Name of the Lease that the writer of status holds.", min_length=1)] = (
        "pillion-operator"
    )
    lease_duration: Annotated[
        float,
        _text(
            "Seconds after which another replica may take the Lease of one that is silent. Shorter hands over sooner after a crash, and more often by mistake. After a crash it takes at most this and one retry period.",
            ge=3,
            le=600,
        ),
    ] = 12.0
    lease_renew_deadline: Annotated[
        float,
        _text(
            "Seconds without a successful renewal after which the holder stops writing. Must be below the duration.",
            gt=0,
            le=600,
        ),
    ] = 8.0
    lease_retry_period: Annotated[
        float,
        _text(
            "Seconds between two attempts to take or renew the Lease. Must be below the renew deadline.", gt=0, le=600
        ),
    ] = 2.0
    status_workers: Annotated[
        int,
        _text(
            "Statuses that are written at the same time. More is faster until the API server answers 429.", ge=1, le=256
        ),
    ] = 16
    status_debounce: Annotated[
        float,
        _text(
            "Seconds that a changed status waits for more changes. Most sidecars have acknowledged within the default, so one write tells all; 0 writes every step.",
            ge=0,
            le=10,
        ),
    ] = 0.03
    status_interval: Annotated[
        float,
        _text(
            "Seconds between two writes of one status that changes only in its counts; a changed condition never waits for it.",
            ge=0,
            le=600,
        ),
    ] = 1.0
    figures_interval: Annotated[
        float,
        _text(
            "Seconds between two writes of one status in which only the sidecars' figures have moved.", ge=0, le=3600
        ),
    ] = 30.0
    settle_time: Annotated[
        float,
        _text(
            "Seconds after the start, or after taking the Lease, in which a status does not lose sidecars: they are still coming back. 0 writes the dip.",
            ge=0,
            le=600,
        ),
    ] = 20.0
    departure_grace: Annotated[
        float,
        _text(
            "Seconds for which a sidecar whose stream ended still counts, if it was up to date. Bridges reconnects; a lagging one never holds a status up.",
            ge=0,
            le=600,
        ),
    ] = 15.0
    secret_interval: Annotated[
        float,
        _text(
            "Seconds after which a referenced Secret is read again; a rotation is enforced after this time at the latest.",
            ge=0.1,
            le=3600,
        ),
    ] = 15.0
    audit_interval: Annotated[
        float,
        _text(
            "Seconds between two comparisons of what the watches told with a list of names and versions; finds and mends a watch that died silently.",
            ge=1,
            le=3600,
        ),
    ] = 60.0
    token_cache: Annotated[
        float,
        _text(
            "Seconds for which a reviewed token is believed. Longer spares TokenReviews, and honours a revoked token for longer.",
            ge=0,
            le=600,
        ),
    ] = 60.0
    allow_unbound_tokens: Annotated[
        bool,
        _text(
            "Accept tokens that are bound to no pod; such a client has no labels and gets only resources without a selector. For tests."
        ),
    ] = False
    max_streams: Annotated[
        int,
        _text(
            "Open streams of this replica; further ones are answered 503 and go to another replica.", ge=1, le=100_000
        ),
    ] = 5000
    stream_max_age: Annotated[
        float,
        _text(
            "Seconds after which a stream is closed for a new one, give or take a quarter: labels and tokens are looked at again, and replicas share the load.",
            ge=1,
            le=86_400,
        ),
    ] = 900.0
