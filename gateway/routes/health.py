"""Health: what the documents ask for, and readiness for whoever runs us."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from gateway.invalid_request import ErrorBody
from gateway.keys import READINESS
from gateway.routing import COMMON_ANSWERS, RETRY_AFTER, Answer, Routes
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

routes = Routes("Health", answers=COMMON_ANSWERS)


class Status(BaseModel):
    """`{"status": "ok"}`."""

    status: str = "ok"


class HealthMessage(BaseModel):
    """`{"message": "ok"}`."""

    message: str = "ok"


@routes.get("/health", summary="Health of the API", open=True, answers={200: Answer("Alive", Status)})
async def health(request: web.Request) -> web.Response:
    """Answers as long as the process lives, whatever the state of the services."""
    return web.json_response(Status().model_dump())


@routes.get("/health_check", summary="Health check", open=True, answers={200: Answer("Alive", HealthMessage)})
async def health_check(request: web.Request) -> web.Response:
    """Answers as long as the process lives."""
    return web.json_response(HealthMessage().model_dump())


@routes.get(
    "/",
    summary="Redirect to the health check",
    open=True,
    answers={307: Answer("To /health_check", headers={"Location": "`/health_check`."})},
)
async def root(request: web.Request) -> web.Response:
    """The sharing API's root."""
    return web.Response(status=307, headers={"Location": "/health_check"})


@routes.get(
    "/ready",
    summary="Readiness",
    open=True,
    answers={
        200: Answer("All services that every dialect needs are ready", Status),
        503: Answer("Not ready", ErrorBody, headers=RETRY_AFTER),
    },
)
async def ready(request: web.Request) -> web.Response:
    """Whether requests can be served now; for load balancers and probes."""
    if missing := await request.app[READINESS].missing():
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE, f"Not ready: {', '.join(missing)}")
    return web.json_response(Status().model_dump())
