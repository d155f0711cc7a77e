"""Errors as the dialects tell them; routes never build error JSON."""

from __future__ import annotations

from aiohttp import web

from gateway.invalid_request import InvalidRequestError, place_of
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

# Every dialect with pages takes their token there.
_IN_QUERY = ["query", "next"]


def response_of(error: ReelwayError) -> web.Response:
    """The common form: 422 with FastAPI's list where fields are at fault, else `{"detail": …}`."""
    kind = error.kind
    detail: object = error.message
    if kind.http_status == 422:
        detail = [{"loc": place_of(v.field), "msg": v.message, "type": v.type} for v in error.violations]
        place = _IN_QUERY if error.reason is ErrorReason.INVALID_PAGE_TOKEN else ["body"]
        detail = detail or [{"loc": place, "msg": error.message, "type": error.reason.name.lower()}]
    response = web.json_response({"detail": detail}, status=kind.http_status)
    if kind.retry_seconds is not None:
        response.headers["Retry-After"] = str(kind.retry_seconds)
    if error.reason is ErrorReason.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.reason is ErrorReason.OFFSET_MISMATCH and "size_bytes" in error.metadata:
        response.headers["Upload-Offset"] = error.metadata["size_bytes"]
    return response


def response_of_http(error: web.HTTPException) -> web.Response:
    """Aiohttp's own refusals (unknown route, wrong method, …) in the same form."""
    response = web.json_response({"detail": error.reason}, status=error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def error_response(status: int, message: str) -> web.Response:
    """As dialect 001 says it: `{"error": "…"}`."""
    return web.json_response({"error": message}, status=status)


def record_invalid(error: InvalidRequestError) -> web.Response:
    """As dialect 002 says it: 400, and which field."""
    errors = {".".join(map(str, item.loc[1:])) or str(item.loc[0]): item.msg for item in error.errors}
    return web.json_response({"message": "Invalid request", "errors": errors}, status=400)
