"""Requests that don't fit what their route takes, answered before the handler runs.

`bound` wraps a handler whose parameters after the request are pydantic models, named for where they come from:

    path     variables of the path
    query    query parameters
    headers  request headers, by name with `-` for `_`
    json     a JSON body (application/json or application/*+json)
    body     that, or a form (urlencoded, or multipart text fields), whole, by the request's Content-Type

Of what is given several times the last counts.
"""

from __future__ import annotations

import codecs
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import pydantic
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from gateway.header_parameters import codec_of, content_type_of
from gateway.invalid_request import MOST_NAMED, InvalidRequestError, ValidationError, shortened
from gateway.json_values import check_number_of_values
from gateway.multipart_form import FORM_TYPE, MultipartForm
from gateway.request_body import RequestBody
from gateway.urlencoded_form import URLENCODED_TYPE, urlencoded_fields
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

#: Of a form that is read whole; files in it are skipped, and need not be sent.
_MAX_FORM_BYTES = 2 * 1024 * 1024
#: Commas in texts count, too; no route takes texts with so many.
_MOST_JSON_VALUES = 2**16
BODIES = ("json", "body")
"""Sources of which a handler takes at most one."""
_SOURCES = ("path", "query", "headers", *BODIES)


def models_of(function: Callable[..., Any]) -> dict[str, type[BaseModel]]:
    """The models a handler takes, by source; raises TypeError on a signature that cannot be bound."""
    names = list(inspect.signature(function).parameters)[1:]
    hints = typing.get_type_hints(function)
    models: dict[str, type[BaseModel]] = {}
    for name in names:
        model = hints.get(name)
        if name not in _SOURCES or not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{function.__qualname__}: parameter {name!r} must be a model named for one of {_SOURCES}")
        models[name] = model
    if sum(name in BODIES for name in names) > 1:
        raise TypeError(f"{function.__qualname__}: one body, not several")
    return models


def bound(
    function: Callable[..., Awaitable[web.StreamResponse]],
    models: Mapping[str, type[BaseModel]],
    on_invalid: Callable[[InvalidRequestError], web.Response],
    guard: Callable[[], None] | None = None,
) -> Handler:
    """`function` as an aiohttp handler; an `InvalidRequestError`, its own too, is answered by `on_invalid`.

    `guard` comes first, and raises what refuses the request whatever is in it.
    """

    @functools.wraps(function)
    async def handler(request: web.Request) -> web.StreamResponse:
        if guard is not None:
            guard()
        try:
            return await function(request, **await _bind(request, models))
        except InvalidRequestError as error:
            return on_invalid(error)

    return handler


async def _bind(request: web.Request, models: Mapping[str, type[BaseModel]]) -> dict[str, BaseModel]:
    """Every source is looked at, so that one answer names everything that is wrong."""
    values: dict[str, BaseModel] = {}
    errors: list[ValidationError] = []
    for source, model in models.items():
        try:
            values[source] = await _BINDERS[source](request, model)
        except pydantic.ValidationError as error:
            errors += _items(error, "header" if source == "headers" else "body" if source in BODIES else source)
        except InvalidRequestError as error:
            errors += error.errors
    if errors:
        raise InvalidRequestError(*errors)
    return values


def _items(error: pydantic.ValidationError, source: str) -> list[ValidationError]:
    if (count := error.error_count()) > MOST_NAMED:
        return [ValidationError(loc=[source], msg=f"Too many errors to name: {count}", type="too_many_errors")]
    return [
        ValidationError(loc=[source, *_written(source, item["loc"])], msg=item["msg"], type=item["type"])
        for item in error.errors()
    ]


def _written(source: str, loc: Sequence[str | int]) -> list[str | int]:
    """A place in a client's terms: a header's name has hyphens, a field of a model can't."""
    names = (part.replace("_", "-") if source == "header" and isinstance(part, str) else part for part in loc)
    return [shortened(name) if isinstance(name, str) else name for name in names]


async def _bind_path(request: web.Request, model: type[BaseModel]) -> BaseModel:
    return model.model_validate(dict(request.match_info))


async def _bind_query(request: web.Request, model: type[BaseModel]) -> BaseModel:
    return model.model_validate(dict(request.query.items()))


async def _bind_headers(request: web.Request, model: type[BaseModel]) -> BaseModel:
    lines = {name: request.headers.getall(name.replace("_", "-"), ()) for name in model.model_fields}
    return model.model_validate({name: values[-1] for name, values in lines.items() if values})


async def _read_whole(request: web.Request) -> bytes:
    """Ask for a body that is read whole, and wait for it within limits."""
    most = request.client_max_size
    try:
        return b"".join([piece async for piece in RequestBody(request, max_size=most).hold()])
    except ReelwayError as error:
        if error.reason is not ErrorReason.FILE_TOO_LARGE:
            raise
        raise web.HTTPRequestEntityTooLarge(most) from None


async def _bind_json(request: web.Request, model: type[BaseModel], accepted: str = "application/json") -> BaseModel:
    # A page of another site can send any body without a preflight, but not with this type.
    content_type, _ = content_type_of(request)
    is_json = content_type == "application/json" or content_type.endswith("+json")
    if request.body_exists and not is_json:
        raise InvalidRequestError.content_type(accepted)
    body = await _read_whole(request)
    if not body:
        raise InvalidRequestError.missing("body")
    check_number_of_values(body, _MOST_JSON_VALUES)
    # .NET begins UTF-8 with a byte order mark, which a parser may ignore (RFC 8259, section 8.1).
    return model.model_validate_json(body.removeprefix(codecs.BOM_UTF8))


async def _bind_body(request: web.Request, model: type[BaseModel]) -> BaseModel:
    content_type, parameters = content_type_of(request)
    fields: Iterable[tuple[str, str]]
    if not request.body_exists:
        # An empty form, which has no type either.
        fields = ()
    elif content_type == FORM_TYPE:
        source = RequestBody(request, max_size=_MAX_FORM_BYTES).hold()
        fields = (await MultipartForm(source, request.headers["Content-Type"]).finish()).items()
    elif content_type == URLENCODED_TYPE:
        found = await urlencoded_fields((await _read_whole(request)).rstrip())
        try:
            codec = codec_of(parameters)
            fields = [(name.decode(codec), value.decode(codec)) for name, value in found]
        except (LookupError, UnicodeError):
            raise InvalidRequestError.at("body", msg="Not text of its charset", kind="string_unicode") from None
    else:
        return await _bind_json(request, model, "application/json or a form's")
    return model.model_validate(dict(fields))


_BINDERS: Mapping[str, Callable[[web.Request, type[BaseModel]], Awaitable[BaseModel]]] = {
    "path": _bind_path,
    "query": _bind_query,
    "headers": _bind_headers,
    "json": _bind_json,
    "body": _bind_body,
}
