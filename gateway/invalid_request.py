"""What is wrong with a request, in the contracts' words."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from services.common.errors import ReelwayError

MOST_NAMED = 50
"""How many wrong things one answer names: with one for each value of a body, it would be many times as large."""
_LONGEST_NAME = 200
# Fields as the services name them, that a request does not have in its body.
_PLACES = {
    "request_id": ("header", "idempotency-key"),
    "idempotency_key": ("header", "idempotency-key"),
    "language": ("query", "language"),
}


def shortened(name: str) -> str:
    """A name that a client made up, as an answer repeats it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


class ValidationError(BaseModel):
    """One thing that is wrong with a request."""

    loc: Annotated[list[str | int], Field(description="path, query, header or body, then names and positions")]
    msg: Annotated[str, Field(description="For a person")]
    type: Annotated[str, Field(description="A machine-readable word, pydantic's where there is one")]


class HTTPValidationError(BaseModel):
    """The body of a 422 answer."""

    detail: list[ValidationError]


class ErrorBody(BaseModel):
    """The body of every other error."""

    detail: str


class InvalidRequestError(Exception):
    """A request that does not fit what its route takes: 422 unless the dialect renders it otherwise."""

    def __init__(self, *errors: ValidationError) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for e in errors))
        self.errors = errors

    @classmethod
    def at(cls, *loc: str | int, msg: str, kind: str) -> InvalidRequestError:
        """One wrong thing, see `ValidationError`; `kind` is its type."""
        return cls(ValidationError(loc=list(loc), msg=msg, type=kind))

    @classmethod
    def missing(cls, *loc: str | int) -> InvalidRequestError:
        """Something required that is not there."""
        return cls.at(*loc, msg="Field required", kind="missing")

    @classmethod
    def undecodable(cls) -> InvalidRequestError:
        """A body that is not what its Content-Encoding or Transfer-Encoding says."""
        return cls.at("body", msg="The body cannot be decoded", kind="body_encoding")

    @classmethod
    def content_type(cls, expected: str) -> InvalidRequestError:
        """A body of another type than the `expected` one."""
        return cls.at("header", "content-type", msg=f"Content-Type should be {expected}", kind="content_type")


def place_of(field: str) -> list[str]:
    """Where a request has what the services call `field`: in its body, unless a header or the query brought it."""
    return list(_PLACES.get(field, ("body", *field.split("."))))


def in_its_place(error: ReelwayError) -> Exception:
    """A refusal of what no body brought as an invalid request, for a dialect that says those in a form of its own."""
    for violation in error.violations:
        if violation.field in _PLACES:
            return InvalidRequestError.at(*place_of(violation.field), msg=violation.message, kind=violation.type)
    return error


def invalid_response(error: InvalidRequestError) -> web.Response:
    """The contracts' 422: `{"detail":[{"loc":[…],"msg":"…","type":"…"}]}`."""
    return web.json_response(text=HTTPValidationError(detail=list(error.errors)).model_dump_json(), status=422)
