"""S3 event notifications, as AWS shapes them: what objects they name, and the HTTP door through which they come.

MinIO and others send the same JSON to a webhook, with a bearer token where one is configured. AWS's own test event
names nothing and is welcome.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import unquote_plus

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from services.common import logs
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.settings import host_and_port, refuse

log = logs.get_logger(__name__)

_LARGEST = 2**20


class _Object(BaseModel):
    key: str


class _S3(BaseModel):
    object: _Object


class _Record(BaseModel):
    s3: _S3


class _Notification(BaseModel):
    records: list[_Record] = Field(default_factory=list, validation_alias="Records")


def named_keys(event_json: bytes) -> list[str]:
    """Keys that a notification names, decoded (AWS writes them as in a URL's query); INVALID_REQUEST."""
    if len(event_json) > _LARGEST:
        raise ReelwayError(ErrorReason.INVALID_REQUEST, "a notification has at most 1 MiB")
    try:
        notification = _Notification.model_validate_json(event_json)
    except ValidationError:
        raise ReelwayError(ErrorReason.INVALID_REQUEST, "not an S3 event notification") from None
    return [unquote_plus(record.s3.object.key) for record in notification.records]


@contextlib.asynccontextmanager
async def event_hook(listen: str, token: str, notice: Callable[[list[str]], Awaitable[int]]) -> AsyncIterator[None]:
    """Takes notifications on every path of `listen` (host:port; empty: nothing is opened) as long as it lasts."""
    if not listen:
        yield
        return

    async def take(request: web.Request) -> web.Response:
        offered = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and not hmac.compare_digest(offered.encode(errors="surrogateescape"), token.encode()):
            return web.json_response({"detail": "Unauthorized"}, status=401)
        try:
            return web.json_response({"objects": await notice(named_keys(await request.read()))})
        except ReelwayError as error:
            log.warning("notification not taken", why=str(error))
            # Whoever is told 503 sends it again; and if not, the next look finds what it named.
            return web.json_response({"detail": error.message}, status=error.kind.http_status)

    app = web.Application(client_max_size=_LARGEST)
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=5)
    await runner.setup()
    host, port = host_and_port(listen)
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            refuse(f"INGEST_EVENTS_LISTEN: cannot listen on {listen}: {error.strerror}")
        yield
    finally:
        await runner.cleanup()
