"""The example shop as a newcomer meets it: start it, try the five lines, edit a manifest, close it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.support.running import eventually

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "examples" / "shop"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Shop:
    """The running example, on ports of its own, over a copy of its manifests."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in ("sidecar", "probes", "shop", "receiver", "inbox", "smtp")}
        self.manifests = folder / "manifests"
        shutil.copytree(SHOP / "manifests", self.manifests)
        for file in self.manifests.iterdir():
            text = file.read_text().replace("/tmp/pillion-shop", str(folder / "state"))
            for default, name in ((8081, "receiver"), (8080, "shop"), (1025, "smtp")):
                text = text.replace(str(default), str(self.ports[name]))
            file.write_text(text)
        command = [sys.executable, str(SHOP / "start.py"), "--manifests", str(self.manifests)]
        for name, port in self.ports.items():
            command += [f"--{name}-port", str(port)]
        self.output = folder / "output.txt"
        with self.output.open("w") as output:
            environment = os.environ | {"SHOP_STATE": str(folder / "state")}
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
        eventually(lambda: "Try:" in self.output.read_text() or self.process.poll() is not None, seconds=25)
        assert self.process.poll() is None, self.output.read_text()

    def call(self, name: str, path: str, body: object = None) -> tuple[int, dict]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", data, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.manifests / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    running = Shop(tmp_path_factory.mktemp("shop"))
    yield running
    running.process.kill()
    running.process.wait()


def test_the_limit_bites_on_the_6th_request(shop):
    codes = [shop.call("shop", "/login", {"user": "ada@example.com"})[0] for _ in range(6)]

    assert codes == [200] * 5 + [429]


def test_the_flag_differs_by_user(shop):
    assert shop.call("shop", "/checkout?user=ada@example.com")[1] == {"checkout": "one page"}
    assert shop.call("shop", "/checkout?user=bob@elsewhere.org")[1] == {"checkout": "classic"}


def test_an_order_reaches_the_receiver_signed_and_the_inbox(shop):
    status, answer = shop.call("shop", "/orders", {"user": "eve@example.com", "item": "saddle", "quantity": 2})
    order = answer["order"]["id"]

    assert status == 201
    event = eventually(
        lambda: next((d for d in shop.call("receiver", "/")[1]["verified"] if d["event"]["data"]["id"] == order), None)
    )
    assert event["event"]["type"] == "order.created"
    mail = eventually(
        lambda: next((m for m in shop.call("inbox", "/messages")[1]["messages"] if order in m["subject"]), None)
    )
    assert mail["to"] == "eve@example.com"
    assert "2 x saddle" in mail["text"]


def test_the_health_is_told(shop):
    health = eventually(lambda: (h := shop.call("sidecar", "/health")[1]).get("status") == "pass" and h)

    assert any("shop" in name for name in health["checks"])


def test_the_logs_are_shipped_with_addresses_masked(shop):
    shop.call("shop", "/orders", {"user": "zoe@example.com", "item": "bell", "quantity": 1})

    lines = eventually(lambda: (found := shop.call("sidecar", "/v1/logs?q=order")[1]).get("lines") and found["lines"])
    assert "order" in json.dumps(lines)
    assert "zoe@example.com" not in json.dumps(lines)


def test_an_edited_flag_counts_within_a_moment(shop):
    shop.edit("flags.yaml", 'defaultVariant: "off"', 'defaultVariant: "on"')

    eventually(lambda: shop.call("shop", "/checkout?user=bob@elsewhere.org")[1] == {"checkout": "one page"}, seconds=5)


def test_a_template_with_an_undeclared_variable_is_refused_and_mail_goes_on(shop):
    shop.edit("notifications.yaml", "Hi {{ customer.name }},\n\n", "Hi {{ customer.nam }},\n\n")

    config = eventually(lambda: (c := shop.call("sidecar", "/v1/config")[1])["stale"] and c, seconds=5)
    assert 'did you mean "name"' in config["message"]
    assert shop.call("shop", "/orders", {"user": "max@example.com"})[0] == 201
    shop.edit("notifications.yaml", "customer.nam }}", "customer.name }}")


def test_z_ctrl_c_closes_everything(shop):
    shop.process.send_signal(signal.SIGINT)

    assert shop.process.wait(timeout=30) == 0
    assert "Traceback" not in shop.output.read_text()
    for name, port in shop.ports.items():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, name
