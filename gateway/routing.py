"""Routes that declare what they take and give, for the router and for the published document alike.

A dialect module makes one `Routes` and decorates its handlers:

    routes = Routes("000 Video-Stream-API")

    @routes.get("/videos/{video_id}/stream", summary="Stream a video", answers={...}, head=True)
    async def stream(request: web.Request, path: VideoPath) -> web.StreamResponse: ...

`validation` says which parameters can follow the request. A handler that takes no body model reads the body
itself and says in `takes` what it expects; the body then streams.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

from gateway.invalid_request import InvalidBody, InvalidRequestError, invalid_response
from gateway.request_body import defer_continue
from gateway.validation import Handler, bound, models_of

_Decorated = TypeVar("_Decorated", bound=Callable[..., Awaitable[web.StreamResponse]])


@dataclass(frozen=True)
class Answer:
    """What a status means, for the published document.

    Attributes:
        description: for a person.
        model: type of the JSON body: anything pydantic can describe. None with no `media_types`: no body.
        media_types: of a body that is not JSON.
        headers: name to description, of headers worth knowing.
    """

    description: str
    model: Any = None
    media_types: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamedBody:
    """A body that the handler reads itself, for the published document.

    Attributes:
        description: for a person.
        media_types: accepted types.
        file_fields: names of the file fields of a multipart body; empty for a raw one. The first is required.
        text_fields: names of the other fields of a multipart body, and what each means.
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
    name: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, Answer]
    models: Mapping[str, type[BaseModel]]
    takes: StreamedBody | None
    request_headers: Mapping[str, str]
    aliases: Sequence[str]
    published: bool


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

    def route(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        answers: Mapping[int, Answer],
        takes: StreamedBody | None = None,
        request_headers: Mapping[str, str] | None = None,
        aliases: Sequence[str] = (),
        head: bool = False,
        published: bool = True,
    ) -> Callable[[_Decorated], _Decorated]:
        """Declare a handler; its docstring becomes the description.

        Args:
            method: HTTP method.
            path: as published; served with and without a trailing slash.
            summary: a few words.
            answers: every status and what it means. 422 is added where a model can refuse.
            takes: the body, where the handler reads it itself.
            request_headers: name to description, of optional request headers the handler looks at.
            aliases: further paths, served but not published.
            head: serve HEAD with the same handler; aiohttp leaves out the body.
            published: whether the operation is in the document.
        """

        def decorate(function: _Decorated) -> _Decorated:
            models = models_of(function)
            every = dict(sorted({**self._answers, **answers}.items()))
            if (models or takes) and 422 not in every and self._on_invalid is invalid_response:
                every[422] = Answer("The request is not valid", InvalidBody)
            for verb in (method, "HEAD") if head else (method,):
                self._operations.append(
                    Operation(
                        method=verb,
                        path=path,
                        handler=bound(function, models, self._on_invalid),
                        name=function.__name__,
                        summary=summary,
                        description=inspect.getdoc(function) or "",
                        tag=self._tag,
                        answers=_without_ranges(every) if verb == "HEAD" else every,
                        models=models,
                        takes=takes,
                        request_headers=dict(request_headers or {}),
                        aliases=tuple(aliases),
                        published=published,
                    )
                )
            return function

        return decorate

    get = functools.partialmethod(route, "GET")
    post = functools.partialmethod(route, "POST")
    put = functools.partialmethod(route, "PUT")
    patch = functools.partialmethod(route, "PATCH")
    delete = functools.partialmethod(route, "DELETE")


def _without_ranges(answers: Mapping[int, Answer]) -> dict[int, Answer]:
    """Range is defined for GET alone (RFC 9110 section 14.2)."""
    return {status: answer for status, answer in answers.items() if status not in (206, 416)}


def register(router: web.UrlDispatcher, operations: Iterable[Operation]) -> None:
    """Serve `operations`, each path with and without its trailing slash, without a redirect."""
    resources: dict[str, web.Resource] = {}
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            bare = path.rstrip("/")
            for variant in (bare, f"{bare}/") if bare else ("/",):
                if variant not in resources:
                    resources[variant] = router.add_resource(variant)
                resources[variant].add_route(operation.method, operation.handler, expect_handler=defer_continue)
