"""Bodies that were compressed for their way (Content-Encoding; RFC 9110, section 8.4), decoded as they come.

aiohttp's server would do it, but takes a gzip body that is cut off for a whole one.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from aiohttp import StreamReader, hdrs, web

from gateway.invalid_request import InvalidRequestError

# A little input can be a thousand times as much output.
_MOST_DECODED = 2**18
# zlib copies what is left of its input at the end of each member, of which there may be one every 20 bytes.
_MOST_ENCODED = 2**14
# RFC 9110, section 8.4.1. Some clients name a charset there, which is ignored.
_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_REGISTERED = _DECODED | {"compress", "x-compress", "br", "zstd"}


class DecodedContent:
    """Reads like the StreamReader of a request's body, and gives what is packed in it."""

    def __init__(self, content: StreamReader, coding: str) -> None:
        self.set_exception = content.set_exception
        self._content = content
        self._coding = coding
        self._member: zlib._Decompress | None = None
        self._pieces: Iterator[bytes] = iter(())

    async def readany(self) -> bytes:
        """The next bytes, at most _MOST_DECODED; b"" at the end.

        Raises:
            web.RequestPayloadError: not encoded as it says, or cut off.
        """
        try:
            while True:
                for piece in self._pieces:
                    # What has come already may take long to decode: others get their turn.
                    await asyncio.sleep(0)
                    if piece:
                        return piece
                data = await self._content.readany()
                if not data:
                    break
                self._pieces = self._decoded(data)
        except zlib.error as error:
            raise web.RequestPayloadError(str(error)) from None
        if self._member is not None and not self._member.eof:
            raise web.RequestPayloadError("cut off")
        return b""

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces, of which some may be empty."""
        for start in range(0, len(data), _MOST_ENCODED):
            rest, held_back = data[start : start + _MOST_ENCODED], False
            while rest or held_back:
                if self._member is None or self._member.eof:
                    self._member = zlib.decompressobj(self._window_bits(rest[0]))
                piece = self._member.decompress(rest, _MOST_DECODED)
                rest = self._member.unconsumed_tail or self._member.unused_data
                held_back = len(piece) == _MOST_DECODED and not self._member.eof
                yield piece

    def _window_bits(self, first: int) -> int:
        if self._coding == "gzip":
            return 16 + zlib.MAX_WBITS
        # Some send deflate without the header that RFC 1950 asks for; the method, 8, is in its first four bits.
        return zlib.MAX_WBITS if first & 15 == 8 else -zlib.MAX_WBITS


def content_of(request: web.Request) -> StreamReader | DecodedContent:
    """The body, decoded; as it is where its coding is none that is in use.

    Raises:
        InvalidRequestError: a coding that we have no decoder for.
        web.HTTPNotImplemented: as RFC 9112, section 6.1, has it where that is in the Transfer-Encoding.
    """
    if request.headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked":
        raise web.HTTPNotImplemented
    codings = [name for each in request.headers.getall(hdrs.CONTENT_ENCODING, ()) for name in _names(each)]
    if not _REGISTERED.intersection(codings):
        return request.content
    if len(codings) > 1 or codings[0] not in _DECODED:
        raise InvalidRequestError.undecodable()
    return DecodedContent(request.content, codings[0].removeprefix("x-"))


def _names(line: str) -> list[str]:
    return [name for each in line.lower().split(",") if (name := each.strip()) not in ("", "identity")]
