"""Kubeconfig files, both ways: written for the programs of a test cluster, read for a cluster that the caller offers.

Only what the tests need is understood: a server, its CA, and a client certificate or a bearer token. A user that is found by a helper program (`exec`,
`auth-provider`) is refused with the way out; running other people's programs is kubectl's business.
"""

import base64
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.support.cluster.certificates import KeyPair


class KubeconfigError(Exception):
    """A kubeconfig that does not hold what it should; the message names file, field and fix."""


@dataclass(frozen=True)
class Access:
    """How to reach an API server as somebody. Without a pair and a token: as nobody."""

    server: str
    """`https://host:port`."""
    authority: Path | None
    """PEM file of the CA; None trusts the machine's own."""
    pair: KeyPair | None = None
    token: str | None = field(default=None, repr=False)

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the CA and presents the certificate."""
        context = ssl.create_default_context(cafile=str(self.authority) if self.authority else None)
        if self.pair:
            context.load_cert_chain(self.pair.certificate, self.pair.key)
        return context

    def headers(self) -> dict[str, str]:
        """The headers that authenticate; empty when the certificate does."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def write(self, path: Path, namespace: str = "default") -> Path:
        """Writes a kubeconfig (JSON is YAML) that embeds all it refers to; returns *path*."""
        cluster: dict[str, str] = {"server": self.server}
        if self.authority:
            cluster["certificate-authority-data"] = _encoded(self.authority)
        user: dict[str, str] = {}
        if self.pair:
            user = {
                "client-certificate-data": _encoded(self.pair.certificate),
                "client-key-data": _encoded(self.pair.key),
            }
        elif self.token:
            user = {"token": self.token}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
            "current-context": "tests",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(content, indent=1))
        return path


def read(path: Path, scratch: Path) -> Access:
    """The current context of the kubeconfig *path*; embedded keys are unpacked into *scratch*, since ssl reads files.

    Raises:
        KubeconfigError: A part is missing, or the user needs a helper program.
    """
    content = yaml.safe_load(path.read_text())
    context = _named(content, "contexts", content.get("current-context"), path)["context"]
    cluster = _named(content, "clusters", context["cluster"], path)["cluster"]
    user = _named(content, "users", context["user"], path).get("user") or {}
    for helper in ("exec", "auth-provider"):
        if helper in user:
            raise KubeconfigError(
                f"{path}: users[].user.{helper} is not supported; offer a client certificate or a token (`kubectl create token`)"
            )
    certificate = _file(user, "client-certificate", path, scratch)
    key = _file(user, "client-key", path, scratch)
    token = user.get("token") or (_beside(path, user["tokenFile"]).read_text().strip() if "tokenFile" in user else None)
    pair = KeyPair(certificate, key) if certificate and key else None
    return Access(cluster["server"].rstrip("/"), _file(cluster, "certificate-authority", path, scratch), pair, token)


def _named(content: dict[str, Any], section: str, name: str | None, path: Path) -> dict[str, Any]:
    for entry in content.get(section) or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry
            return found
    raise KubeconfigError(f"{path}: {section} has no entry named {name!r}; `kubectl config view` shows what there is")


def _file(entry: dict[str, Any], field_name: str, path: Path, scratch: Path) -> Path | None:
    if data := entry.get(f"{field_name}-data"):
        unpacked = scratch / f"offered-{field_name}.pem"
        unpacked.touch(mode=0o600)
        unpacked.write_bytes(base64.b64decode(data))
        return unpacked
    return _beside(path, entry[field_name]) if field_name in entry else None


def _beside(path: Path, named: str) -> Path:
    return path.parent / named  # an absolute path stays as it is


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
