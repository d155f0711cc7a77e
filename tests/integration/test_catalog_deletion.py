"""A deletion takes all that was made of a video, in bounded time and memory, and to its end."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
from reelway.v1 import media_pb2

from services.catalog import catalog, sweeper
from services.catalog.memberships import DELETING
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import (
    incoming_key,
    joined_prefix,
    journal_prefix,
    object_keys,
    thumbnail_key,
    transcript_prefix,
)
from services.common.s3_objects import ObjectInfo
from tests.integration.catalog_rig import UpdateRequest, catalog_sweeper, draft, library_of, saved
from tests.support.foundation import Foundation
from tests.support.journal_client import refusal
from tests.support.waiting import until


async def test_deleting_takes_the_bytes_and_leaves_the_number(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "anna")
    await near.objects.put(video.object_key, b"bytes", "video/mp4")
    await near.objects.put("videos/other.mp4", b"bytes", "video/mp4")
    await near.catalog.delete("anna", video.video_id)
    assert [info.key async for info in near.objects.list("videos/")] == ["videos/other.mp4"]
    assert await refusal(near.catalog.get("anna", video_id=video.video_id)) is ErrorReason.VIDEO_NOT_FOUND
    assert await refusal(near.catalog.delete("anna", video.video_id)) is ErrorReason.VIDEO_NOT_FOUND
    assert (await near.catalog.create(draft(), "")).number == video.number + 1


async def test_a_video_that_grows_is_deleted_by_the_system_alone_and_no_other_one_is(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_UPLOADING)
    await near.catalog.create(growing, "anna")
    for user in ("", "berta"):
        assert await refusal(near.catalog.delete(user, growing.video_id)) is ErrorReason.NOT_THE_OWNER
    assert await refusal(near.catalog.delete("anna", growing.video_id)) is ErrorReason.NOT_SEALED
    finished = await near.catalog.create(draft(), "anna")
    assert await refusal(near.catalog.delete(SYSTEM_USER, finished.video_id)) is ErrorReason.NOT_THE_OWNER

    async def failing(key: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "delete", failing)
        for _ in range(2):
            assert await refusal(near.catalog.delete(SYSTEM_USER, growing.video_id)) is ErrorReason.STORE_UNAVAILABLE
    await near.catalog.delete(SYSTEM_USER, growing.video_id)
    assert (await saved(near, growing.video_id)).state == media_pb2.VIDEO_STATE_DELETED


async def test_deleting_takes_all_that_was_made_of_a_video(near: Foundation) -> None:
    """Chunks, joined clips, picture, captions: nobody comes back to a tombstone, and no sweeper looks for them all."""

    def keys(video_id: str) -> list[str]:
        folders = (journal_prefix(video_id), joined_prefix(video_id), transcript_prefix(video_id))
        whole = (thumbnail_key(video_id), incoming_key(video_id), f"videos/{video_id}.mp4", f"videos/{video_id}.webm")
        return [*whole, *(f"{folder}{name}" for folder in folders for name in "ab")]

    gone, stays = [await near.catalog.create(draft(), "anna") for _ in range(2)]
    for video in (gone, stays):
        for key in keys(video.video_id):
            await near.objects.put(key, b"bytes", "application/octet-stream")
    await near.catalog.delete("anna", gone.video_id)
    left = {info.key async for info in near.objects.list("")}
    records = {f"catalog/{video.video_id}.json" for video in (gone, stays)}
    assert left - records == set(keys(stays.video_id))


async def test_deleting_does_not_wait_for_a_listing_to_show_what_is_there(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores list what was written only some time later; the video is deleted once."""
    video = await near.catalog.create(draft(), "anna")
    keys = [*object_keys(video.video_id), thumbnail_key(video.video_id), incoming_key(video.video_id)]
    for key in keys:
        await near.objects.put(key, b"bytes", "video/mp4")
    listed: list[str] = []

    async def late(prefix: str) -> AsyncIterator[ObjectInfo]:
        listed.append(prefix)
        for info in list[ObjectInfo]():
            yield info

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "list", late)
        await near.catalog.delete("anna", video.video_id)
    assert [await near.objects.head(key) for key in keys] == [None] * len(keys)
    assert listed
    assert all(prefix.endswith("/") for prefix in listed), "a store may go through a whole folder for half a name"


@pytest.mark.parametrize("by_library", [False, True], ids=["catalogue", "library"])
async def test_a_deletion_that_takes_long_goes_on_behind_its_answer(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, *, by_library: bool
) -> None:
    """A video may have a hundred thousand chunks: whoever deletes it would be told 503, again and again."""
    video = await near.catalog.create(draft(), "anna")
    await near.objects.put(video.object_key, b"bytes", "video/mp4")

    async def slow(key: str) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "delete", slow)
        patch.setattr(catalog, "_DELETE_SECONDS", 0.05)
        delete = library_of(near).remove if by_library else near.catalog.delete
        await asyncio.wait_for(delete("anna", video.video_id), 30)
    await catalog_sweeper(near).sweep()
    assert (await saved(near, video.video_id)).state == media_pb2.VIDEO_STATE_DELETING, "its caller may be at it"
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    assert await near.objects.head(video.object_key) is None
    assert (await saved(near, video.video_id)).state == media_pb2.VIDEO_STATE_DELETED


