"""What the description adds to the declarations."""

from typing import Any

import msgspec
import pytest

from pillion.runtime import docspage, openapi
from pillion.runtime.operation import Answer, HotAnswer, HotOperation, Operation, Reply
from pillion.runtime.problems import ProblemDocument


class Filter(msgspec.Struct, rename="camel", kw_only=True):
    """What to look for.

    Args:
        at_most: so many; the rest
            is left out.
        name: whose.
    """

    at_most: int = 10
    name: str


async def handler(_) -> Answer:
    return Answer()


def operation(**given: Any) -> Operation:
    fixed = {"method": "POST", "path": "/v1/x/{id}", "name": "x", "summary": "X.", "tag": "t", "handler": handler}
    return Operation(**{**fixed, **given})


def described(one: Operation | HotOperation, *, token: bool = True) -> dict:
    hot = isinstance(one, HotOperation)
    document = openapi.document([] if hot else [one], [one] if hot else [], token=token)
    return document["paths"][one.path][one.method.lower()]


def test_what_a_docstring_says_about_fields_stands_at_the_fields():
    document = openapi.document([operation(body=Filter)])
    schema = document["components"]["schemas"]["Filter"]
    assert schema["description"] == "What to look for."
    assert schema["properties"]["atMost"]["description"] == "so many; the rest is left out."
    assert schema["properties"]["name"]["description"] == "whose."


def test_path_parameters_that_are_not_declared_are_described_anyway():
    (parameter,) = described(operation())["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("id", "path", True)


@pytest.mark.parametrize(
    ("given", "statuses"),
    [
        ({}, {"401", "default"}),
        ({"public": True}, {"default"}),
        ({"body": Filter}, {"400", "401", "408", "413", "415", "422", "default"}),
        ({"body": bytes, "body_media": ("*/*",)}, {"400", "401", "408", "413", "415", "default"}),
        ({"replies": {200: Reply(description="Y.")}}, {"200", "401", "default"}),
    ],
)
def test_the_problems_that_the_server_adds_are_described(given, statuses):
    assert set(described(operation(**given))["responses"]) == statuses


def test_a_reply_that_is_a_problem_is_described_as_one():
    for reply in (
        Reply(description="No.", media="application/problem+json"),
        Reply(description="No.", type=ProblemDocument, media="application/problem+json"),
    ):
        (content,) = described(operation(replies={409: reply}))["responses"]["409"]["content"].values()
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_a_body_is_required_where_its_model_is():
    hot = HotOperation(
        method="POST",
        path="/h",
        name="h",
        summary="H.",
        tag="t",
        answer=lambda *_: HotAnswer(200, "", b""),
        body=Filter,
    )
    assert described(hot)["requestBody"]["required"] is True
    assert described(msgspec.structs.replace(hot, body=dict[str, int]))["requestBody"]["required"] is False
    assert described(operation(body=Filter, body_required=False))["requestBody"]["required"] is False


def test_the_token_is_optional_in_general_and_unknown_to_public_routes_and_the_admin_listener():
    assert described(operation())["security"] == [{"token": []}, {}]
    assert described(operation(public=True))["security"] == []
    assert "security" not in described(operation(), token=False)


def test_a_model_that_cannot_be_described_names_the_operation():
    with pytest.raises(ValueError, match=r"POST /v1/x/\{id\}: the model .* cannot be described"):
        openapi.document([operation(body=type("Odd", (), {}))])


def test_a_line_of_curl_holds_everything_that_is_required():
    one = operation(body=Filter)
    document = openapi.document([one])
    line = docspage.curl(document, one.path, "POST", document["paths"][one.path]["post"])
    assert line == (
        'curl -sS -X POST "$PILLION_URL/v1/x/example" -H \'Content-Type: application/json\' -d \'{"name": "example"}\''
    )


def test_the_page_escapes_what_it_shows():
    page = docspage.page(openapi.document([operation(summary="<script>alert(1)</script>")]), "http://<x>")
    assert b"<script>" not in page
    assert b"http://<x>" not in page
