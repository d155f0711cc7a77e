"""The HTTP server's own refusals, of requests that it cannot even parse, in the form of all others.

aiohttp answers those before any middleware is asked: as text, with its own name and without a request's id. It has
no setting for that, so its protocol class is ours, from the runner down.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.common import logs
from services.common.caller import new_request_id

log = logs.get_logger(__name__)


class _Protocol(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that is hardly HTTP, or to one that nobody could handle; the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        request_id = new_request_id()
        log.info("request refused", status=status, request_id=request_id, why=f"{type(exc).__name__}: {exc}"[:200])
        response = web.json_response(
            {"detail": HTTPStatus(status).phrase},
            status=status,
            headers={"X-Request-Id": request_id, "Server": "Reelway"},
        )
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner whose server refuses as the application does."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        return server
