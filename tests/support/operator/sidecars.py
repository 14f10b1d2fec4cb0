"""`pillion sidecar` as a process of its own, beside a pod that only exists as an object."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from tests.support.cluster.identities import Pod
from tests.support.cluster.processes import Process, free_ports
from tests.support.operator.running import BYTECODE, OperatorProcess


class SidecarProcess:
    """One sidecar.

    Args:
        operator: whom it asks.
        pod: as whom.
        folder: for its token, its data and its log.
        session: asks its API.
        ca_file: whom it trusts; the operator's authority unless told otherwise.
        environ: added to its environment.
        prefix: what starts it.
    """

    def __init__(
        self,
        operator: OperatorProcess,
        pod: Pod,
        folder: Path,
        session: aiohttp.ClientSession,
        *,
        ca_file: Path | None = None,
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self._session = session
        main, admin = free_ports(2)
        self.url, self.admin = f"http://127.0.0.1:{main}", f"http://127.0.0.1:{admin}"
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        token = folder / "token"
        token.write_text(pod.token)
        command = [
            *prefix, sys.executable, "-m", "pillion.cli.main", "sidecar",
            f"--operator-url={operator.url}", f"--ca-file={ca_file or operator.ca_file}", f"--token-file={token}",
            f"--data-dir={self.data}", f"--port={main}", "--admin-host=127.0.0.1", f"--admin-port={admin}",
            f"--pod-name={pod.name}", f"--pod-namespace={pod.namespace}",
        ]  # fmt: skip
        self.process = Process("sidecar", command, folder / "sidecar.log", {**BYTECODE, **(environ or {})})

    async def configuration(self, **headers: str) -> Any:
        """Give `/v1/config`."""
        async with self._session.get(f"{self.url}/v1/config", headers=headers) as answer:
            return await answer.json(content_type=None)

    async def becomes(
        self, ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], within: float = 20
    ) -> Any:
        """Ask again and again until the answer is as wanted."""
        found: Any = None
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        found = await ask()
                        if wanted(found):
                            return found
                    except aiohttp.ClientError as error:
                        found = error
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimeoutError(f"not within {within} s; last: {found}; log:\n{self.process.tail()}") from None
