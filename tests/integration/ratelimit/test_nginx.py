"""The recipe for NGINX in docs/ratelimit.md, with a real NGINX in front: 429 and Retry-After reach the client."""

import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.support import ratelimits
from tests.support.running import eventually
from tests.support.serving import FixedClock, running
from tests.support.system_packages import SEARCH

NGINX = shutil.which("nginx", path=SEARCH)
DOCS = Path(__file__).parents[3] / "docs" / "ratelimit.md"

POLICY = """
apiVersion: pillion.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  rules:
  - name: per-address
    match: [{attribute: route, prefix: /api/}, {attribute: method, exact: GET}]
    key: [ip]
    limits: [{requests: 2, per: 1m}]
  deny: [{attribute: header.user-agent, prefix: bad}]
"""

AROUND = """
daemon off; worker_processes 1; error_log /dev/null crit; pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{backend}; location / {{ return 200 "from the backend"; }} }}
  server {{
    listen 127.0.0.1:{port};
{recipe}
  }}
}}
"""


def recipe(sidecar, backend):
    """The block of the documentation, with the ports of this test."""
    (block,) = [part.split("```")[0] for part in DOCS.read_text().split("```nginx\n")[1:]]
    return block.replace("127.0.0.1:3700", sidecar).replace("127.0.0.1:8080", f"127.0.0.1:{backend}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder, sidecar):
    port, backend = free_port(), free_port()
    file = folder / "nginx.conf"
    file.write_text(AROUND.format(folder=folder, port=port, backend=backend, recipe=recipe(sidecar, backend)))
    with subprocess.Popen([NGINX, "-c", str(file), "-p", str(folder)], stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: listens(port) or process.poll() is not None, what="nginx listens")
            assert process.poll() is None, process.stderr.read()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
async def test_nginx_asks_and_tells_the_client(tmp_path):
    block = ratelimits.make(clock=FixedClock())
    await ratelimits.configure(block, POLICY)

    async def get(path, **headers):
        async with session.get(url + path, headers=headers) as answer:
            return answer.status, answer.headers, await answer.text()

    async with running(block.operations(), block.hot_operations()) as server, aiohttp.ClientSession() as session:
        with nginx(tmp_path, server.url.removeprefix("http://")) as url:
            passed = [await get("/api/orders?page=2") for _ in range(2)]
            refused = await get("/api/orders")
            elsewhere = await get("/about")
            denied = await get("/about", **{"User-Agent": "badbot"})

    assert [(status, text) for status, _, text in passed] == [(200, "from the backend")] * 2
    assert passed[0][1]["RateLimit"] == '"edge/per-address";r=1;t=30'
    assert (refused[0], refused[1]["Retry-After"]) == (429, "30")
    assert refused[1]["RateLimit"] == '"edge/per-address";r=0;t=30'
    assert elsewhere[0] == 200
    assert denied[0] == 403
