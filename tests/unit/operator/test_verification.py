"""`pillion verify`: what it asks, and which answers it believes."""

import base64
import json
import socket
from datetime import UTC, datetime

import pytest

from pillion.cli.main import main
from pillion.kinds import registry
from pillion_operator.admission.review import Request, mutate, validate
from pillion_operator.certificates import make_authority
from pillion_operator.injector import Injector
from pillion_operator.namespaces import Namespace
from pillion_operator.settings import Settings
from pillion_operator.verification import Unverified, verify


def real(method, url, path, body):
    """Answers as the operator does, without a network."""
    if path == "/v1/stream":
        return 401, {}
    request = body["request"]
    asked = Request(uid=request["uid"], namespace=request["namespace"], object=request["object"])
    if path == "/validate/resources":
        return 200, json.loads(validate(asked, registry.kinds(), lambda _: []))
    inject = Injector(Settings())
    return 200, json.loads(mutate(asked, lambda pod, _: inject(pod, Namespace()))[0])


def asked(ask):
    return dict(verify(ask, "https://admission", "https://stream"))


def wrong(ask):
    return {question: str(answer) for question, answer in asked(ask).items() if isinstance(answer, Unverified)}


def test_what_the_operator_answers_is_right():
    found = asked(real)

    assert wrong(real) == {}
    assert found["a labelled pod gets its sidecar"] == "image pillion:0.1.0"
    assert "no-such-block" in found["a wrong resource is refused"]


def patched(patch):
    encoded = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"uid": "verification", "allowed": True, "patch": encoded}


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ({"uid": "verification", "allowed": True}, "patches no sidecar in"),
        ({"uid": "verification", "allowed": True, "warnings": ["no Pillion sidecar: x"]}, "no Pillion sidecar: x"),
        ({"uid": "verification", "allowed": False, "status": {"message": "never"}}, "refused: never"),
        (patched([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]), "patches no sidecar in"),
        ({"uid": "verification", "allowed": True, "patch": "e"}, "cannot be read"),
        ({"uid": "other", "allowed": True}, "another review"),
        (None, "answers 200 instead of a review"),
    ],
)
def test_a_pod_without_its_sidecar_is_told(response, says):
    def ask(method, url, path, body):
        return (200, {"response": response}) if path == "/mutate/pods" else real(method, url, path, body)

    assert says in wrong(ask)["a labelled pod gets its sidecar"]
    assert len(wrong(ask)) == 1


def test_a_judgement_that_accepts_or_refuses_everything_is_told():
    def ask(method, url, path, body):
        return 200, {"response": {"uid": "verification", "allowed": accepts}}

    accepts = True
    assert "it is accepted" in wrong(ask).values()
    accepts = False
    assert any(says.startswith("it is refused") for says in wrong(ask).values())


def test_a_problem_instead_of_an_answer_is_told_in_its_own_words():
    found = wrong(lambda *_: (503, {"detail": "this replica has 200 reviews in hand"}))

    assert (
        "/mutate/pods answers 503 instead of a review: this replica has 200" in found["a labelled pod gets its sidecar"]
    )
    assert found["sidecars must show who they are"] == "a stream without a token is answered 503 instead of 401"


def authority(folder):
    path = folder / "ca.crt"
    path.write_bytes(make_authority(datetime.now(UTC)).certificate)
    return path


def test_nobody_there_is_told_with_the_address(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
        flags = [f"--admission-url={url}", f"--stream-url={url}", f"--ca-file={authority(tmp_path)}", "--timeout=0"]

        status = main(["verify", *flags])

    printed = capsys.readouterr().out
    assert status == 1
    assert (
        f"FAILED  a labelled pod gets its sidecar: {url}/mutate/pods does not answer: ConnectionRefusedError" in printed
    )


def test_an_authority_that_cannot_be_read_is_named(tmp_path, capsys):
    assert main(["verify", f"--ca-file={tmp_path / 'none'}"]) == 2
    assert "none: " in capsys.readouterr().err
