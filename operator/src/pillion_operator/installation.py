"""What follows from the settings for the rest of the cluster: under which names the operator is reached, and what the sidecars that it injects are like."""

from urllib.parse import urlsplit

from pillion_operator.injection.precedence import Options
from pillion_operator.settings import Settings


def own_names(settings: Settings) -> tuple[str, ...]:
    """Give the names and addresses under which the operator's listeners are reached."""
    service, namespace = settings.service_name, settings.namespace
    names = [
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
        service,
    ]
    advertised = urlsplit(settings.advertise_url).hostname if settings.advertise_url else None
    names += [advertised] if advertised else []
    names += [name.strip() for name in settings.certificate_names.split(",") if name.strip()]
    return tuple(dict.fromkeys(names))


def operator_url(settings: Settings) -> str:
    """Give the URL that injected sidecars connect to."""
    return settings.operator_url or f"https://{settings.service_name}.{settings.namespace}.svc:3780"


def sidecar_options(settings: Settings) -> Options:
    """Give what injected sidecars are like where no annotation says otherwise."""
    return Options(
        image=settings.sidecar_image,
        pull_policy=settings.sidecar_pull_policy,
        cpu_request=settings.sidecar_cpu_request,
        memory_request=settings.sidecar_memory_request,
        cpu_limit=settings.sidecar_cpu_limit,
        memory_limit=settings.sidecar_memory_limit,
        data_size=settings.sidecar_data_size,
    )