async def test_of_many_deletions_at_once_each_is_acknowledged_and_few_take_objects_away(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes a thousand videos: their objects must not stand before their tombstones in the store's queue."""
    videos = [await near.catalog.create(draft(), "anna") for _ in range(6)]
    begun, go_on = list[str](), asyncio.Event()

    async def held(keys: Sequence[str]) -> None:
        begun.extend(keys[:1])
        await go_on.wait()

    async def all_are(state: media_pb2.VideoState.ValueType) -> bool:
        return all([(await saved(near, video.video_id)).state == state for video in videos])

    monkeypatch.setattr(near.objects, "delete_each", held)
    monkeypatch.setattr(catalog, "_DELETE_SECONDS", 60)
    deletions = asyncio.gather(*(near.catalog.delete("anna", video.video_id) for video in videos))
    await until(lambda: len(begun) >= 4)
    await until(lambda: all_are(media_pb2.VIDEO_STATE_DELETING))
    assert len(begun) == 4
    go_on.set()
    await deletions
    assert await all_are(media_pb2.VIDEO_STATE_DELETED)


async def test_chunks_are_deleted_some_at_a_time(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    video = await near.catalog.create(draft(), "anna")
    prefix = journal_prefix(video.video_id)
    for number in range(16):
        await near.objects.put(f"{prefix}{number}", b"chunk", "application/octet-stream")
    delete, together = near.objects.delete, asyncio.Barrier(8)

    async def with_others(key: str) -> None:
        if key.startswith(prefix):
            await together.wait()
        await delete(key)

    monkeypatch.setattr(near.objects, "delete", with_others)
    await near.catalog.delete("anna", video.video_id)
    assert [info.key async for info in near.objects.list(prefix)] == []


async def test_a_deletion_asks_the_store_for_a_few_things_at_a_time(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To sign a request takes 3 ms, in which nobody else is answered."""
    video = await near.catalog.create(draft(), "anna")
    at_once = list[int]([0])

    async def turn() -> None:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(0)
        at_once.append(at_once[-1] - 1)

    async def delete(key: str) -> None:
        await turn()

    async def listed(prefix: str) -> AsyncIterator[ObjectInfo]:
        await turn()
        for info in list[ObjectInfo]():
            yield info

    monkeypatch.setattr(near.objects, "delete", delete)
    monkeypatch.setattr(near.objects, "list", listed)
    await near.catalog.delete("anna", video.video_id)
    assert max(at_once) <= 8


async def test_a_deletion_that_died_half_way_is_finished_by_the_sweep(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = await near.catalog.create(draft(), "anna")
    await near.objects.put(video.object_key, b"bytes", "video/mp4")

    async def failing(key: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "delete", failing)
        assert await refusal(near.catalog.delete("anna", video.video_id)) is ErrorReason.STORE_UNAVAILABLE
    assert await refusal(near.catalog.get("anna", video_id=video.video_id)) is ErrorReason.VIDEO_NOT_FOUND
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    assert [info.key async for info in near.objects.list("videos/")] == []
    assert (await saved(near, video.video_id)).state == media_pb2.VIDEO_STATE_DELETED
    assert await near.videos.due(DELETING, float("inf"), 10) == []


async def test_what_an_outage_left_is_swept_some_at_a_time(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [await near.catalog.create(draft(), "anna") for _ in range(9)]
    put, failing, at_once = near.objects.put, True, [0]

    async def counted(key: str, body: bytes, content_type: str) -> None:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(0)
        if not failing:
            await put(key, body, content_type)
        at_once.append(at_once[-1] - 1)
        if failing:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    monkeypatch.setattr(near.objects, "put", counted)
    for video in videos:
        assert await refusal(near.catalog.delete("anna", video.video_id)) is ErrorReason.STORE_UNAVAILABLE
    assert max(at_once) == 1
    failing, near.clock.ahead = False, 31
    await catalog_sweeper(near).sweep()
    assert 1 < max(at_once) <= 8
    assert await near.videos.due(DELETING, float("inf"), 10) == []
    assert {(await saved(near, video.video_id)).state for video in videos} == {media_pb2.VIDEO_STATE_DELETED}


async def test_deletions_that_fail_each_time_do_not_hold_up_those_behind_them(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_DUE", 1)
    bad, good = [await near.catalog.create(draft(), "anna") for _ in range(2)]
    broken, delete = [bad.video_id, good.video_id], near.objects.delete

    async def failing(key: str) -> None:
        if any(video_id in key for video_id in broken):
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        await delete(key)

    monkeypatch.setattr(near.objects, "delete", failing)
    for video in (bad, good):
        assert await refusal(near.catalog.delete("anna", video.video_id)) is ErrorReason.STORE_UNAVAILABLE
    broken.remove(good.video_id)
    near.clock.ahead = 31
    for _ in range(2):
        await catalog_sweeper(near).sweep()
    assert (await saved(near, good.video_id)).state == media_pb2.VIDEO_STATE_DELETED


@pytest.mark.parametrize("fault", [ReelwayError(ErrorReason.STORE_UNAVAILABLE), ValueError("no JSON says this")])
async def test_one_leftover_that_cannot_be_finished_does_not_hold_up_the_others(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    videos = [await near.catalog.create(draft(), "") for _ in range(3)]
    put = near.objects.put

    async def failing(key: str, body: bytes, content_type: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "put", failing)
        for video in videos:
            await refusal(near.catalog.update("", UpdateRequest(video_id=video.video_id, title="new")))

    async def failing_for_one(key: str, body: bytes, content_type: str) -> None:
        if key == f"catalog/{videos[0].video_id}.json":
            raise fault
        await put(key, body, content_type)

    monkeypatch.setattr(near.objects, "put", failing_for_one)
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    titles = [(await saved(near, video.video_id)).title for video in videos]
    assert titles == ["", "new", "new"]
