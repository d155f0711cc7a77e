"""Redis comes back older than the bucket, from a snapshot or a replica that lagged: what S3 records is not removed."""

import uuid

import grpc
import pytest
from reelway.v1 import library_pb2, media_pb2
from structlog.testing import capture_logs

from services.catalog.library import Library
from services.catalog.library_store import LibraryStore
from services.catalog.memberships import SIGNED
from services.catalog.processing import Processing
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import incoming_key
from services.upload import ingest
from services.upload.ingest import Ingest
from services.upload.open_uploads import OpenUpload
from services.upload.signatures import Signatures
from tests.support.clips import mp4_of
from tests.support.foundation import Foundation, messages

DAY = 86_401


class Snapshot:
    """All that is in Redis at one moment."""

    def __init__(self, parts: Foundation, values: dict[bytes, bytes]) -> None:
        self._parts, self._values = parts, values

    @classmethod
    async def of(cls, parts: Foundation) -> "Snapshot":
        return cls(parts, {key: await parts.redis.dump(key) or b"" async for key in parts.redis.scan_iter()})

    async def restore(self) -> None:
        await self._parts.redis.flushall()
        for key, value in self._values.items():
            await self._parts.redis.restore(key, 0, value)


async def test_an_upload_that_was_under_way_keeps_its_bytes(parts: Foundation) -> None:
    """It was answered 201 behind the snapshot, so S3 has its record; the old index has only that it had begun."""
    before = await Snapshot.of(parts)
    video = await parts.uploads.upload(messages(mp4_of(100_000)))
    await before.restore()
    await parts.register.begin(OpenUpload(video.video_id, video.object_key, ""))
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert (left["objects"], left["entries"]) == ([video.object_key], [])
    assert left["records"] == [f"catalog/{video.video_id}.json"], "from which a rebuild knows it again"


async def test_a_video_that_was_deleted_before_its_entry_ran_out_is_none_that_the_index_lost(parts: Foundation) -> None:
    video = await parts.uploads.upload(messages(mp4_of(100_000)))
    await parts.register.begin(OpenUpload(video.video_id, video.object_key, ""))
    await parts.client.delete(video.video_id)
    parts.clock.ahead = 61
    with capture_logs() as lines:
        await parts.sweeper().sweep()
    assert not [line for line in lines if line["log_level"] == "error"]
    assert (await parts.leftovers())["entries"] == []


async def test_a_signed_upload_that_became_a_video_since_is_that_video_again(near: Foundation) -> None:
    signed = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED)
    await near.catalog.create(signed, "anna")
    before = await Snapshot.of(near)
    processing = Processing(near.catalog, near.objects, near.clock)
    key = f"videos/{signed.video_id}.mp4"
    await near.objects.put(key, b"bytes", "video/mp4")
    await processing.note_arrival(signed.video_id, 5)
    found = library_pb2.Processed(object_key=key, size_bytes=5, sha256="0" * 64)
    await processing.finish(library_pb2.FinishProcessingRequest(video_id=signed.video_id, processed=found))
    library = Library(near.catalog, near.videos, LibraryStore(near.redis), near.clock)
    words = library_pb2.EditRequest(video_id=signed.video_id, title="t", description="d")
    published = await library.edit("anna", words)
    await before.restore()
    near.clock.ahead = DAY
    await processing.expire(signed.video_id)
    again = await near.catalog.look_up(signed.video_id)
    assert (again.state, again.title, again.object_key) == (media_pb2.VIDEO_STATE_READY, "t", key)
    assert again.listing_time == published.listing_time
    assert await near.bytes_of(key) == b"bytes"
    assert await near.videos.due(SIGNED, float("inf"), 10) == []


async def test_what_arrived_for_a_signature_that_redis_forgot_is_kept(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old it is; what S3 has no record of, either, goes after an hour."""
    before = await Snapshot.of(near)
    signed = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED)
    await near.catalog.create(signed, "anna")
    kept, stranger = incoming_key(signed.video_id), incoming_key(str(uuid.uuid4()))
    for key in (kept, stranger):
        await near.objects.put(key, b"bytes", "video/mp4")
    await before.restore()

    async def unknown(*_: object) -> None:
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)

    monkeypatch.setattr(ingest, "call", unknown)
    near.clock.ahead = 3601
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        signatures = Signatures(near.redis, near.clock, per_owner=1, seconds=DAY)
        lease = Lease(near.redis, "test", 30)
        await Ingest(near.objects, channel, near.redis, signatures, lease=lease, clock=near.clock).look()
    assert [info.key async for info in near.objects.list("incoming/")] == [kept]
