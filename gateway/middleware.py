"""The edge of every request: its id, its user, its errors, CORS, and the measurements."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter, Gauge, Histogram

from gateway.auth import Authenticator
from gateway.broken_off import BROKEN_OFF
from gateway.http_errors import response_of, response_of_http
from gateway.idle_connections import IdleConnections
from gateway.request_body import ClientGoneError, check_expectation
from gateway.request_host import check_host
from services.common import logs, metrics
from services.common.caller import Caller, current_caller, new_request_id, set_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

log = logs.get_logger(__name__)

REQUESTS = Counter("reelway_http_requests_total", "Requests answered", ["route", "method", "status", "reason"])
SECONDS = Histogram(
    "reelway_http_request_seconds", "Duration of requests", ["route", "method"], buckets=metrics.DURATIONS
)
IN_FLIGHT = Gauge("reelway_http_requests_in_flight", "Requests under way")

_REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID = web.RequestKey("request_id", str)
_REFUSED = web.RequestKey("refused", str)
_EXPOSED = "Content-Range, Accept-Ranges, ETag, Content-Length, X-Request-Id, Upload-Offset, Retry-After"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_KNOWN = frozenset(_METHODS.split(", "))
_HEADERS = (
    "Authorization, Content-Type, Content-Encoding, Range, If-Match, If-None-Match, If-Modified-Since, "
    "If-Unmodified-Since, If-Range, Idempotency-Key, X-Request-Id, Upload-Offset, Content-Digest, Last-Event-ID, "
    # Whatever else widgets, tracers and frameworks send, which is ignored; `*` does not cover Authorization.
    "*"
)
_PROBED = {"/health", "/ready"}
_ROUTINE = {206, 304}
_READING = {"GET", "HEAD", "OPTIONS"}


@functools.cache
def _measures(route: str, method: str, status: int, reason: str) -> tuple[Counter, Histogram]:
    """Looked up once: of each there are few."""
    return REQUESTS.labels(route, method, str(status), reason), SECONDS.labels(route, method)


def _route(request: web.Request) -> str:
    """The route's pattern, which is bounded; a path is not."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _is_preflight(request: web.Request) -> bool:
    """Whether a browser asks on behalf of a page; it shows no token yet (Fetch, 4.8)."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _tell(request: web.Request, status: int, seconds: float) -> None:
    """Measure and log a request that has ended."""
    method = request.method if request.method in _KNOWN else "other"
    reason = request.get(_REFUSED, "")
    requests, durations = _measures(_route(request), method, status, reason)
    requests.inc()
    durations.observe(seconds)
    # Probes come every few seconds, and players ask for range after range: a line takes a fifth of a short one's CPU.
    routine = request.path in _PROBED if status == 200 else status in _ROUTINE
    say = log.debug if routine else log.info
    why = {"reason": reason} if reason else {}
    say("request", method=request.method, path=request.path, status=status, seconds=round(seconds, 4), **why)


def edge(
    authenticator: Authenticator,
    idle: IdleConnections,
    anonymous_access: str,
    open_handlers: Collection[Handler],
) -> Middleware:
    """The outermost middleware; what `open_handlers` answer needs no user, whatever `anonymous_access` is."""

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_expectation(request)
            check_host(request)
            # Two such headers make one value that is no token: neither may win by its position.
            said = request.headers.getall("Authorization", None)
            user = await authenticator.user(None if said is None else ", ".join(said))
            if not user and request.match_info.handler not in open_handlers and not _is_preflight(request):
                reading = request.method in _READING
                if anonymous_access == "deny" or (anonymous_access == "read" and not reading):
                    raise ReelwayError(ErrorReason.UNAUTHENTICATED)
            set_caller(Caller(user, current_caller().request_id))
            return await handler(request)
        except ReelwayError as error:
            if error.reason is ErrorReason.INTERNAL:
                log.error("internal error behind the gateway", path=request.path)
            request[_REFUSED] = error.reason.name
            return response_of(error)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return response_of_http(error)
        except (ClientGoneError, ConnectionError):
            # Nobody is left to read an answer; the status is for the log.
            return web.Response(status=499)
        except Exception:
            log.exception("unhandled error", path=request.path)
            return response_of(ReelwayError(ErrorReason.INTERNAL))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        set_caller(Caller(request_id=new_request_id(request.headers.get(_REQUEST_ID_HEADER))))
        request[_REQUEST_ID] = current_caller().request_id
        status = 499  # a handler that is cancelled: the client has gone
        idle.request_began(request.protocol)
        IN_FLIGHT.inc()
        try:
            response = await answer(request, handler)
            status = request.get(BROKEN_OFF, response.status)
            return response
        except web.HTTPException as redirect:
            status = redirect.status
            raise
        finally:
            IN_FLIGHT.dec()
            idle.request_ended(request.protocol)
            _tell(request, status, time.perf_counter() - started)

    return middleware


def cors(origins: tuple[str, ...]) -> tuple[Middleware, Callable[[web.Request, web.StreamResponse], Awaitable[None]]]:
    """A middleware that answers preflights, and an on_response_prepare handler that marks every response."""
    anybody = "*" in origins

    def allowed(request: web.Request) -> str | None:
        origin = request.headers.get("Origin")
        if origin is None or not (anybody or origin in origins):
            return None
        return "*" if anybody else origin

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_preflight(request):
            return await handler(request)
        response = web.Response(status=204)
        if allowed(request):
            response.headers["Access-Control-Allow-Methods"] = _METHODS
            response.headers["Access-Control-Allow-Headers"] = _HEADERS
            response.headers["Access-Control-Max-Age"] = "600"
        return response

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        # What we run on is nobody's business.
        response.headers["Server"] = "Reelway"
        response.headers[_REQUEST_ID_HEADER] = request.get(_REQUEST_ID, "")
        # Nearly all answers depend on who asks, or change within a second; caches keep what says nothing.
        response.headers.setdefault("Cache-Control", "no-store")
        if not anybody:
            response.headers.add("Vary", "Origin")
        if origin := allowed(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    return middleware, prepare
