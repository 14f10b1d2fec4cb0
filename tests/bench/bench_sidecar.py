"""What a sidecar costs while it does nothing, and how soon it serves: resident memory and start-up time, beside a bare aiohttp server.

    python tests/bench/bench_sidecar.py

Start-up is from the spawn of the process to the first applied configuration (ours) or the first answered request (the baseline).
"""

import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.running import Sidecar

ROOT = Path(__file__).parents[2]
RUNS = 7

BARE = """
import sys
from aiohttp import web
async def hello(request): return web.json_response({})
app = web.Application()
app.router.add_get("/", hello)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

EMPTY = "apiVersion: pillion.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: empty}\nspec: {}\n"
LIMITS_ONLY = "apiVersion: pillion.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: limits}\nspec: {blocks: [ratelimit, health]}\n"


def resident(pid: int) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bare() -> tuple[float, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", BARE, str(port)]) as process:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.002)
        took = time.monotonic() - began
        time.sleep(0.5)
        memory = resident(process.pid)
        process.terminate()
    return took, memory


def sidecar(manifests: Path) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with Sidecar(manifests, Path(folder) / "data") as running:
            took = time.monotonic() - began
            time.sleep(1.0)
            before = cpu(running.process.pid)
            time.sleep(2.0)
            idle = (cpu(running.process.pid) - before) / 2.0 * 100
            memory = resident(running.process.pid)
    return took, memory, idle


def main() -> None:
    print(
        f"machine: {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, {RUNS} runs, medians"
    )
    baseline = [bare() for _ in range(RUNS)]
    base_took, base_memory = (statistics.median(column) for column in zip(*baseline, strict=True))
    print(f"bare aiohttp            start {base_took * 1000:5.0f} ms        resident {base_memory:5.1f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("limits", LIMITS_ONLY), ("empty", EMPTY)):
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "profile.yaml").write_text(text)
        shop = Path(folder) / "shop"
        shutil.copytree(ROOT / "examples/shop/manifests", shop)
        for label, manifests in (
            ("rate limits and health", Path(folder) / "limits"),
            ("all blocks, no resources", Path(folder) / "empty"),
            ("the example shop", shop),
        ):
            runs = [sidecar(manifests) for _ in range(RUNS)]
            took, memory, idle = (statistics.median(column) for column in zip(*runs, strict=True))
            print(
                f"{label:<23} start {took * 1000:5.0f} ms ({took / base_took:4.1f}x) resident {memory:5.1f} MiB "
                f"({memory / base_memory:4.2f}x)  idle CPU {idle:.1f} %"
            )


if __name__ == "__main__":
    main()
