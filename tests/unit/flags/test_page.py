"""The page about flags tells the truth: its example answers are what its example flag gives."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from tests.support.flags import configure, make, specs_of

from pillion.flags.compiler import OPERATORS
from pillion.flags.routes import ExplainRequest
from pillion.runtime.operation import Call

PAGE = (Path(__file__).parents[3] / "docs" / "flags.md").read_text()


@pytest.fixture
async def block():
    block = make()
    await configure(block, specs_of(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]))
    return block


async def test_the_first_answer(block):
    request = re.search(r"-d '(\{.*?\})'\n(\{.*?\})\n", PAGE)

    assert block.evaluate("new-checkout", "", request[1].encode()).body.decode() == request[2]


async def test_the_explanation(block):
    context = json.loads(re.search(r"-d '(\{[^']*\})' \| jq", PAGE)[1])["context"]
    call = Call(
        body=ExplainRequest(context=context),
        request=SimpleNamespace(match_info={"key": "new-checkout"}),
        request_id="r",
    )
    told = (await block.explain(call)).body

    lines = [json.dumps(told.reason), json.dumps(told.variant), *(msgspec.json.encode(s).decode() for s in told.steps)]
    assert "\n".join(lines) in PAGE


def test_every_operator_is_named():
    listed = re.search(r"The operators are `(.*?)` and flagd's `(.*?)`", PAGE, re.DOTALL)

    assert set((listed[1] + " " + listed[2]).split()) == OPERATORS


async def test_every_metric_is_named(block):
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry()
    make(metrics=registry)

    exposed = set(re.findall(r"^# TYPE (\S+) ", generate_latest(registry).decode(), re.MULTILINE))
    assert set(re.findall(r"^\| `(pillion_\w+)`", PAGE, re.MULTILINE)) == exposed
