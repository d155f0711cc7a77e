"""A read goes on while what it reads moves, and never into other bytes; what moves at such a moment can't be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import media_pb2, upload_pb2

from services.common.clip_joiner import ClipJoiner
from services.common.entity_tags import of_joined
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.joined import Joined
from services.common.request_limits import STAT_SECONDS
from services.common.s3_bytes import S3Bytes
from services.common.upload_client import UploadClient
from services.stream.versions import Version, Versions
from services.stream.video_cache import VideoCache
from tests.support.journal_client import refusal

READY = media_pb2.VIDEO_STATE_READY
JOURNAL = f'"{"a" * 32}-3c"'
JOINED, JOINED_KEY = f'{JOURNAL[:-1]}-mp4-0123456789ab"', f"joined/v/{JOURNAL[1:-1]}.mp4"
MADE_AGAIN = f'{JOURNAL[:-1]}-mp4-ba9876543210"'
SIZE = 60
APPENDED = Timestamp(seconds=1_767_225_600)


class World:
    """One video: its record, its journal, and the objects that are there."""

    def __init__(self, objects: Mapping[str, bytes], record: media_pb2.Video | None = None) -> None:
        self.objects = dict(objects)
        self.record = record or media_pb2.Video(video_id="v", state=media_pb2.VIDEO_STATE_UPLOADING)
        self.extents: list[upload_pb2.Extent] = []
        self.most, self.asked, self.forgotten = 4096, 0, 0
        self.object_key, self.clips, self.waited = "", 1, 0.0
        self.state, self.size = upload_pb2.UPLOAD_STATE_OPEN, SIZE
        self.refusal: ErrorReason | None = None
        self.away = False
        self.joined_before: Joined | None = None
        self.versions = Versions(
            cast(VideoCache, self), cast(UploadClient, self), cast(S3Bytes, self), cast(ClipJoiner, self)
        )

    # The catalogue, as the cache asks it.
    async def refresh(self, video_id: str) -> media_pb2.Video:
        return self.record

    # The upload service.
    async def locate(self, video_id: str, offset: int, length: int, etag: str) -> upload_pb2.LocateExtentsResponse:
        self.asked += 1
        if self.refusal is not None:
            raise ReelwayError(self.refusal)
        found = [one for one in self.extents if one.offset_bytes + one.length_bytes > offset][: self.most]
        upload = upload_pb2.Upload(
            video_id=video_id, etag=JOURNAL, state=self.state, clip_count=self.clips, modify_time=APPENDED
        )
        return upload_pb2.LocateExtentsResponse(
            upload=upload, size_bytes=self.size, object_key=self.object_key, extents=() if self.object_key else found
        )

    # The store.
    async def read(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        if self.away:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        if key not in self.objects:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        piece = self.objects[key][offset : offset + length]
        yield piece
        if len(piece) < length:
            # It went while it was read.
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)

    # Who joins clips.
    async def joined(self, video_id: str, etag: str, wait_seconds: float, *, owner: str) -> Joined:
        self.waited = wait_seconds
        return Joined(JOINED_KEY, SIZE, JOINED, media_pb2.CONTAINER_MP4)

    async def known(self, video_id: str, etag: str) -> Joined | None:
        return self.joined_before if etag == JOURNAL else None

    def forget(self, video_id: str) -> None:
        self.forgotten += 1

    async def whole(self, version: Version) -> bytes:
        return await self.window(version, 0, version.size)

    async def window(self, version: Version, offset: int, length: int) -> bytes:
        async with asyncio.timeout(10):
            return b"".join([bytes(piece) async for piece in self.versions.read(version, offset, length)])


def chunked(count: int) -> World:
    """A journal of so many chunks of as many bytes."""
    length = SIZE // count
    world = World({f"k{number}": bytes([number]) * length for number in range(count)})
    world.extents = [
        upload_pb2.Extent(offset_bytes=number * length, length_bytes=length, key=f"k{number}")
        for number in range(count)
    ]
    return world


async def test_a_window_of_many_pages_of_chunks_is_read_to_its_end() -> None:
    """Each page is asked for; that is no sign that the bytes are gone."""
    world = chunked(20)
    world.most = 1
    version = await world.versions.find(world.record, "", 0, SIZE)
    assert await world.whole(version) == b"".join(bytes([number]) * 3 for number in range(20))
    assert world.asked == 20


async def test_a_window_of_chunks_ends_where_it_was_to_end() -> None:
    world = chunked(3)
    version = await world.versions.find(world.record, "", 10, 25)
    assert await world.window(version, 10, 25) == bytes([0]) * 10 + bytes([1]) * 15


async def test_chunks_that_are_named_and_gone_end_a_read() -> None:
    """Asked again a few times, for they may have become an object; but not for ever."""
    world = chunked(3)
    version = await world.versions.find(world.record, "", 0, SIZE)
    del world.objects["k1"]
    assert await refusal(world.whole(version)) is ErrorReason.STORE_UNAVAILABLE
    assert world.asked == 4


async def test_chunks_of_a_store_that_is_away_are_not_looked_for_elsewhere() -> None:
    world = chunked(3)
    version = await world.versions.find(world.record, "", 0, SIZE)
    world.away = True
    assert await refusal(world.whole(version)) is ErrorReason.STORE_UNAVAILABLE
    assert world.asked == 1


async def test_a_journal_without_a_chunk_has_no_version() -> None:
    world = World({})
    world.size = 0
    assert await refusal(world.versions.find(world.record)) is ErrorReason.NO_DATA


async def test_chunks_that_become_an_object_under_a_reader_are_read_there() -> None:
    world = chunked(3)
    version = await world.versions.find(world.record, "", 0, SIZE)
    whole = b"".join(world.objects[f"k{number}"] for number in range(3))
    world.objects = {"k0": world.objects["k0"], "videos/v.mp4": whole}
    world.record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=JOURNAL, size_bytes=SIZE)
    assert await world.whole(version) == whole


async def test_an_earlier_version_is_read_in_the_object_of_all_chunks() -> None:
    """More was appended behind it, and nothing that it has was changed."""
    world = chunked(3)
    version = await world.versions.find(world.record, "", 0, SIZE)
    whole = b"".join(world.objects[f"k{number}"] for number in range(3))
    world.object_key, world.objects = "videos/v.mp4", {"videos/v.mp4": whole + b"more"}
    later = f'"{"b" * 32}-4c"'
    world.record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=later, size_bytes=64)
    assert await world.whole(version) == whole


async def test_clips_that_became_a_joined_object_are_not_read_on_in_it() -> None:
    """Its bytes are others: what was read of the clips does not go on there."""
    world = chunked(3)
    world.clips = 2
    version = await world.versions.find(world.record, JOURNAL, 0, SIZE)
    world.objects = {"k0": world.objects["k0"], "videos/v.mp4": bytes(SIZE)}
    world.record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=JOINED, size_bytes=SIZE)
    world.object_key = "videos/v.mp4"
    assert await refusal(world.whole(version)) is ErrorReason.VIDEO_CHANGED


async def test_what_became_an_object_behind_an_older_record_is_read_there_or_not_at_all() -> None:
    """The upload service is done with the chunks; the catalogue's next answer names the object."""
    before = media_pb2.Video(video_id="v", state=READY)
    world = World({})
    world.refusal = ErrorReason.UPLOAD_SEALED
    world.record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=JOINED, size_bytes=SIZE)
    for etag in ("", JOINED):
        assert (await world.versions.find(before, etag)).key == "videos/v.mp4"
    assert await refusal(world.versions.find(before, JOURNAL)) is ErrorReason.VIDEO_CHANGED
    world.record = before
    assert await refusal(world.versions.find(before)) is ErrorReason.VIDEO_CHANGED
    world.refusal = ErrorReason.STORE_UNAVAILABLE
    assert await refusal(world.versions.find(before)) is ErrorReason.STORE_UNAVAILABLE


