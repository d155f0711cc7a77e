"""Reads a multipart/form-data body as it arrives: files as they come, small fields collected (RFC 7578, RFC 2046).

This reader looks for the next boundary in the chunks that the network gave and passes the very same chunks on;
only one that holds a boundary is sliced, as a view. aiohttp's own reader hands out 64 KiB pieces at 0.85 times the
speed, has no limit on the number of parts, and raises the same errors for a malformed form as for a bug.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from multidict import MultiDict

from gateway.header_parameters import codec_of, parse_parameters
from gateway.invalid_request import InvalidRequestError
from gateway.request_body import RequestBody
from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

FORM_TYPE = "multipart/form-data"

# RFC 2046 section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")

# What a form may cost; beyond it the form is refused.
_MOST_PARTS = 100
_PART_HEADER_BYTES = 2**13
_FIELD_BYTES = 2**20
"""All fields that are collected, together."""
_PREAMBLE_BYTES = 2**16
"""What stands before the first part, and is skipped."""


class Source(Protocol):
    """Where the body comes from; `RequestBody` is one."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end; raises when the body breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a form; iterate over it once, before asking for the next.

    Attributes:
        filename: as the client claims, possibly with a path in it; None where it gave none.
    """

    filename: str | None
    _pieces: AsyncIterator[Buffer]

    def __aiter__(self) -> AsyncIterator[Buffer]:
        """The bytes, in chunks of the network's sizes, none empty."""
        return self._pieces


