"""Every command of the pages for operators of a platform is run, in order, or listed with the reason why not."""

import shutil

import pytest
from tests.support.deployed.node import Node, may_bind_webhooks
from tests.support.deployed.plane import ROOT, NoPlaneError, open_plane
from tests.support.docs import commands
from tests.support.docs.commands import NEEDS, PAGES
from tests.support.docs.running import Runner

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path_factory, page):
    if not may_bind_webhooks():
        pytest.skip("needs to listen on port 443 of a loopback address, as the operator's Service")
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("needs bash and curl")
    found = list(commands.read(page, (ROOT / "docs" / page).read_text()))
    folder = tmp_path_factory.mktemp("docs")
    ran, listed = 0, []
    try:
        with open_plane(folder) as plane:
            if plane.helm is None:
                pytest.skip("no helm: `make chart` builds it, or install it")
            with Node(plane, can_serve_webhooks=True) as node:
                runner = Runner(plane, node, folder)
                for command in found:
                    if command.needs:
                        listed.append(f"docs/{page}:{command.line}: {command.text.splitlines()[0]}")
                        listed.append(f"    not run: {NEEDS[command.needs]}")
                        continue
                    runner.run(command)
                    ran += 1
    except NoPlaneError as reason:
        pytest.skip(str(reason))
    print(f"docs/{page}: {ran} commands run, {len(listed) // 2} not run", *listed, sep="\n")
    assert ran