async def test_who_reads_joined_clips_reads_on_in_this_file_alone() -> None:
    """More may have been appended since, and what is joined again differs."""
    world = chunked(3)
    world.clips = 3
    etag = of_joined(JOURNAL, "mp4", "stored")
    assert await refusal(world.versions.find(world.record, etag)) is ErrorReason.VIDEO_CHANGED
    world.joined_before = Joined(JOINED_KEY, SIZE, etag, media_pb2.CONTAINER_MP4)
    version = await world.versions.find(world.record, etag)
    assert (version.key, version.etag, version.sealed) == (JOINED_KEY, etag, False)
    world.joined_before = Joined(JOINED_KEY, SIZE, of_joined(JOURNAL, "mp4", "other"), media_pb2.CONTAINER_MP4)
    assert await refusal(world.versions.find(world.record, etag)) is ErrorReason.VIDEO_CHANGED


async def test_joined_clips_are_as_old_as_their_last_append() -> None:
    """They may be joined after the next one, whose version would seem to be the older of the two."""
    world = chunked(3)
    world.clips = 2
    for world.state in (upload_pb2.UPLOAD_STATE_OPEN, upload_pb2.UPLOAD_STATE_SEALED):
        version = await world.versions.find(world.record)
        assert (version.key, version.modify_time) == (JOINED_KEY, APPENDED)
        assert version.sealed == (world.state == upload_pb2.UPLOAD_STATE_SEALED)


async def test_a_join_is_not_waited_for_longer_than_the_gateway_waits_for_a_stat() -> None:
    """Each call would be cancelled, which costs grpc.aio memory, and another replica asked for the same."""
    world = chunked(3)
    world.clips = 2
    await world.versions.find(world.record)
    assert 0 < world.waited < STAT_SECONDS


def joined() -> Version:
    record: dict[str, Any] = {"modify_time": media_pb2.Video().modify_time, "container": media_pb2.CONTAINER_MP4}
    return Version(video_id="v", number=1, size=SIZE, etag=JOINED, sealed=False, key=JOINED_KEY, **record)


async def test_a_joined_file_that_became_the_video_s_object_is_read_on_there() -> None:
    record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=JOINED, size_bytes=SIZE)
    whole = bytes(range(SIZE))
    for objects in ({}, {JOINED_KEY: whole[:7]}):
        world = World(objects | {"videos/v.mp4": whole}, record)
        assert await world.whole(joined()) == whole
        assert world.forgotten == 1


@pytest.mark.parametrize(
    "record",
    [
        media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag=MADE_AGAIN, size_bytes=SIZE),
        media_pb2.Video(video_id="v", state=media_pb2.VIDEO_STATE_UPLOADING),
    ],
    ids=["made again", "swept"],
)
async def test_a_joined_file_that_was_made_again_is_another_one(record: media_pb2.Video) -> None:
    """An encode made twice differs: half of each is no video."""
    world = World({"videos/v.mp4": b"o" * SIZE}, record)
    assert await refusal(world.whole(joined())) is ErrorReason.VIDEO_CHANGED


async def test_a_finished_object_that_is_gone_is_a_video_that_was_deleted() -> None:
    record = media_pb2.Video(video_id="v", state=READY, object_key="videos/v.mp4", etag='"e"', size_bytes=SIZE)
    world = World({}, record)
    version = await world.versions.find(record)
    assert await refusal(world.whole(version)) is ErrorReason.VIDEO_NOT_FOUND
