"""A chunk of a video as clients send it: the raw body, a file in a form, or text in a small form or JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from gateway.header_parameters import content_type_of
from gateway.held_bodies import LARGEST
from gateway.invalid_request import ErrorBody, InvalidRequestError
from gateway.json_values import check_number_of_values
from gateway.multipart_form import FORM_TYPE, FilePart, MultipartForm
from gateway.operations.appends import ChunkClaims
from gateway.request_body import RequestBody
from gateway.routing import Answer
from gateway.urlencoded_form import URLENCODED_TYPE, urlencoded_fields
from services.common.byte_messages import Buffer

# What was held is sent on in pieces: gRPC messages have a limit.
_PIECE = 2**18
# Only the video's number is collected from such a form, and kept while the file arrives.
_FIELD_BYTES = 2**10
# However long a chunk in Base64 is, none of its characters counts as a value (json_values.py).
_MOST_JSON_VALUES = 1000
# Its type may have commas in it, as `codecs=vp8,opus` (RFC 2397; browsers do not quote them).
_DATA_URL = re.compile(rb"data:.{,200}?;base64,", re.IGNORECASE)
_DATA = b"data:"
# A dictionary of byte sequences (RFC 8941, 3.2): every sum that is named sha-256 counts, in whatever form it comes.
_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*([^,;]*)", re.IGNORECASE)

#: Request headers by which a client guards an append; for `request_headers` of a route.
APPEND_HEADERS = {
    "Idempotency-Key": "The client's own name for this chunk: sent again with the same key, it is not appended twice; "
    "a chunk of another length under the same key is refused.",
    "Upload-Offset": "Append only if the video has exactly so many bytes; otherwise 409, with the actual number.",
    "Content-Digest": "`sha-256=:…:` of the chunk (RFC 9530); 422 if it does not match.",
}

#: Headers of the answer to an append; for its 200.
APPENDED_HEADERS = {
    "Upload-Offset": "How many bytes the video has now.",
    "ETag": "Of the video as it is now; strong.",
}

#: What a chunk is refused with whatever the dialect; for `answers` of a route.
APPEND_REFUSALS: Mapping[int, Answer] = {
    409: Answer(
        "The video is finished, or does not end at Upload-Offset",
        ErrorBody,
        headers={"Upload-Offset": "How many bytes the video has, if that is not what was asked for."},
    ),
    413: Answer(
        "The chunk, or the video with it, is too large. Unless the deployment says otherwise, a chunk has at most 1 "
        "GiB, a video 50 GiB and 100,000 chunks, or 5 GiB and 500 clips if it consists of several",
        ErrorBody,
    ),
}


@dataclass(frozen=True)
class Chunk:
    """What is to be appended."""

    data: AsyncIterator[Buffer]
    """Ends when the client has sent all that it meant to; raises when the body breaks off."""
    claims: ChunkClaims
    target: str | None = None
    """The field of the form that tells which video."""


def _claims(request: web.Request) -> ChunkClaims:
    headers = request.headers
    key = headers.get("Idempotency-Key", "")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError.at("header", "idempotency-key", msg="Not UTF-8 text", kind="string_unicode") from None
    # Several lines are one list (RFC 9110, section 5.3): two offsets make none.
    offset, digest = (", ".join(headers.getall(name, ())) for name in ("Upload-Offset", "Content-Digest"))
    if "Upload-Offset" in headers and not (offset.isascii() and offset.isdigit() and len(offset) < 19):
        raise InvalidRequestError.at("header", "upload-offset", msg="Not a number of bytes", kind="int_parsing")
    sha256 = b""
    if match := _SHA256.search(digest):
        value = match[1].strip()
        with contextlib.suppress(ValueError):
            sha256 = base64.b64decode(value[1:-1], validate=True)
        if len(sha256) != 32 or value[0] != ":" or value[-1] != ":":
            raise InvalidRequestError.at("header", "content-digest", msg="Not a SHA-256 in Base64", kind="value_error")
    return ChunkClaims(
        idempotency_key=key,
        offset=int(offset) if offset else None,
        sha256=sha256,
        expects="Expect" in headers,
    )


async def read_raw_or_file(request: web.Request) -> Chunk:
    """The raw body, whatever type it claims to have; or the first file of a form, whatever its name.

    Raises:
        InvalidRequestError: a malformed form or header.
    """
    claims = _claims(request)
    body = RequestBody(request)
    content_type, _ = content_type_of(request)
    if content_type != FORM_TYPE or not request.body_exists:
        # The Content-Length of a compressed body is not the chunk's.
        size = 0 if "Content-Encoding" in request.headers else request.content_length or 0
        return Chunk(aiter(body), replace(claims, size=size))
    form = MultipartForm(body, request.headers["Content-Type"], files=None, texts=())
    part = await form.next_file()
    if part is None:
        return Chunk(_pieces(), claims)
    return Chunk(_file(aiter(part), form), replace(claims, max_size=form.likely_size(request.content_length)))


async def read_fields(request: web.Request, names: Sequence[str], target: str) -> Chunk:
    """A chunk with the fields around it: a file in a form, percent-encoded bytes in another, or Base64 in JSON.

    Args:
        request: a request whose body nobody has touched.
        names: what the chunk's field may be called; told by the first.
        target: the field that tells which video, unless the query does.

    Raises:
        InvalidRequestError: no chunk, or malformed.
        ReelwayError: FILE_TOO_LARGE or TOO_MANY_REQUESTS, where the whole has to be held in memory: it, or all that is
            held with it, is too long for that.
    """
    claims = _claims(request)
    name = names[0]
    content_type, _ = content_type_of(request)
    if content_type == FORM_TYPE and request.body_exists:
        return await _form_fields(request, names, target, claims)
    body = RequestBody(request, max_size=LARGEST).hold()
    whole = b"".join([piece async for piece in body])
    if not whole:
        told, chunk = None, None
    elif content_type == URLENCODED_TYPE:
        fields = {field.decode("utf-8", "replace"): value for field, value in await urlencoded_fields(whole)}
        chunk = next((fields.pop(each) for each in names if each in fields), None)
        if chunk is not None and _is_data_url(chunk):
            chunk = _base64(chunk, name)
        told = fields[target].decode("utf-8", "replace") if target in fields else None
    else:
        told, chunk = _json_fields(whole, names, target)
    if chunk is None:
        raise _missing(name, target, told or request.query.get(target))
    return Chunk(_pieces(chunk), replace(claims, size=len(chunk)), told)


async def _form_fields(request: web.Request, names: Sequence[str], target: str, claims: ChunkClaims) -> Chunk:
    body = RequestBody(request)
    form = MultipartForm(body, request.headers["Content-Type"], files=names, texts=(target,), field_bytes=_FIELD_BYTES)
    part = await form.next_file()
    name = names[0]
    if part is None:
        raise _missing(name, target, form.fields.get(target) or request.query.get(target))
    # A file is taken as it is, even one that begins as a data URL does.
    pieces = _no_data_url(part, name) if part.filename is None else aiter(part)
    if target in form.fields or target in request.query:
        claims = replace(claims, max_size=form.likely_size(request.content_length))
        return Chunk(_file(pieces, form), claims, form.fields.get(target))
    # The video's number comes after the chunk, which has to be held until then.
    body.hold()
    held: list[Buffer] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise InvalidRequestError.at(
                "body", msg="The fields of the form must come before its file", kind="multipart_invalid"
            )
    await form.finish()
    return Chunk(_pieces(b"".join(held)), replace(claims, size=size), form.fields.get(target))


def _missing(name: str, target: str, told: str | None) -> InvalidRequestError:
    """There is no chunk, and perhaps nothing that tells which video, either."""
    missing = [InvalidRequestError.missing("body", each) for each in ([name] if told else [name, target])]
    return InvalidRequestError(*(item for error in missing for item in error.errors))


def _json_fields(whole: bytes, names: Sequence[str], target: str) -> tuple[str | None, bytes | None]:
    check_number_of_values(whole, _MOST_JSON_VALUES)
    try:
        value = json.loads(whole)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequestError.at("body", msg="Neither a form nor a JSON object", kind="json_invalid")
    encoded = next((value.pop(each) for each in names if each in value), None)
    told = value.get(target)
    # To Python, true is a number.
    told = str(told) if isinstance(told, str | int) and not isinstance(told, bool) else None
    if encoded is None:
        return told, None
    # What is not ASCII, or no text, is no Base64 either.
    text = encoded if isinstance(encoded, str) else "?"
    return told, _base64(text.encode("ascii", "replace"), names[0])


def _is_data_url(value: bytes) -> bool:
    """Whether it begins as a data URL does, which no container does."""
    return value[: len(_DATA)].lower() == _DATA


def _base64(encoded: bytes, name: str) -> bytes:
    """The bytes that Base64 stands for, plain or in a data URL."""
    if scheme := _DATA_URL.match(encoded):
        encoded = encoded[scheme.end() :]
    if b"\n" in encoded:
        # Encoders for mail end lines, of 60 or 76 characters (RFC 2045).
        encoded = encoded.translate(None, b"\r\n")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InvalidRequestError.at("body", name, msg="Not Base64", kind="base64_invalid") from None


async def _no_data_url(part: FilePart, name: str) -> AsyncIterator[Buffer]:
    """The pieces of a part; InvalidRequestError for a data URL, which is not decoded while it streams."""
    head = b""
    async for piece in part:
        if len(head) < len(_DATA):
            head += piece[: len(_DATA)]
            if _is_data_url(head):
                raise InvalidRequestError.at("body", name, msg="A data URL, not what is in it", kind="value_error")
        yield piece


async def _file(pieces: AsyncIterator[Buffer], form: MultipartForm) -> AsyncIterator[Buffer]:
    async for piece in pieces:
        yield piece
    # Only a form that is whole has a whole chunk.
    await form.finish()


async def _pieces(whole: bytes = b"") -> AsyncIterator[Buffer]:
    view = memoryview(whole)
    for start in range(0, len(view), _PIECE):
        yield view[start : start + _PIECE]
