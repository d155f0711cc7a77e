"""An HTTP process: /ready, /environment, and two that begin to answer: /slow ends a second later, /endless never."""

import asyncio
import os

from aiohttp import web


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _environment(_: web.Request) -> web.Response:
    return web.json_response(dict(os.environ))


async def _slow(request: web.Request) -> web.StreamResponse:
    response = await _begun(request)
    await asyncio.sleep(1)
    await response.write(b"and finished")
    return response


async def _endless(request: web.Request) -> web.StreamResponse:
    response = await _begun(request)
    await asyncio.Event().wait()
    return response


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun ")
    return response


def main() -> None:
    app = web.Application()
    app.router.add_get("/ready", _health)
    app.router.add_get("/environment", _environment)
    app.router.add_get("/slow", _slow)
    app.router.add_get("/endless", _endless)
    web.run_app(app, host=os.environ["HOST"], port=int(os.environ["PORT"]), print=None)


if __name__ == "__main__":
    main()
