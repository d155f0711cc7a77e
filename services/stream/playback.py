"""Giving bytes out: start reading here.

Each call asks the catalogue (a read through a cache of a second) whether the caller may see the video, finds out
where the bytes of the version are that is asked for (versions.py), and reads the exact range from S3. There is
nothing to keep between two calls: any replica serves any window.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

from prometheus_client import Gauge

from services.common import metrics
from services.common.byte_messages import Buffer, encode_read_response
from services.common.byte_pool import BytePool
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field
from services.common.range_client import LONG
from services.common.request_limits import LONGEST_WINDOW
from services.common.s3_objects import S3Objects
from services.common.settings import LONGEST_SIGNED_SECONDS
from services.stream.versions import Version, Versions
from services.stream.video_cache import VideoCache

LONGEST_MESSAGE = 2**20
# The first message is small so that the first byte is quick; large ones cost a third of the CPU of small ones.
_FIRST_MESSAGE, _MESSAGE = 64 * 2**10, 2**19
# Measured, where the reader takes nothing: a message here and in gRPC, what is read ahead, and the heap's waste.
WINDOW_HOLDS, LONG_WINDOW_HOLDS = 2 * 2**20, 4 * 2**20
_HELD = Gauge("reelway_stream_buffer_bytes", "Bytes that reads under way may hold")


class Playback:
    """Reads videos for the calling user."""

    def __init__(self, videos: VideoCache, versions: Versions, objects: S3Objects, buffer_bytes: int) -> None:
        """All reads under way may hold `buffer_bytes` together, a quarter of which windows leave to short ranges."""
        self._videos, self._versions, self._objects = videos, versions, objects
        self._room, self._for_short = BytePool(buffer_bytes, _HELD), buffer_bytes // 4

    async def stat(self, *, video_id: str = "", number: int = 0) -> Version:
        """The current version, by either name of the video. Errors as StreamService.Stat says."""
        video = self._videos.get_fresh(video_id) if video_id else self._videos.get_by_number(number)
        return await self._versions.find(await video)

    async def _check(self, video_id: str, offset: int, length: int, etag: str, longest: int) -> Version:
        if offset < 0:
            raise invalid_field("offset_bytes", "must not be negative", "out_of_range")
        if not 1 <= length <= longest:
            raise invalid_field("length_bytes", f"must be between 1 and {longest}", "out_of_range")
        version = await self._versions.find(await self._videos.get(video_id), etag, offset, length)
        if offset + length > version.size:
            raise ReelwayError(ErrorReason.RANGE_NOT_SATISFIABLE)
        return version

    async def read(self, video_id: str, offset: int, length: int, etag: str) -> AsyncIterator[bytes]:
        """The bytes of a window, in messages ready to be sent. Errors as StreamService.Read says."""
        version = await self._check(video_id, offset, length, etag, LONGEST_WINDOW)
        with self._holding(LONG_WINDOW_HOLDS if length >= LONG else WINDOW_HOLDS, leaving=self._for_short):
            pieces: list[Buffer] = []
            size, enough = 0, _FIRST_MESSAGE
            async for chunk in self._versions.read(version, offset, length):
                # A chunk is at most one buffer of the store's client, so a message stays under its limit.
                pieces.append(chunk)
                size += len(chunk)
                if size >= enough:
                    # Serialized here, so that a viewer who stalls holds the message and not its pieces, too.
                    message = encode_read_response(pieces)
                    pieces, size, enough = [], 0, LONGEST_MESSAGE if length >= LONG else _MESSAGE
                    del chunk
                    yield message
            if pieces:
                yield encode_read_response(pieces)
        metrics.BYTES.labels("out").inc(length)

    @contextlib.contextmanager
    def _holding(self, size: int, *, leaving: int = 0) -> Iterator[None]:
        if not self._room.take(size, leaving=leaving):
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS, "Too many videos are being read; try again later")
        try:
            yield
        finally:
            self._room.give_back(size)

    async def read_range(self, video_id: str, offset: int, length: int, etag: str, held: contextlib.ExitStack) -> bytes:
        """A short range as one message, ready to be sent, whose room `held` gives back.

        Errors as StreamService.ReadRange says.
        """
        version = await self._check(video_id, offset, length, etag, LONGEST_MESSAGE)
        # What came and the message; then that here and in gRPC, until the reader has taken it.
        held.enter_context(self._holding(2 * length))
        message = encode_read_response([chunk async for chunk in self._versions.read(version, offset, length)])
        metrics.BYTES.labels("out").inc(length)
        return message

    async def presign(self, video_id: str, expires_seconds: int, content_type: str, disposition: str) -> str:
        """A presigned URL on the public endpoint. Errors as StreamService.PresignRead says."""
        if not 1 <= expires_seconds <= LONGEST_SIGNED_SECONDS:
            raise invalid_field("expires_seconds", f"must be between 1 and {LONGEST_SIGNED_SECONDS}", "out_of_range")
        video = await self._videos.get_fresh(video_id)
        if not video.object_key:
            raise ReelwayError(ErrorReason.NOT_SEALED)
        return await self._objects.presign_get(video.object_key, expires_seconds, content_type, disposition)
