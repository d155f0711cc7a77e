"""Where the bytes of a video are, at this moment or as of an earlier version of it.

A finished video is one object, which its record names. One that grows, or was sealed a moment ago, is a journal of
chunks, which the upload service knows. A version of a journal is a beginning of every later one, so that whoever
began to read it reads on under its entity tag while more is appended, while it is sealed, and while its chunks
become one object. Only an object that several clips were joined to has other bytes than their journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import media_pb2, upload_pb2

from services.common.byte_messages import Buffer
from services.common.clip_joiner import ClipJoiner
from services.common.entity_tags import journal_of_joined
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import Extent, read_slices, slices
from services.common.joined import Joined
from services.common.object_keys import joined_prefix
from services.common.request_limits import STAT_SECONDS
from services.common.s3_bytes import S3Bytes
from services.common.upload_client import UploadClient, extents_of
from services.stream.video_cache import VideoCache

# How often a read asks again where its bytes are, when what it was told is gone.
_ASKS = 3
# How long a Stat waits for clips to be joined before it says that they are not yet; the rest is for the last look.
_JOIN_SECONDS = STAT_SECONDS - 0.5


@dataclass(frozen=True)
class Version:
    """One version of a video's bytes; it never changes."""

    video_id: str
    number: int
    size: int
    etag: str
    modify_time: Timestamp
    container: media_pb2.Container.ValueType
    sealed: bool
    """There will be no other one."""
    key: str = ""
    """Key of the object that holds the bytes, perhaps more than these; empty while chunks hold them."""
    extents: Sequence[Extent] = ()
    """Of chunks, those that hold the range that was asked for, or the beginning of it."""


class Versions:
    """Finds versions, and reads them."""

    def __init__(self, videos: VideoCache, uploads: UploadClient, data: S3Bytes, joiner: ClipJoiner) -> None:
        self._videos, self._uploads, self._data, self._joiner = videos, uploads, data, joiner

    async def find(self, video: media_pb2.Video, etag: str = "", offset: int = 0, length: int = 0) -> Version:
        """The version with this entity tag (empty: the current one), ready for reading this range.

        Raises:
            ReelwayError: VIDEO_CHANGED (there is no such version), NO_DATA, VIDEO_NOT_FOUND, JOINING, JOIN_FAILED.
        """
        if video.object_key and etag in ("", video.etag):
            return _of_record(video)
        if journal_of_joined(etag):
            return await self._joined_before(video, etag)
        located = None
        try:
            located = await self._uploads.locate(video.video_id, offset, length, etag)
        except ReelwayError as error:
            if error.reason is not ErrorReason.UPLOAD_SEALED:
                raise
        if located is None or (located.object_key and located.upload.clip_count > 1):
            # Compacted since the record was read, or long ago, or from clips: the object has other bytes than those.
            return await self._of_object(video.video_id, etag)
        if not located.size_bytes:
            raise ReelwayError(ErrorReason.NO_DATA)
        if not etag and located.upload.clip_count > 1:
            return await self._joined(video, located.upload)
        return _of_journal(video, located, etag)

    async def _joined(self, video: media_pb2.Video, upload: upload_pb2.Upload) -> Version:
        """The clips as one file; made now, if nobody has asked for this version before."""
        joined = await self._joiner.joined(video.video_id, upload.etag, _JOIN_SECONDS, owner=video.owner)
        # Not when it was joined: that may be later than an append whose version would then seem the older one.
        return _of_joined(video, joined, upload.modify_time, sealed=upload.state != upload_pb2.UPLOAD_STATE_OPEN)

    async def _joined_before(self, video: media_pb2.Video, etag: str) -> Version:
        """The joined file that somebody reads, whether or not more was appended since."""
        joined = await self._joiner.known(video.video_id, journal_of_joined(etag))
        if joined is None or joined.etag != etag:
            # Perhaps it has become the video's one object since the record was read.
            return await self._of_object(video.video_id, etag)
        # Nobody is told the time of a version before the current one.
        return _of_joined(video, joined, video.modify_time, sealed=False)

    async def _of_object(self, video_id: str, etag: str) -> Version:
        """The version that the record names as it is now."""
        video = await self._videos.refresh(video_id)
        if not video.object_key or etag not in ("", video.etag):
            raise ReelwayError(ErrorReason.VIDEO_CHANGED)
        return _of_record(video)

    async def read(self, version: Version, offset: int, length: int) -> AsyncIterator[Buffer]:
        """Exactly these bytes, found by `find` for this range, as they come from the store.

        Raises:
            ReelwayError: STORE_UNAVAILABLE; VIDEO_CHANGED, VIDEO_NOT_FOUND (it was deleted meanwhile).
        """
        end, asked = offset + length, 0
        while offset < end:
            try:
                async for piece in self._pieces(version, offset, end - offset):
                    offset, asked = offset + len(piece), 0
                    yield piece
            except ReelwayError as error:
                is_object = version.key and not version.key.startswith(joined_prefix(version.video_id))
                if error.reason is not ErrorReason.VIDEO_NOT_FOUND or is_object:
                    raise
            if offset < end:
                # The next page of extents; or what held the bytes has become the video's one object under our hands.
                asked += 1
                if asked > _ASKS:
                    raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
                if version.key:
                    self._joiner.forget(version.video_id)
                video = await self._videos.refresh(version.video_id)
                version = await self.find(video, version.etag, offset, end - offset)

    def _pieces(self, version: Version, offset: int, length: int) -> AsyncIterator[Buffer]:
        """These bytes, as far as it is known where they are."""
        if version.key:
            return self._data.read(version.key, offset, length)
        return read_slices(self._data, slices(version.extents, offset, length))


def _of_record(video: media_pb2.Video) -> Version:
    return Version(
        video_id=video.video_id,
        number=video.number,
        size=video.size_bytes,
        etag=video.etag,
        modify_time=video.modify_time,
        container=video.container,
        sealed=True,
        key=video.object_key,
    )


def _of_joined(video: media_pb2.Video, joined: Joined, modify_time: Timestamp, *, sealed: bool) -> Version:
    return Version(
        video_id=video.video_id,
        number=video.number,
        size=joined.size,
        etag=joined.etag,
        modify_time=modify_time,
        container=joined.container,
        sealed=sealed,
        key=joined.key,
    )


def _of_journal(video: media_pb2.Video, located: upload_pb2.LocateExtentsResponse, etag: str) -> Version:
    upload = located.upload
    return Version(
        video_id=video.video_id,
        number=video.number,
        size=located.size_bytes,
        etag=etag or upload.etag,
        modify_time=upload.modify_time,
        container=upload.container,
        sealed=upload.state != upload_pb2.UPLOAD_STATE_OPEN and etag in ("", upload.etag),
        key=located.object_key,
        extents=extents_of(located),
    )
