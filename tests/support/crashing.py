"""Webhook sidecars that are made to be killed: one process imports everything, then forks one sidecar for each line that it reads.

    {"folder": …, "manifests": […], "lane": …}  →  {"pid": …, "url": …, "conditions": […]}

A fork starts in a few milliseconds, so a test can kill dozens. Each is a real process with the real server, block and store.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.serving import ROOT
from tests.support.webhooks import webhooks


class Nursery:
    """Forks sidecars; a context manager that leaves none behind."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.pid = 0
        return self

    def start(self, folder: Path, *manifests: dict, hot_lane: bool = True) -> str:
        """Fork a sidecar; gives its URL once it serves."""
        order = {"folder": str(folder), "manifests": manifests, "lane": hot_lane}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        self.pid = answer["pid"]
        assert answer["conditions"] == []
        return answer["url"]

    def kill(self) -> None:
        """Kill the sidecar, as the kernel does when memory is short."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = 0

    def __exit__(self, *_):
        self.kill()
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


async def _serve(order: dict, answer: int) -> None:
    async with webhooks(Path(order["folder"]), *order["manifests"], hot_lane=order["lane"]) as (block, url):
        ready = {"pid": os.getpid(), "url": url, "conditions": [c.message for c in block.conditions]}
        os.write(answer, json.dumps(ready).encode())
        os.close(answer)
        await asyncio.sleep(120)


def main() -> None:
    """Fork one sidecar per line."""
    import uvloop

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            uvloop.run(_serve(json.loads(line), write))
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            print(answer.read(), flush=True)


if __name__ == "__main__":
    main()
