"""What others tell the catalogue of a video's bytes: sealed, arrived, looked at; each said twice, or late."""

import uuid

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import catalog_pb2, library_pb2, media_pb2

from services.catalog.journal_changes import JournalChanges
from services.catalog.memberships import SIGNED
from services.catalog.processing import Processing
from services.catalog.rebuild import rebuild
from services.common.error_catalog import ErrorReason
from services.common.object_keys import incoming_key
from tests.integration.catalog_rig import catalog_sweeper, draft, saved
from tests.support.foundation import Foundation
from tests.support.journal_client import refusal


async def test_a_sealed_record_keeps_to_its_bytes(near: Foundation) -> None:
    """Whoever comes late, behind a seal or a compaction that was done, changes nothing and learns it."""
    changes = JournalChanges(near.catalog, near.clock)
    video_id = str(uuid.uuid4())
    await near.catalog.create(media_pb2.Video(video_id=video_id, state=media_pb2.VIDEO_STATE_UPLOADING), "anna")
    seal = catalog_pb2.SealVideoRequest(video_id=video_id, size_bytes=5, etag='"five"')
    assert await refusal(changes.seal(seal)) is ErrorReason.NOT_A_VIDEO
    seal.container = media_pb2.CONTAINER_MP4
    attach = catalog_pb2.AttachObjectRequest(video_id=video_id, object_key="videos/a", size_bytes=5, etag='"five"')
    assert await refusal(changes.attach_object(attach)) is ErrorReason.VIDEO_CHANGED, "it still grows"
    sealed = await changes.seal(seal)
    assert await changes.seal(seal) == sealed
    longer = catalog_pb2.SealVideoRequest(
        video_id=video_id, size_bytes=6, etag='"six"', container=media_pb2.CONTAINER_MP4
    )
    assert await refusal(changes.seal(longer)) is ErrorReason.VIDEO_CHANGED
    named = await changes.attach_object(attach)
    assert await changes.attach_object(attach) == named
    other = catalog_pb2.AttachObjectRequest(video_id=video_id, object_key="videos/b", size_bytes=6, etag='"six"')
    assert await refusal(changes.attach_object(other)) is ErrorReason.VIDEO_CHANGED
    assert await saved(near, video_id) == named
    await near.catalog.delete("anna", video_id)
    for late in (changes.seal(seal), changes.attach_object(attach)):
        assert await refusal(late) is ErrorReason.VIDEO_NOT_FOUND


@pytest.mark.parametrize("told", [Timestamp(seconds=1000, nanos=5), None])
async def test_a_sealed_video_is_of_the_time_of_its_last_bytes(near: Foundation, told: Timestamp | None) -> None:
    """Or of now, where that is not told; a viewer's cache goes by it."""
    video_id = str(uuid.uuid4())
    growing = media_pb2.Video(video_id=video_id, state=media_pb2.VIDEO_STATE_UPLOADING)
    before = await near.catalog.create(growing, "anna")
    near.clock.ahead = 100
    seal = catalog_pb2.SealVideoRequest(video_id=video_id, size_bytes=5, etag='"five"', modify_time=told)
    seal.container = media_pb2.CONTAINER_MP4
    sealed = await JournalChanges(near.catalog, near.clock).seal(seal)
    if told is not None:
        assert sealed.modify_time == told
    else:
        assert sealed.modify_time.ToSeconds() >= before.modify_time.ToSeconds() + 99


@pytest.mark.parametrize("wrong", [Timestamp(seconds=2**60), Timestamp(nanos=-1)])
async def test_a_video_is_not_sealed_at_a_time_that_no_record_can_hold(near: Foundation, wrong: Timestamp) -> None:
    """The index would have it, and S3 could never be told of it, nor of any later change."""
    video_id = str(uuid.uuid4())
    growing = media_pb2.Video(video_id=video_id, state=media_pb2.VIDEO_STATE_UPLOADING)
    before = await near.catalog.create(growing, "anna")
    seal = catalog_pb2.SealVideoRequest(video_id=video_id, size_bytes=5, etag='"five"', modify_time=wrong)
    seal.container = media_pb2.CONTAINER_MP4
    assert await refusal(JournalChanges(near.catalog, near.clock).seal(seal)) is ErrorReason.INVALID_REQUEST
    assert await near.catalog.look_up(video_id) == before