class MultipartForm:
    """A form, read once from front to back.

    Args:
        source: the body.
        content_type: the request's Content-Type.
        files: names of the fields that `next_file` returns, with a filename or without; None: whatever has a
            filename. Other files are skipped.
        texts: names of the other fields that are collected in `fields`; None: all. The rest is skipped.
        field_bytes: all fields that are collected may have together.

    Raises:
        InvalidRequestError: not multipart/form-data, or no usable boundary.
    """

    def __init__(
        self,
        source: Source,
        content_type: str,
        *,
        files: Collection[str] | None = (),
        texts: Collection[str] | None = None,
        field_bytes: int = _FIELD_BYTES,
    ) -> None:
        media_type, parameters = parse_parameters(content_type)
        if media_type != FORM_TYPE:
            raise InvalidRequestError.content_type(FORM_TYPE)
        boundary = parameters.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise _malformed("The boundary is missing or not valid")
        self.fields: MultiDict[str] = MultiDict()
        self._source = source
        self._files = files
        self._texts = texts
        self._most_field_bytes = field_bytes
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # With a line break in front the first boundary looks like all others.
        self._data = b"\r\n"
        self._position = 0
        self._received = 0
        self._parts = 0
        self._field_bytes = 0
        self._part: AsyncIterator[Buffer] | None = None

    def likely_size(self, length: int | None) -> int:
        """Bytes of the file that `next_file` just returned, at most so many if something follows it; 0: not known.

        Args:
            length: of the body, where Content-Length tells.
        """
        if length is None:
            return 0
        consumed = self._received - (len(self._data) - self._position)
        # Delimiter, two hyphens, and a line break as clients send it.
        return max(0, length - consumed - (len(self._delimiter) + 4))

    async def next_file(self) -> FilePart | None:
        """The next file of `files`, None when there is none left; what was not read of the last one is skipped.

        Raises:
            InvalidRequestError: the form is malformed, beyond a limit, or ends without its closing boundary.
            Exception: whatever the source raises when the body breaks off.
        """
        if self._part is None:
            await self._skip(self._content(), _PREAMBLE_BYTES)
        else:
            await self._skip(self._part)
        while await self._begins_part():
            file = await self._file_or_field()
            if file is not None:
                return file
        return None

    async def finish(self) -> MultiDict[str]:
        """Read to the end of the form, which has no further file of `files`; all fields.

        Raises:
            InvalidRequestError: as `next_file`, and for another file: it would be lost behind a success.
        """
        if await self.next_file() is not None:
            raise _malformed("The form has more than one file")
        return self.fields

    async def _begins_part(self) -> bool:
        """Whether another part follows the delimiter that was just read; False after the closing one."""
        line = await self._line(_PART_HEADER_BYTES, closing=b"--")
        if line == b"--":
            # The epilogue means nothing, but an unread body would cost the connection.
            while await self._source.read():
                pass
            return False
        if line.strip(b" \t"):
            raise _malformed("A boundary is followed by something else")
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _malformed("The form has too many parts")
        return True

    async def _file_or_field(self) -> FilePart | None:
        headers = await self._headers()
        disposition, parameters = parse_parameters(headers.get("content-disposition", ""))
        name = parameters.get("name")
        if disposition != "form-data" or name is None:
            raise _malformed("A part has no Content-Disposition with a name")
        if headers.get("content-transfer-encoding", "").lower() not in _PLAIN_ENCODINGS:
            raise _malformed("Content-Transfer-Encoding is not supported in forms")
        self._part = self._content()
        filename = parameters.get("filename")
        wanted = filename is not None if self._files is None else name in self._files
        if wanted:
            # Browsers write a quote as %22 (WHATWG, multipart/form-data encoding algorithm).
            return FilePart(filename and filename.replace("%22", '"'), self._part)
        if filename is not None or not (self._texts is None or name in self._texts):
            await self._skip(self._part)
        else:
            text = b"".join([bytes(piece) async for piece in self._counted(self._part)])
            try:
                self.fields.add(name, _decoded(text, headers.get("content-type", "")))
            except (LookupError, UnicodeError):
                msg = "Not text of its charset"
                raise InvalidRequestError.at("body", name, msg=msg, kind="string_unicode") from None
        return None

    async def _headers(self) -> dict[str, str]:
        limit = _PART_HEADER_BYTES
        headers: dict[str, str] = {}
        while line := await self._line(limit):
            limit -= len(line)
            name, colon, value = line.partition(b":")
            if not colon:
                raise _malformed("A part has a header line without a colon")
            headers.setdefault(name.decode("latin-1").strip().lower(), value.decode("utf-8", "replace").strip())
        return headers

    async def _line(self, limit: int, *, closing: bytes | None = None) -> bytes:
        """The bytes before the next line break, which is consumed, too; or `closing` once they begin with that."""
        while True:
            end = self._data.find(b"\r\n", self._position, self._position + limit + 2)
            if closing is not None and self._data.startswith(closing, self._position):
                return closing
            if end >= 0:
                found = self._data[self._position : end]
                self._position = end + 2
                return found
            rest = self._data[self._position :]
            if len(rest) > limit:
                raise _malformed("A part has too long headers")
            self._data, self._position = rest + await self._more(), 0

    async def _content(self) -> AsyncIterator[Buffer]:
        """What stands before the next delimiter, which is consumed, too."""
        delimiter = self._delimiter
        while True:
            data, start = self._data, self._position
            end = data.find(delimiter, start)
            if end >= 0:
                self._position = end + len(delimiter)
                if end > start:
                    yield memoryview(data)[start:end]
                return
            end = self._possible_delimiter(data, start)
            held_back = data[end:]
            # The caller may stop here for good: what it was given must not be read again.
            self._data, self._position = held_back, 0
            if end > start:
                yield data if end - start == len(data) else memoryview(data)[start:end]
            self._data = held_back + await self._more()

    def _possible_delimiter(self, data: bytes, start: int) -> int:
        """Where a delimiter may begin that the next chunk completes; the end of `data` if nowhere."""
        position = data.find(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        while position >= 0 and not self._delimiter.startswith(data[position:]):
            position = data.find(b"\r", position + 1)
        return len(data) if position < 0 else position

    async def _counted(self, pieces: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        async for piece in pieces:
            self._field_bytes += len(piece)
            if self._field_bytes > self._most_field_bytes:
                raise _malformed("The fields of the form are too long")
            yield piece

    async def _skip(self, pieces: AsyncIterator[Buffer], limit: int | None = None) -> None:
        skipped = 0
        async for piece in pieces:
            skipped += len(piece)
            if limit is not None and skipped > limit:
                raise _malformed("The form does not begin with its boundary")

    async def _more(self) -> bytes:
        data = await self._source.read()
        if not data:
            raise _malformed("The form ends without its closing boundary")
        self._received += len(data)
        return data


@dataclass(frozen=True, slots=True)
class FormFile:
    """The one file that a form is about, for a handler that takes a single upload.

    Attributes:
        file_name: as the client claims, possibly with a path in it; "" where it gave none.
        likely_size: see `MultipartForm.likely_size`.
    """

    file_name: str
    likely_size: int
    _form: MultipartForm
    _part: FilePart
    _max_size: int

    @classmethod
    async def open(cls, request: web.Request, field: str, *, max_size: int) -> FormFile:
        """Read up to the file in `field`.

        Args:
            request: a request whose body nobody has touched.
            field: name of the file field.
            max_size: of the file, in bytes.

        Raises:
            InvalidRequestError: no form, a malformed one, or one without the field.
            ReelwayError: FILE_TOO_LARGE, before the body is read where Content-Length tells.
            ClientGoneError, web.HTTPRequestTimeout: see `RequestBody.read`.
        """
        if not request.body_exists:
            raise InvalidRequestError.missing("body", field)
        around = _PREAMBLE_BYTES + _FIELD_BYTES + _PART_HEADER_BYTES
        body = RequestBody(request, max_size=max_size + around)
        form = MultipartForm(body, request.headers.get("Content-Type", ""), files=(field,), texts=())
        part = await form.next_file()
        if part is None:
            raise InvalidRequestError.missing("body", field)
        return cls(part.filename or "", form.likely_size(request.content_length), form, part, max_size)

    async def chunks(self) -> AsyncIterator[Buffer]:
        """The bytes, in chunks of the network's sizes; once.

        The rest of the form is read behind them, so that the end of this says: the client sent all it meant to.

        Raises:
            Exception: as `open`.
        """
        size = 0
        async for piece in self._part:
            size += len(piece)
            if size > self._max_size:
                raise ReelwayError(ErrorReason.FILE_TOO_LARGE)
            yield piece
        await self._form.finish()


def _decoded(text: bytes, content_type: str) -> str:
    """As UTF-8, which most send whatever they call it; else by the charset of the part's own type."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode(codec_of(parse_parameters(content_type)[1]))


def _malformed(message: str) -> InvalidRequestError:
    return InvalidRequestError.at("body", msg=message, kind="multipart_invalid")
