"""The same hot operation in a bare aiohttp application: the baseline of the hot lane's benchmark. Nothing is checked, counted or bounded."""

import asyncio
import json
import os
import signal
import sys

import uvloop
from aiohttp import web
from tests.support.operations import Block


async def serve() -> None:
    """Serve until SIGTERM; tell the port on standard output."""
    block = Block()

    async def check(request: web.Request) -> web.Response:
        status, _, body, media = block.check("", request.query_string, await request.read())
        return web.Response(status=status, body=body, content_type=media)

    app = web.Application()
    app.router.add_post("/v1/hot/check", check)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "admin_url": ""}), flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    os.sched_setaffinity(0, {json.loads(sys.argv[1])["cpu"]})
    uvloop.run(serve())
