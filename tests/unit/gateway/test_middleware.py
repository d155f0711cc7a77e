"""What the edge makes of a handler that does not answer: what its client is told, and what is counted and logged."""

from __future__ import annotations

import json

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway.auth import Authenticator
from gateway.idle_connections import IdleConnections
from gateway.middleware import edge
from gateway.request_body import ClientGoneError
from gateway.settings import GatewaySettings
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.http_server import Answer, serving_app, wire


async def outcome_of(error: Exception) -> tuple[Answer, list[str]]:
    """The answer where a handler raises this, which is counted with its status, and the defects that are logged."""

    async def handler(_: web.Request) -> web.Response:
        raise error

    async with aiohttp.ClientSession() as http:
        authenticator = Authenticator(GatewaySettings(), http)
        app = web.Application(middlewares=[edge(authenticator, IdleConnections(15, 75), "full", ())])
        app.router.add_get("/raises", handler)
        async with serving_app(app) as port, wire(port) as connection:
            with capture_logs() as logs:
                await connection.send("GET", "/raises")
                answer = await connection.head()
                answer.body = await connection.reader.readexactly(int(answer.headers["content-length"]))
    return answer, [entry["event"] for entry in logs if entry["log_level"] == "error"]


def counted(status: int, reason: str) -> float:
    labels = {"route": "/raises", "method": "GET", "status": str(status), "reason": reason}
    return REGISTRY.get_sample_value("reelway_http_requests_total", labels) or 0


@pytest.mark.parametrize(
    ("error", "status", "told", "logged"),
    [
        (RuntimeError("in /srv/reelway"), 500, "Internal error", ["unhandled error"]),
        (ReelwayError(ErrorReason.INTERNAL), 500, "Internal error", ["internal error behind the gateway"]),
        (ReelwayError(ErrorReason.VIDEO_NOT_FOUND), 404, "Video not found", []),
        (web.HTTPBadRequest(reason="No"), 400, "No", []),
        (web.HTTPMethodNotAllowed("GET", ["PUT"]), 405, "Method Not Allowed", []),
        (web.HTTPTemporaryRedirect("/elsewhere"), 307, "/elsewhere", []),
        (ClientGoneError(), 499, None, []),
        (ConnectionResetError(), 499, None, []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_what_a_handler_raises(error: Exception, status: int, told: str | None, logged: list[str]) -> None:
    reason = error.reason.name if isinstance(error, ReelwayError) else ""
    before = counted(status, reason)
    answer, defects = await outcome_of(error)
    assert (answer.status, defects, counted(status, reason)) == (status, logged, before + 1)
    assert answer.headers.get("allow") == ("PUT" if status == 405 else None)
    if told is not None:
        assert told == (answer.headers["location"] if status == 307 else json.loads(answer.body)["detail"])