async def test_what_was_found_of_a_video_that_went_meanwhile_is_thrown_away(near: Foundation) -> None:
    """Its worker is told, and removes what it made."""
    processing = Processing(near.catalog, near.objects, near.clock)
    video = await near.catalog.create(draft(), "anna")
    found = library_pb2.FinishProcessingRequest(video_id=video.video_id)
    assert await refusal(processing.finish(found)) is ErrorReason.INVALID_REQUEST
    found.failure = media_pb2.PROCESSING_FAILURE_UNSPECIFIED
    assert await refusal(processing.finish(found)) is ErrorReason.INVALID_REQUEST
    found.processed.width = 640
    described = await processing.finish(found)
    assert (described.width, described.HasField("process_time")) == (640, True)
    found.processed.width = 1
    assert await processing.finish(found) == described, "once is enough"
    await near.catalog.delete("anna", video.video_id)
    assert await refusal(processing.finish(found)) is ErrorReason.VIDEO_NOT_FOUND
    assert (await saved(near, video.video_id)).state == media_pb2.VIDEO_STATE_DELETED


async def test_an_arrival_that_is_told_again_changes_nothing(near: Foundation) -> None:
    """By an event that the store repeats, or by the look at the bucket behind it."""
    processing = Processing(near.catalog, near.objects, near.clock)
    video = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED, file_name="a.mp4")
    signed = await near.catalog.create(video, "anna")
    arrived = await processing.note_arrival(video.video_id, 5)
    assert (arrived.state, arrived.size_bytes) == (media_pb2.VIDEO_STATE_PROCESSING, 5)
    assert arrived.HasField("upload_time")
    assert await processing.note_arrival(video.video_id, 6) == arrived
    near.clock.ahead = 100
    found = library_pb2.Processed(container=media_pb2.CONTAINER_MP4, size_bytes=5, object_key="videos/a", width=640)
    draft = await processing.finish(library_pb2.FinishProcessingRequest(video_id=video.video_id, processed=found))
    assert (draft.state, draft.title, draft.width) == (media_pb2.VIDEO_STATE_DRAFT, "a.mp4", 640)
    assert draft.modify_time.ToSeconds() >= signed.modify_time.ToSeconds() + 99, "it is the time of the bytes"
    assert await processing.note_arrival(video.video_id, 6) == draft


async def test_a_signed_upload_whose_arrival_nobody_noticed_for_a_day_is_not_given_up(near: Foundation) -> None:
    """The upload service was away: its bytes are there all the same."""
    video = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED)
    await near.catalog.create(video, "anna")
    await near.objects.put(incoming_key(video.video_id), b"bytes", "video/mp4")
    near.clock.ahead = 86_401
    await catalog_sweeper(near).sweep()
    found = await saved(near, video.video_id)
    assert (found.state, found.size_bytes) == (media_pb2.VIDEO_STATE_PROCESSING, 5)
    assert await near.objects.get(incoming_key(video.video_id)) == b"bytes"


async def test_a_promise_of_a_video_makes_nobody_known(near: Foundation) -> None:
    """A user that never had a video is not found, whether or not one was promised; nor does a rebuild make it known."""
    signed = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED)
    await near.catalog.create(signed, "anna")
    gone = await near.catalog.create(draft(), "berta")
    await near.catalog.delete("berta", gone.video_id)
    near.clock.ahead = 86_340
    await catalog_sweeper(near).sweep()
    assert (await saved(near, signed.video_id)).state == media_pb2.VIDEO_STATE_SIGNED, "promised for a day"
    near.clock.ahead = 86_401
    await catalog_sweeper(near).sweep()
    assert (await saved(near, signed.video_id)).state == media_pb2.VIDEO_STATE_DELETED
    assert await near.videos.due(SIGNED, float("inf"), 10) == []
    users = ("anna", "berta")
    assert [await near.videos.knows_owner(user) for user in users] == [False, True]
    await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert [await near.videos.knows_owner(user) for user in users] == [False, True]
