"""Every command of the pages for operators of a platform is run, in order, or listed with the reason why not."""

import shutil
import sys

import pytest
from tests.support.deployed.node import Node, may_bind_webhooks
from tests.support.deployed.plane import ROOT, NoPlaneError, open_plane
from tests.support.docs import commands
from tests.support.docs.commands import NEEDS, PAGES
from tests.support.docs.running import Runner

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path_factory, capsys, page):
    if not may_bind_webhooks():
        pytest.skip("needs to listen on port 443 of a loopback address, as the operator's Service")
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("needs bash and curl")
    found = list(commands.read(page, (ROOT / "docs" / page).read_text()))
    folder = tmp_path_factory.mktemp("docs")
    try:
        with open_plane(folder) as plane:
            if plane.helm is None:
                pytest.skip("no helm: `make chart` builds it, or install it")
            with Node(plane, can_serve_webhooks=True) as node:
                runner = Runner(plane, node, folder)
                for command in found:
                    if not command.needs:
                        runner.run(command)
    except NoPlaneError as reason:
        pytest.skip(str(reason))
    with capsys.disabled():
        print(*report(page, found), sep="\n", file=sys.stderr)  # the terminal's, also in a worker


def report(page, found):
    """Yield a line for what was run, and one for each reason why something was not."""
    yield f"\ndocs/{page}: {sum(not one.needs for one in found)} commands run"
    for need in dict.fromkeys(one.needs for one in found if one.needs):
        listed = [f"line {one.line}: {one.text.splitlines()[0]}" for one in found if one.needs == need]
        yield f"  not run here, because it {NEEDS[need]}:\n    " + "\n    ".join(listed)


def test_what_was_not_run_is_told_with_its_reason():
    text = "<!-- needs: docker -->\n```console\n$ make image\n```\n```console\n$ true\n```"

    assert list(report("page.md", list(commands.read("page.md", text)))) == [
        "\ndocs/page.md: 1 commands run",
        "  not run here, because it builds an image with a Docker engine:\n    line 3: make image",
    ]
