"""Routes that declare what they take and give, for the router and for the published document alike.

A dialect module makes one `Routes` and decorates its handlers:

    routes = Routes("Video-Stream-API")

    @routes.get("/videos/{video_id}/stream", summary="Stream a video", answers={...}, head=True)
    async def stream(request: web.Request, path: VideoPath) -> web.StreamResponse: ...

`validation` says which parameters can follow the request. A handler that takes no body model reads the body
itself and says in `takes` what it expects; the body then streams.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, TypeVar, Unpack

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import MatchInfoError, UrlMappingMatchInfo
from pydantic import BaseModel

from gateway.invalid_request import ErrorBody, HTTPValidationError, InvalidRequestError, invalid_response
from gateway.request_body import IDLE_TIMEOUT_S, SLOWEST_RATE, defer_continue
from gateway.validation import BODIES, bound, models_of

#: One without a pattern of its own is any text without a slash. aiohttp's takes no braces, which a user's id may have.
_VARIABLE = re.compile(r"(?<=/)\{(\w+)\}")
_Decorated = TypeVar("_Decorated", bound=Callable[..., Awaitable[web.StreamResponse]])


@dataclass(frozen=True)
class Answer:
    """What a status means, for the published document.

    Attributes:
        description: for a person.
        model: type of the JSON body: anything pydantic can describe. None with no `media_types`: no body.
        media_types: of a body that is not JSON.
        headers: name to description, of headers worth knowing.
        to_head: whether HEAD may be answered so, where GET may.
    """

    description: str
    model: Any = None
    media_types: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    to_head: bool = True


RETRY_AFTER: Mapping[str, str] = {"Retry-After": "Seconds after which the same call may succeed."}
"""Headers of a 429 or 503."""

COMMON_ANSWERS: Mapping[int, Answer] = {
    400: Answer("The Host is not valid, or this is not HTTP", ErrorBody),
    401: Answer("The token is missing or not valid", ErrorBody, headers={"WWW-Authenticate": "`Bearer`."}),
    414: Answer("The target is too long", ErrorBody),
    417: Answer("Expect is something other than 100-continue", ErrorBody),
    429: Answer("Too much at once: try again after Retry-After seconds", ErrorBody, headers=RETRY_AFTER),
    431: Answer("A header is too long, there are more than 128, or they do not end within 64 KiB", ErrorBody),
    500: Answer("Internal error", ErrorBody),
    503: Answer("Try again after Retry-After seconds", ErrorBody, headers=RETRY_AFTER),
}
"""What any request may be answered; for `answers` of Routes."""

_BODY_ANSWERS: Mapping[int, Answer] = {
    408: Answer(
        f"The body came too slowly: nothing for {IDLE_TIMEOUT_S:g} s, or less than {SLOWEST_RATE} bytes a second on "
        "average after its first minute; or a chunk took longer than a chunk may",
        ErrorBody,
    ),
    413: Answer("The body is too large", ErrorBody),
    501: Answer("The Transfer-Encoding is not supported", ErrorBody),
}
"""What any request with a body may be answered, too."""


@dataclass(frozen=True)
class StreamedBody:
    """A body that the handler reads itself, for the published document.

    Attributes:
        description: for a person.
        media_types: accepted types.
        file_fields: names of the file fields of a multipart body; empty for a raw one. The first is required.
        text_fields: names of the other fields of such a body, all required, and what each means.
    """

    description: str
    media_types: Sequence[str] = ("application/octet-stream",)
    file_fields: Sequence[str] = ()
    text_fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    handler: Handler
    summary: str
    description: str
    tag: str
    answers: Mapping[int, Answer]
    models: Mapping[str, type[BaseModel]]
    takes: StreamedBody | None
    request_headers: Mapping[str, str]
    aliases: Sequence[str]
    open: bool
    published: bool


class Declaration(TypedDict, total=False):
    """What a route says about itself."""

    summary: Required[str]
    """A few words."""
    answers: Required[Mapping[int, Answer]]
    """Every status and what it means."""
    takes: StreamedBody
    """The body, where the handler reads it itself."""
    request_headers: Mapping[str, str]
    """Name to description, of optional request headers the handler looks at."""
    aliases: Sequence[str]
    """Further paths, served but not published."""
    head: bool
    """Of a GET. True: HEAD is served and documented. Not said: it is served (RFC 9110, 9.1) by the same handler, of
    whose answer aiohttp leaves out the body, and not documented. False: neither, for what does not end or does
    something."""
    open: bool
    """Whether it needs no user, whatever the deployment says of anonymous access; False unless said otherwise."""
    guard: Callable[[], None]
    """Called before anything of the request is looked at; raises where the caller may not ask at all."""
    published: bool
    """Whether the operation is in the document; True unless said otherwise."""


class Routes:
    """The operations of one dialect, in the order of their declaration.

    Args:
        tag: heading in the published document.
        answers: statuses that every operation here can give; an operation's own win.
        on_invalid: how this dialect says 422.
    """

    def __init__(
        self,
        tag: str,
        *,
        answers: Mapping[int, Answer] | None = None,
        on_invalid: Callable[[InvalidRequestError], web.Response] = invalid_response,
    ) -> None:
        self._tag = tag
        self._answers = dict(answers or {})
        self._on_invalid = on_invalid
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def route(self, method: str, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a handler of `method` on `path`, which is served with and without a trailing slash.

        The handler's docstring becomes the description; 422 is added where a model can refuse a request, and
        `_BODY_ANSWERS` where it has a body.
        """
        takes = declaration.get("takes")

        def decorate(function: _Decorated) -> _Decorated:
            models = models_of(function)
            has_body = takes or not models.keys().isdisjoint(BODIES)
            answers = {**(_BODY_ANSWERS if has_body else {}), **self._answers, **declaration["answers"]}
            if (models or takes) and self._on_invalid is invalid_response:
                answers.setdefault(422, Answer("The request is not valid", HTTPValidationError))
            answers = dict(sorted(answers.items()))
            to_head = {status: answer for status, answer in answers.items() if answer.to_head}
            head = declaration.get("head")
            for verb in (method, "HEAD") if method == "GET" and head is not False else (method,):
                self._operations.append(
                    Operation(
                        method=verb,
                        path=path,
                        handler=bound(function, models, self._on_invalid, declaration.get("guard")),
                        summary=declaration["summary"],
                        description=inspect.getdoc(function) or "",
                        tag=self._tag,
                        answers=to_head if verb == "HEAD" else answers,
                        models=models,
                        takes=takes,
                        request_headers=declaration.get("request_headers", {}),
                        aliases=declaration.get("aliases", ()),
                        open=declaration.get("open", False),
                        published=declaration.get("published", True) and (verb == method or bool(head)),
                    )
                )
            return function

        return decorate

    def get(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a GET, see `route`."""
        return self.route("GET", path, **declaration)

    def post(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a POST, see `route`."""
        return self.route("POST", path, **declaration)

    def put(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a PUT, see `route`."""
        return self.route("PUT", path, **declaration)

    def patch(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a PATCH, see `route`."""
        return self.route("PATCH", path, **declaration)

    def delete(self, path: str, **declaration: Unpack[Declaration]) -> Callable[[_Decorated], _Decorated]:
        """Declare a DELETE, see `route`."""
        return self.route("DELETE", path, **declaration)


class _NoRoute(MatchInfoError):
    """A path, or a method on it, that is not served."""

    @property
    def expect_handler(self) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
        """Leaves it to the middlewares: aiohttp's own asks for the body, or refuses in words of its own."""
        return defer_continue


class _Router(web.UrlDispatcher):
    async def resolve(self, request: web.Request) -> UrlMappingMatchInfo:
        found = await super().resolve(request)
        return found if found.http_exception is None else _NoRoute(found.http_exception)


def register(router: web.UrlDispatcher, operations: Iterable[Operation]) -> None:
    """Serve `operations`, each path with and without its trailing slash, without a redirect."""
    # To give an application a router of another class is deprecated.
    router.__class__ = _Router
    resources: dict[str, web.Resource] = {}
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            bare = path.rstrip("/")
            for variant in (bare, f"{bare}/") if bare else ("/",):
                if variant not in resources:
                    resources[variant] = router.add_resource(_VARIABLE.sub(r"{\1:[^/]+}", variant))
                resources[variant].add_route(operation.method, operation.handler, expect_handler=defer_continue)
