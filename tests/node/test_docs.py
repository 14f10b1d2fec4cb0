"""The commands of the pages in docs/ that need a kubelet, on a real node; all others run in tests/cluster/test_docs.py."""

import re

import pytest
from tests.support.cluster.processes import free_ports
from tests.support.docs.commands import PAGES, Command, read
from tests.support.shop.cluster_shop import ClusterShop
from tests.support.shop.walkthrough import ROOT, Reader

pytestmark = pytest.mark.timeout(1200)

COMMANDS = [
    command for page in PAGES for command in read(page, (ROOT / "docs" / page).read_text()) if command.needs == "node"
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}:{command.line}")
def test_a_command_that_needs_a_node_runs_on_one(reader: Reader, shop: ClusterShop, command: Command) -> None:
    if " port-forward " not in command.text:
        assert reader.run(command.text)
        return
    # The reader's own ports may be taken on this machine; what is forwarded is the same.
    forwarded = {name: free_ports(1)[0] for name in re.findall(r"\b3[0-9]{3}\b", command.text)}
    text = command.text
    for name, port in forwarded.items():
        text = text.replace(f" {name}", f" {port}:{name}")
    reader.run(f"{text} &")
    for port in forwarded.values():
        assert reader.run(f"curl --silent --fail localhost:{port}/livez")
