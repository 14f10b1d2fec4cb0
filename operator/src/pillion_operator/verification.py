"""`pillion verify`: asks a running operator what the API server and sidecars would ask it, and says whether the answers are right. `helm test` runs it.

It stores nothing and needs no rights: it speaks with the listeners alone, over TLS, believing one authority. That the API server knows the operator's authority
too, and that a network lets it through, shows only when a pod is created.
"""

import argparse
import base64
import http.client
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pillion.kinds.definition import API_VERSION
from pillion.kinds.profile import PROFILE_KIND

JSON = Any

Ask = Callable[[str, str, str, JSON], tuple[int, JSON]]
"""From (method, base URL, path, body or None) to the status and the decoded body."""

HOST: Final = "https://pillion-operator.pillion-system.svc"
PAUSE: Final = 1.0
"""Seconds between two attempts while nobody answers."""
ATTEMPT_TIMEOUT: Final = 5.0
"""Seconds that one answer may take; the API server waits for three."""
MAX_ANSWER: Final = 1024 * 1024
"""Bytes of an answer that are read."""

_LABEL: Final = "pillion.dev/verification"
"""Nothing carries it, so that the resource below ties with none that is there."""


class Unverified(Exception):  # noqa: N818 - says what it is
    """An answer is not what it should be."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--admission-url", default=HOST, help="URL of the webhooks, without a path (default: %(default)s)"
    )
    parser.add_argument(
        "--stream-url", default=f"{HOST}:3780", help="URL of the listener for sidecars (default: %(default)s)"
    )
    parser.add_argument(
        "--ca-file", type=Path, help="PEM file with the operator's authority; absent: those of the system"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        help="seconds in which the operator must begin to answer (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and print a line per question: 0 where all answers are right, 1 otherwise, 2 where the authority cannot be read."""
    try:
        ask = Asker(args.ca_file, args.timeout)
    except (OSError, ssl.SSLError) as error:
        sys.stderr.write(f"pillion verify: --ca-file {args.ca_file}: {error}\n")
        return 2
    failed = False
    for question, answer in verify(ask, args.admission_url, args.stream_url):
        failed |= isinstance(answer, Unverified)
        sys.stdout.write(f"{'FAILED' if isinstance(answer, Unverified) else 'ok':6}  {question}: {answer}\n")
        sys.stdout.flush()
    return int(failed)


def verify(ask: Ask, admission_url: str, stream_url: str) -> Iterator[tuple[str, str | Unverified]]:
    """Ask everything; gives each question with what was found, or with what is wrong."""
    questions: dict[str, Callable[[], str]] = {
        "a labelled pod gets its sidecar": lambda: _injected(_reviewed(ask, admission_url, "/mutate/pods", _pod())),
        "a right resource is accepted": lambda: _accepted(
            _reviewed(ask, admission_url, "/validate/resources", _profile())
        ),
        "a wrong resource is refused": lambda: _refused(
            _reviewed(ask, admission_url, "/validate/resources", _profile(blocks=["no-such-block"]))
        ),
        "sidecars must show who they are": lambda: _guarded(ask("GET", stream_url, "/v1/stream", None)),
    }
    for question, check in questions.items():
        try:
            yield question, check()
        except Unverified as wrong:
            yield question, wrong


class Asker:
    """Asks over HTTPS; waits for an operator that is still starting, once.

    Args:
        authority: PEM file with whom to believe; None for the system's authorities.
        timeout: seconds from now in which a first answer must come.

    Raises:
        OSError: the authority cannot be read.
    """

    def __init__(self, authority: Path | None, timeout: float) -> None:
        self._tls = ssl.create_default_context(cafile=str(authority) if authority else None)
        self._until = time.monotonic() + timeout

    def __call__(self, method: str, url: str, path: str, body: JSON) -> tuple[int, JSON]:
        """Ask one thing.

        Raises:
            Unverified: nobody answers, or not in JSON.
        """
        while True:
            try:
                status, text = self._once(method, url, path, body)
                break
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() + PAUSE > self._until:
                    raise Unverified(f"{url}{path} does not answer: {type(error).__name__}: {error}") from None
                time.sleep(PAUSE)
        try:
            return status, json.loads(text)
        except ValueError:
            raise Unverified(f"{url}{path} answers {status}, and not in JSON") from None

    def _once(self, method: str, url: str, path: str, body: JSON) -> tuple[int, bytes]:
        address = urlsplit(url)
        connection = http.client.HTTPSConnection(
            address.hostname or "", address.port or 443, timeout=ATTEMPT_TIMEOUT, context=self._tls
        )
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER)
        finally:
            connection.close()


def _reviewed(ask: Ask, url: str, path: str, document: JSON) -> JSON:
    request = {"uid": "verification", "operation": "CREATE", "namespace": "default", "dryRun": True, "object": document}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    status, answer = ask("POST", url, path, body)
    response = answer.get("response") if isinstance(answer, dict) else None
    if status != 200 or not isinstance(response, dict):
        detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        raise Unverified(f"{path} answers {status} instead of a review: {detail}")
    if response.get("uid") != "verification":
        raise Unverified(f"{path} answers another review than it was sent")
    return response


def _injected(response: JSON) -> str:
    if not response.get("allowed"):
        raise Unverified(f"the pod is refused: {_message(response)}")
    try:
        patch = json.loads(base64.b64decode(response.get("patch", "")) or b"[]")
    except ValueError:
        raise Unverified("the patch cannot be read") from None
    for operation in patch:
        value = operation.get("value")
        for container in value if isinstance(value, list) else [value]:
            if isinstance(container, dict) and container.get("restartPolicy") == "Always":
                return f"image {container.get('image')}"
    raise Unverified("; ".join(response.get("warnings") or ()) or "the answer patches no sidecar in")


def _accepted(response: JSON) -> str:
    if not response.get("allowed"):
        raise Unverified(f"it is refused: {_message(response)}")
    return PROFILE_KIND


def _refused(response: JSON) -> str:
    if response.get("allowed"):
        raise Unverified("it is accepted")
    return _message(response)


def _guarded(answer: tuple[int, JSON]) -> str:
    status, _ = answer
    if status != 401:
        raise Unverified(f"a stream without a token is answered {status} instead of 401")
    return "no token, no stream"


def _message(response: JSON) -> str:
    return str((response.get("status") or {}).get("message", ""))


def _pod() -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "verification", "labels": {"pillion.dev/inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }


def _profile(**spec: JSON) -> JSON:
    return {
        "apiVersion": API_VERSION,
        "kind": PROFILE_KIND,
        "metadata": {"name": "verification"},
        "spec": {"selector": {"matchLabels": {_LABEL: "true"}}, **spec},
    }
