"""An HTTP process: /ready, /environment, and /slow, whose answer begins at once and ends a second later."""

import asyncio
import os

from aiohttp import web


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _environment(_: web.Request) -> web.Response:
    return web.json_response(dict(os.environ))


async def _slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun ")
    await asyncio.sleep(1)
    await response.write(b"and finished")
    return response


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/ready", _health)
    app.router.add_get("/environment", _environment)
    app.router.add_get("/slow", _slow)
    web.run_app(app, host=os.environ["HOST"], port=int(os.environ["PORT"]), print=None)
