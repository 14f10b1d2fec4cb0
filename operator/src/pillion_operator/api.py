"""The way to the Kubernetes API: one pooled client for every call of the operator, paths in, bytes out, errors with the server's own words.

Credentials, TLS and the connection pool are `kubernetes.aio`'s; requests are made on its REST client directly, since its typed models cost more than the call
and know no custom resource. It retries nothing: whoever calls has a queue that does, with its own pace.
"""

import functools
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self
from urllib.parse import quote, urlencode
from urllib.request import getproxies_environment

import aiohttp
import kopf
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry, Counter

from pillion.kinds.definition import GROUP, VERSION
from pillion.version import VERSION as OWN_VERSION
from pillion_operator.settings import InvalidSettingsError, Settings

JSON = Any

APPLY: Final = "application/apply-patch+yaml"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

TIMEOUT: Final = 10.0
"""Seconds for one call. The API server itself gives a request up to 60 s; a control loop is better served by trying again."""

PAGE: Final = 250
"""Objects of a page of a list. Lists never ask for resourceVersion=0: an API server then passes over the limit, and ten thousand objects come at once."""


class ApiError(Exception):
    """The API server refused, or could not be reached.

    Args:
        status: the HTTP status; 0 when there was no answer.
        reason: Kubernetes' own word for it (`NotFound`, `Conflict`, `Forbidden`…).
        message: the server's sentence.
        retry_after: seconds that the server asks to wait.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"unreachable: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""


class ListedMetadata(msgspec.Struct, rename="camel"):
    """What an audit needs to know of an object."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Listed(msgspec.Struct):
    metadata: ListedMetadata


class _ListMeta(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")


class _ObjectList(msgspec.Struct):
    metadata: _ListMeta
    items: list[JSON] | None


class _MetadataList(msgspec.Struct):
    metadata: _ListMeta
    items: list[_Listed] | None


class Api:
    """The client. Make it with `connect`, end it with `close`."""

    def __init__(self, configuration: Configuration, registry: CollectorRegistry) -> None:
        configuration.connection_pool_maxsize = 64
        # aiohttp reads ~/.netrc in a thread for every single request that trusts the environment; only a proxy is worth that.
        configuration.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._agent = f"pillion-operator/{OWN_VERSION}"
        self._requests = Counter(
            "pillion_operator_api_requests_total",
            "Requests to the API server, by method, kind of object and status (0: no answer).",
            ["method", "resource", "status"],
            registry=registry,
        )
        # The labels take few values, and looking a child up costs more than counting on it.
        self._counted = functools.cache(
            lambda method, resource, status: self._requests.labels(method, resource, str(status))
        )

    @classmethod
    async def connect(cls, settings: Settings, registry: CollectorRegistry) -> Self:
        """Read credentials: the kubeconfig that the settings name, else the pod's service account.

        Raises:
            InvalidSettingsError: there are none.
        """
        configuration = Configuration()
        try:
            if settings.kubeconfig is not None:
                await config.load_kube_config(  # type: ignore[no-untyped-call] # kubernetes.aio is typed in part
                    config_file=str(settings.kubeconfig), client_configuration=configuration, persist_config=False
                )
            elif "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # as above
            else:
                raise InvalidSettingsError("this is no pod; give --kubeconfig")
        except (config.ConfigException, OSError) as error:
            raise InvalidSettingsError(f"no credentials for a cluster: {error}") from None
        return cls(configuration, registry)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call] # as above

    async def watcher_credentials(self) -> kopf.ConnectionInfo:
        """Give the same credentials to kopf, fresh: it asks again whenever the API server answers 401."""
        configuration = self._configuration
        token = await configuration.get_api_key_with_prefix("BearerToken")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            token=token.partition(" ")[2] if token else None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        body: JSON = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - handed to the transport, which bounds each phase
    ) -> bytes:
        """Make one request and give the body of its answer.

        Args:
            method: HTTP method.
            path: path below the server.
            resource: what it is about, for the metrics.
            body: JSON to send.
            query: query parameters.
            content_type: of the body.
            accept: wanted representation.
            timeout: seconds.

        Raises:
            ApiError: the server refused or could not be reached.
        """
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "User-Agent": self._agent, "Content-Type": content_type}
        status = 0
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = await self._client.rest_client.request(  # type: ignore[no-untyped-call] # as above
                method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=timeout)
            )
            status = int(answer.status)
            data: bytes = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{type(error).__name__}: {error}") from None
        finally:
            self._counted(method, resource, status).inc()
        if status >= 400:
            raise _error(status, data, answer.headers.get("Retry-After", ""))
        return data

    async def get(
        self,
        path: str,
        *,
        resource: str,
        query: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - as above
    ) -> JSON:
        """Read one object, or one page of a list."""
        return msgspec.json.decode(await self.request("GET", path, resource=resource, query=query, timeout=timeout))

    async def create(self, path: str, body: JSON, *, resource: str) -> JSON:
        """Create one object."""
        return msgspec.json.decode(await self.request("POST", path, resource=resource, body=body))

    async def replace(self, path: str, body: JSON, *, resource: str) -> JSON:
        """Replace one object; its resourceVersion guards against overwriting somebody else's change."""
        return msgspec.json.decode(await self.request("PUT", path, resource=resource, body=body))

    async def apply(self, path: str, body: JSON, *, manager: str, resource: str) -> JSON:
        """Server-side apply, forced: the fields in *body* are ours."""
        query = {"fieldManager": manager, "force": "true"}
        data = await self.request("PATCH", path, resource=resource, body=body, query=query, content_type=APPLY)
        return msgspec.json.decode(data)

    async def list_objects(self, plural: str) -> AsyncIterator[JSON]:
        """Yield every resource of a kind, page by page, as of one moment."""
        query = {"limit": str(PAGE)}
        while True:
            data = await self.request("GET", collection(plural), resource=plural, query=query, timeout=60.0)
            page = msgspec.json.decode(data, type=_ObjectList)
            for document in page.items or ():
                yield document
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_

    async def list_metadata(self, plural: str) -> AsyncIterator[ListedMetadata]:
        """Yield name and version of every resource of a kind, page by page, as of one moment."""
        query = {"limit": str(PAGE)}
        while True:
            data = await self.request(
                "GET", collection(plural), resource=plural, query=query, accept=METADATA_LIST, timeout=60.0
            )
            page = msgspec.json.decode(data, type=_MetadataList)
            for item in page.items or ():  # null where there are none
                yield item.metadata
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_


def collection(plural: str) -> str:
    """Give the path of all resources of a kind, in all namespaces."""
    return f"/apis/{GROUP}/{VERSION}/{plural}"


def resource_path(plural: str, namespace: str, name: str) -> str:
    """Give the path of one resource."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace, safe='')}/{plural}/{quote(name, safe='')}"


def core_path(plural: str, namespace: str, name: str) -> str:
    """Give the path of one object of the core group."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/{plural}/{quote(name, safe='')}"


def _error(status: int, data: bytes, retry_after: str) -> ApiError:
    try:
        told = msgspec.json.decode(data, type=_Status)
    except msgspec.DecodeError:
        told = _Status(message=data[:200].decode("utf-8", "replace"))
    try:
        wait = float(retry_after)
    except ValueError:
        wait = 0.0
    return ApiError(status, told.reason, told.message, min(wait, 60.0))
