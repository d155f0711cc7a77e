"""Giving bytes out: start reading here.

Each call asks the catalogue (through a cache of a second) whether the caller may see the video, and reads the
exact range from S3. There is nothing to keep between two calls: any replica serves any window.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from reelway.v1 import media_pb2

from services.common import metrics
from services.common.error_catalog import ErrorReason
from services.common.errors import FieldViolation, ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.stream.video_cache import VideoCache

LONGEST_WINDOW = 64 * 2**20
LONGEST_MESSAGE = 2**20
LONGEST_EXPIRY = 604_800
# The first message is small so that the first byte is quick; large ones cost a third of the CPU of small ones.
_RAMP = (64 * 2**10, 256 * 2**10)
_MESSAGE = 2**20


def _invalid(field: str, message: str) -> ReelwayError:
    return ReelwayError(ErrorReason.INVALID_REQUEST, violations=[FieldViolation(field, message, "out_of_range")])


class Playback:
    """Reads videos for the calling user."""

    def __init__(self, videos: VideoCache, store: S3Bytes, objects: S3Objects) -> None:
        self._videos, self._store, self._objects = videos, store, objects

    async def stat(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        """The video, by either name; VIDEO_NOT_FOUND."""
        video = await (self._videos.get(video_id) if video_id else self._videos.get_by_number(number))
        if not video.object_key:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return video

    async def _check(self, video_id: str, offset: int, length: int, etag: str, longest: int) -> media_pb2.Video:
        if offset < 0:
            raise _invalid("offset_bytes", "must not be negative")
        if not 1 <= length <= longest:
            raise _invalid("length_bytes", f"must be between 1 and {longest}")
        video = await self.stat(video_id=video_id)
        if etag and etag != video.etag:
            raise ReelwayError(ErrorReason.VIDEO_CHANGED)
        if offset + length > video.size_bytes:
            raise ReelwayError(ErrorReason.RANGE_NOT_SATISFIABLE)
        return video

    async def read(self, video_id: str, offset: int, length: int, etag: str) -> AsyncIterator[list[bytes]]:
        """The bytes of a window, a list of pieces a message. Errors as StreamService.Read says."""
        video = await self._check(video_id, offset, length, etag, LONGEST_WINDOW)
        pieces: list[bytes] = []
        size, sent = 0, 0
        async for chunk in self._store.read(video.object_key, offset, length):
            # A chunk is at most what the HTTP client buffers, so a message stays under its limit of 2 MiB.
            pieces.append(chunk)
            size += len(chunk)
            if size >= (_RAMP[sent] if sent < len(_RAMP) else _MESSAGE):
                yield pieces
                pieces, size, sent = [], 0, sent + 1
        if pieces:
            yield pieces
        metrics.BYTES.labels("out").inc(length)

    async def read_range(self, video_id: str, offset: int, length: int, etag: str) -> list[bytes]:
        """A short range at once. Errors as StreamService.ReadRange says."""
        video = await self._check(video_id, offset, length, etag, LONGEST_MESSAGE)
        pieces = [chunk async for chunk in self._store.read(video.object_key, offset, length)]
        metrics.BYTES.labels("out").inc(length)
        return pieces

    async def presign(self, video_id: str, expires_seconds: int, content_type: str, disposition: str) -> str:
        """A signed URL on the public endpoint. Errors as StreamService.PresignRead says."""
        if not 1 <= expires_seconds <= LONGEST_EXPIRY:
            raise _invalid("expires_seconds", f"must be between 1 and {LONGEST_EXPIRY}")
        video = await self.stat(video_id=video_id)
        return await self._objects.presign_get(video.object_key, expires_seconds, content_type, disposition)
