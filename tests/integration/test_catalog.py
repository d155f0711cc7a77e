"""The catalogue's use cases on a real Redis and both S3 servers."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reelway.v1 import catalog_pb2, library_pb2, media_pb2

from services.catalog import catalog, page_token
from services.catalog.catalog import Catalog
from services.catalog.journal_changes import JournalChanges
from services.catalog.library import Library
from services.catalog.library_store import LibraryStore
from services.catalog.processing import Processing
from services.catalog.rebuild import rebuild
from services.catalog.record_store import RecordStore
from services.catalog.sweeper import Sweeper
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import (
    incoming_key,
    joined_prefix,
    journal_prefix,
    object_keys,
    thumbnail_key,
    transcript_prefix,
)
from services.common.request_limits import TITLE_LENGTH
from services.common.s3_objects import ObjectInfo, S3Objects
from tests.support.foundation import Foundation, finished_video
from tests.support.journal_client import refusal
from tests.support.waiting import until

READY = media_pb2.VIDEO_STATE_READY
UpdateRequest = catalog_pb2.UpdateVideoRequest


def draft(**fields: object) -> media_pb2.Video:
    video = finished_video()
    for name, value in fields.items():
        setattr(video, name, value)
    return video


def library_of(parts: Foundation) -> Library:
    return Library(parts.catalog, parts.videos, LibraryStore(parts.redis), parts.clock)


async def saved(parts: Foundation, video_id: str) -> media_pb2.Video:
    """The record of truth."""
    record = await parts.records.load(f"catalog/{video_id}.json")
    assert record is not None
    return record


async def left_unsaved(parts: Foundation, video: media_pb2.Video) -> media_pb2.Video:
    """A record of anna's whose writer died before it was in S3."""

    async def failing(key: str, body: bytes, content_type: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.objects, "put", failing)
        assert await refusal(parts.catalog.create(video, "anna")) is ErrorReason.STORE_UNAVAILABLE
    return await parts.catalog.look_up(video.video_id)


async def test_an_acknowledged_record_is_in_s3(parts: Foundation) -> None:
    video = await parts.catalog.create(draft(title="Äöü \U0001f3ac", size_bytes=2**40), "anna")
    assert await saved(parts, video.video_id) == video
    body = json.loads(await parts.bytes_of(f"catalog/{video.video_id}.json"))
    assert (body["owner"], body["state"], body["number"]) == ("anna", "VIDEO_STATE_READY", "1")
    changed = await parts.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="new"))
    assert await saved(parts, video.video_id) == changed
    await parts.catalog.delete("anna", video.video_id)
    tombstone = await saved(parts, video.video_id)
    assert (tombstone.state, tombstone.number, tombstone.title) == (media_pb2.VIDEO_STATE_DELETED, 1, "")
    assert await parts.videos.unsaved_before(float("inf")) == []


async def test_a_record_that_cannot_be_saved_is_not_acknowledged_and_is_saved_by_the_sweep(near: Foundation) -> None:
    video = await left_unsaved(near, draft())
    assert [info.key async for info in near.objects.list("catalog/")] == []
    sweeper = catalog_sweeper(near)
    await sweeper.sweep()
    assert [info.key async for info in near.objects.list("catalog/")] == [], "a live call has its time"
    near.clock.ahead = 31
    await sweeper.sweep()
    assert (await saved(near, video.video_id)).number == 1
    assert await near.videos.unsaved_before(float("inf")) == []


class HeldPut:
    """The next PUT: the store has all of the request, and does it when it is told to, whether or not anybody waits."""

    def __init__(self, objects: S3Objects, patch: pytest.MonkeyPatch) -> None:
        self._objects, self._patch, self._put = objects, patch, objects.put
        self._may_land = asyncio.Event()
        self.sent: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
        patch.setattr(objects, "put", self._hold)

    async def _hold(self, key: str, body: bytes, content_type: str) -> None:
        self._patch.setattr(self._objects, "put", self._put)
        landing = asyncio.create_task(self._later(key, body, content_type))
        self.sent.set_result(landing)
        await asyncio.shield(landing)

    async def _later(self, key: str, body: bytes, content_type: str) -> None:
        await self._may_land.wait()
        await self._put(key, body, content_type)

    async def land(self) -> None:
        """Returns once it is done."""
        self._may_land.set()
        await self.sent.result()


async def retitle(parts: Foundation, video_id: str) -> None:
    await parts.catalog.update("anna", UpdateRequest(video_id=video_id, title="new"))
    assert (await saved(parts, video_id)).title == "new"


async def test_what_a_repeated_call_saves_late_is_put_right(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was given up by its caller, but S3 had all of its request: the older record comes behind the newer one."""
    video = await left_unsaved(near, draft())
    put = HeldPut(near.objects, monkeypatch)
    repeated = asyncio.create_task(near.catalog.change(video.video_id, lambda _: None))
    await put.sent
    await retitle(near, video.video_id)
    repeated.cancel()
    await put.land()
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    assert (await saved(near, video.video_id)).title == "new"
    assert await near.videos.unsaved_before(float("inf")) == []


@pytest.mark.parametrize("is_landed", [False, True], ids=["in the midst of its PUT", "behind it"])
async def test_so_is_what_a_process_gives_up_that_slept_until_the_sweep(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, is_landed: bool
) -> None:
    """The sweeper has saved its record for it, so that no mark of it was left when a newer one came."""
    video = await near.catalog.create(draft(), "anna")
    put, is_asked = HeldPut(near.objects, monkeypatch), asyncio.Event()
    asleep = asyncio.create_task(near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="old")))
    await put.sent
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    await retitle(near, video.video_id)
    assert await near.videos.unsaved_before(float("inf")) == []

    async def unanswered(*_: object) -> bool:
        is_asked.set()
        return await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(near.videos, "saved", unanswered)
        if is_landed:
            await put.land()
            await is_asked.wait()
        asleep.cancel()
        await asyncio.wait([asleep])
    await put.land()

    async def is_marked() -> bool:
        return bool(await near.videos.unsaved_before(float("inf")))

    await until(is_marked)
    near.clock.ahead = 62
    await catalog_sweeper(near).sweep()
    assert (await saved(near, video.video_id)).title == "new"
    assert await near.videos.unsaved_before(float("inf")) == []


def catalog_sweeper(parts: Foundation) -> Sweeper:
    return Sweeper(
        parts.catalog,
        Processing(parts.catalog, parts.objects, parts.clock),
        store=parts.videos,
        lists=LibraryStore(parts.redis),
        lease=Lease(parts.redis, "test", 30),
        clock=parts.clock,
        grace_seconds=30,
        signed_seconds=86_400,
    )


async def test_what_changes_nothing_saves_nothing_that_is_saved(near: Foundation) -> None:
    class Counting(RecordStore):
        saves = 0

        async def save(self, video: media_pb2.Video) -> None:
            self.saves += 1
            await super().save(video)

    records = Counting(near.objects)
    catalog = Catalog(near.videos, records, near.objects, near.clock)
    video = await catalog.create(draft(), "anna")
    for _ in range(3):
        assert await catalog.change(video.video_id, lambda _: None) == video
    assert records.saves == 1
    unsaved = await left_unsaved(near, draft())
    for _ in range(3):
        assert await catalog.change(unsaved.video_id, lambda _: None) == unsaved
    assert records.saves == 2
    assert await saved(near, unsaved.video_id) == unsaved


async def test_creating_again_is_answered_as_the_first_time(near: Foundation) -> None:
    video = draft(title="first")
    first = await left_unsaved(near, video)
    video.title = "second"
    assert await near.catalog.create(video, "anna") == first
    assert await saved(near, video.video_id) == first
    assert await refusal(near.catalog.create(video, "berta")) is ErrorReason.VIDEO_EXISTS
    await near.catalog.delete("anna", video.video_id)
    assert await refusal(near.catalog.create(video, "anna")) is ErrorReason.VIDEO_EXISTS


class Overtaken(RecordStore):
    """Its next save is overtaken by a change of the same record."""

    def __init__(self, parts: Foundation) -> None:
        super().__init__(parts.objects)
        self._parts, self.overtaken_by = parts, ""

    async def save(self, video: media_pb2.Video) -> None:
        if title := self.overtaken_by:
            self.overtaken_by = ""
            await self._parts.catalog.update("anna", UpdateRequest(video_id=video.video_id, title=title))
        await super().save(video)


async def test_a_slow_writer_does_not_leave_an_older_record(near: Foundation) -> None:
    """Its PUT lands after that of a newer version: it must see to it that the newer one is there again."""
    records = Overtaken(near)
    slow = Catalog(near.videos, records, near.objects, near.clock)
    video = await near.catalog.create(draft(), "anna")
    records.overtaken_by = "newer"
    await slow.update("anna", UpdateRequest(video_id=video.video_id, description="slow"))
    record = await saved(near, video.video_id)
    assert (record.title, record.description, record.version) == ("newer", "slow", 3)
    assert await near.catalog.get("anna", video_id=video.video_id) == record


async def test_a_change_that_was_overtaken_and_then_lost_with_the_index_is_not_acknowledged(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is emptied, and filled again without the video, as its writer is about to read what overtook it."""
    video = await near.catalog.create(draft(), "anna")
    saved = near.videos.saved

    async def overtaken(*_: object) -> bool:
        await near.redis.flushall()
        await near.videos.finish_load(0)
        monkeypatch.setattr(near.videos, "saved", saved)
        return False

    monkeypatch.setattr(near.videos, "saved", overtaken)
    request = UpdateRequest(video_id=video.video_id, title="lost")
    assert await refusal(near.catalog.update("anna", request)) is ErrorReason.INDEX_MISSING


async def test_nor_does_a_repeated_creation(near: Foundation) -> None:
    records = Overtaken(near)
    slow = Catalog(near.videos, records, near.objects, near.clock)
    video = await left_unsaved(near, draft())
    records.overtaken_by = "newer"
    await slow.create(video, "anna")
    assert (await saved(near, video.video_id)).title == "newer"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"video_id": "no uuid"}, "video_id"),
        ({"video_id": "0DB06C3C-0000-4000-8000-000000000000"}, "video_id"),
        ({"state": media_pb2.VIDEO_STATE_DELETED}, "state"),
        ({"state": media_pb2.VIDEO_STATE_UNSPECIFIED}, "state"),
        ({"state": media_pb2.VIDEO_STATE_SIGNED}, "state"),
        ({"title": "x" * 256}, "title"),
        ({"description": "x" * 10_001}, "description"),
        ({"file_name": "x" * 256}, "file_name"),
        ({"container": media_pb2.CONTAINER_UNSPECIFIED}, "container"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -5}, "size_bytes"),
        ({"etag": ""}, "etag"),
        ({"etag": "bare"}, "etag"),
        ({"etag": 'W/"weak"'}, "etag"),
        ({"etag": '"a\r\nb"'}, "etag"),
        ({"object_key": ""}, "object_key"),
        ({"object_key": "videos/4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64.mp4"}, "object_key"),
        ({"object_key": "catalog/4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64.json"}, "object_key"),
    ],
)
async def test_a_record_that_breaks_a_rule_is_refused(near: Foundation, fields: dict[str, object], field: str) -> None:
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.create(draft(**fields), "")
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
    assert [violation.field for violation in refused.value.violations] == [field]


@pytest.mark.parametrize("state", [media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_SIGNED])
async def test_a_video_without_bytes_says_nothing_of_them(
    near: Foundation, state: media_pb2.VideoState.ValueType
) -> None:
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.create(draft(state=state, sha256="0" * 64), "anna")
    told = {violation.field for violation in refused.value.violations}
    assert told == {"container", "size_bytes", "sha256", "etag", "object_key"}


async def test_what_the_catalogue_sets_cannot_be_set(near: Foundation) -> None:
    told = draft(owner="berta", number=99, version=7, is_private=True, thumbnail_key="catalog/x.json")
    told.transcript.result.key = "x"
    for time in (told.create_time, told.modify_time, told.listing_time, told.process_time):
        time.seconds = 2**60  # no JSON has such a time: neither has S3
    video = await near.catalog.create(told, "anna")
    assert video.create_time.ToDatetime() == video.modify_time.ToDatetime()
    ours = media_pb2.Video(owner="anna", number=1, version=1, create_time=video.create_time)
    ours.modify_time.CopyFrom(video.create_time)
    for name in ("video_id", "state", "container", "size_bytes", "etag", "object_key"):
        setattr(ours, name, getattr(told, name))
    assert video == ours


async def test_who_may_see_and_who_may_change(near: Foundation) -> None:
    hers = await near.catalog.create(draft(), "anna")
    nobody_s = await near.catalog.create(draft(), "")
    for user in ("", "anna", "berta"):
        assert (await near.catalog.get(user, video_id=hers.video_id)).number == hers.number
        assert (await near.catalog.get(user, number=nobody_s.number)).video_id == nobody_s.video_id
    for user in ("", "berta"):
        request = UpdateRequest(video_id=hers.video_id, title="mine")
        assert await refusal(near.catalog.update(user, request)) is ErrorReason.NOT_THE_OWNER
        assert await refusal(near.catalog.delete(user, hers.video_id)) is ErrorReason.NOT_THE_OWNER
    await near.catalog.update("berta", UpdateRequest(video_id=nobody_s.video_id, title="anybody's"))
    private = await near.catalog.update("anna", UpdateRequest(video_id=hers.video_id, is_private=True))
    assert await near.catalog.get("anna", number=hers.number) == private
    for user in ("", "berta"):
        assert await refusal(near.catalog.get(user, video_id=hers.video_id)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.get(user, number=hers.number)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.update(user, UpdateRequest(video_id=hers.video_id))) is (
            ErrorReason.VIDEO_NOT_FOUND
        )
        assert await refusal(near.catalog.delete(user, hers.video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_what_nobody_owns_cannot_be_made_private(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "")
    request = UpdateRequest(video_id=video.video_id, is_private=True)
    assert await refusal(near.catalog.update("anna", request)) is ErrorReason.INVALID_REQUEST


async def test_an_update_changes_what_is_set_and_counts(near: Foundation) -> None:
    video = await near.catalog.create(draft(title="t", description="d"), "anna")
    near.clock.ahead = 100
    changed = await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="", expected_version=1))
    assert (changed.title, changed.description, changed.version) == ("", "d", 2)
    assert changed.modify_time == video.modify_time, "it is the time of the bytes"
    for nothing in (UpdateRequest(), UpdateRequest(title="", description="d", is_private=False, expected_version=2)):
        nothing.video_id = video.video_id
        assert await near.catalog.update("anna", nothing) == changed, "a version is a change"
    stale = UpdateRequest(video_id=video.video_id, title="x", expected_version=1)
    assert await refusal(near.catalog.update("anna", stale)) is ErrorReason.VERSION_CONFLICT
    await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="x" * TITLE_LENGTH))
    long = UpdateRequest(video_id=video.video_id, title="x" * (TITLE_LENGTH + 1))
    assert await refusal(near.catalog.update("anna", long)) is ErrorReason.INVALID_REQUEST


async def test_updates_at_once_are_all_applied(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "anna")
    await asyncio.gather(
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, title="t")),
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, description="d")),
        near.catalog.update("anna", UpdateRequest(video_id=video.video_id, is_private=True)),
    )
    after = await near.catalog.get("anna", video_id=video.video_id)
    assert (after.title, after.description, after.is_private, after.version) == ("t", "d", True, 4)
    assert await saved(near, video.video_id) == after


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
    assert all(prefix.endswith("/") for prefix in listed), "a store may go through a whole folder for half a name"


@pytest.mark.parametrize("by_library", [False, True], ids=["catalogue", "library"])
async def test_a_deletion_that_takes_long_goes_on_behind_its_answer(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, *, by_library: bool
) -> None:
    """A video may have a hundred thousand chunks: whoever deletes it would be told 504, again and again."""
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


async def test_a_deletion_that_died_half_way_is_finished_by_the_sweep(near: Foundation) -> None:
    video = await near.catalog.create(draft(), "anna")
    await near.objects.put(video.object_key, b"bytes", "video/mp4")
    delete = near.objects.delete

    async def failing(key: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    near.objects.delete = failing  # type: ignore[method-assign]
    assert await refusal(near.catalog.delete("anna", video.video_id)) is ErrorReason.STORE_UNAVAILABLE
    near.objects.delete = delete  # type: ignore[method-assign]
    assert await refusal(near.catalog.get("anna", video_id=video.video_id)) is ErrorReason.VIDEO_NOT_FOUND
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    assert [info.key async for info in near.objects.list("videos/")] == []
    assert (await saved(near, video.video_id)).state == media_pb2.VIDEO_STATE_DELETED
    assert await near.videos.deleting(float("inf")) == []


@pytest.mark.parametrize("fault", [ReelwayError(ErrorReason.STORE_UNAVAILABLE), ValueError("no JSON says this")])
async def test_one_leftover_that_cannot_be_finished_does_not_hold_up_the_others(
    near: Foundation, fault: Exception
) -> None:
    videos = [await near.catalog.create(draft(), "") for _ in range(3)]
    put = near.objects.put

    async def failing(key: str, body: bytes, content_type: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    near.objects.put = failing  # type: ignore[method-assign]
    for video in videos:
        await refusal(near.catalog.update("", UpdateRequest(video_id=video.video_id, title="new")))

    async def failing_for_one(key: str, body: bytes, content_type: str) -> None:
        if key == f"catalog/{videos[0].video_id}.json":
            raise fault
        await put(key, body, content_type)

    near.objects.put = failing_for_one  # type: ignore[method-assign]
    near.clock.ahead = 31
    await catalog_sweeper(near).sweep()
    near.objects.put = put  # type: ignore[method-assign]
    titles = [(await saved(near, video.video_id)).title for video in videos]
    assert titles == ["", "new", "new"]


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
    near.clock.ahead = 86_401
    await catalog_sweeper(near).sweep()
    assert (await saved(near, signed.video_id)).state == media_pb2.VIDEO_STATE_DELETED
    assert await LibraryStore(near.redis).signed_before(float("inf")) == []
    users = ("anna", "berta")
    assert [await near.videos.known_owner(user) for user in users] == [False, True]
    await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert [await near.videos.known_owner(user) for user in users] == [False, True]


async def test_pages_have_what_the_caller_may_see(near: Foundation) -> None:
    """Without what somebody else has not published, which one must know of."""
    owners = ("", "anna", "berta", "anna", "", "anna", "anna")
    videos = [await near.catalog.create(draft(), owner) for owner in owners]
    library = library_of(near)
    for video in videos[5:]:
        await library.edit("anna", library_pb2.EditRequest(video_id=video.video_id, title="t", description="d"))
    for video in (videos[3], videos[5]):
        await near.catalog.update("anna", UpdateRequest(video_id=video.video_id, is_private=True))

    async def numbers(user: str, size: int) -> list[list[int]]:
        pages: list[list[int]] = []
        token = ""
        while True:
            page, token = await near.catalog.page(user, size, token)
            pages.append([video.number for video in page])
            if not token:
                return pages

    assert await numbers("", 0) == [[1, 5, 7]]
    assert await numbers("anna", 2) == [[1, 2], [4, 5], [6, 7]]
    assert await numbers("berta", 2) == [[1, 3], [5, 7]]
    assert await numbers("carla", 1) == [[1], [5], [7]]
    await near.catalog.update("anna", UpdateRequest(video_id=videos[6].video_id, is_private=True))
    assert await numbers("berta", 0) == [[1, 3, 5]]
    for size in (-1, 1001):
        assert await refusal(near.catalog.page("", size, "")) is ErrorReason.INVALID_REQUEST
    page, token = await near.catalog.page("anna", 1, "", skip=2)
    assert [video.number for video in page] == [4]
    assert [video.number for video in (await near.catalog.page("anna", 1, token, skip=1))[0]] == [6]
    assert await near.catalog.page("anna", 1, "", skip=2**63 - 1) == ([], "")
    assert await refusal(near.catalog.page("", 0, "", skip=-1)) is ErrorReason.INVALID_REQUEST


async def test_what_went_while_a_page_was_read_is_not_on_it(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look into the lists and the look at the records."""
    videos = [await near.catalog.create(draft(), "anna") for _ in range(3)]
    beginning = near.videos.beginning

    async def late(video_ids: Sequence[str]) -> list[media_pb2.Video]:
        monkeypatch.undo()
        await near.catalog.delete("anna", videos[1].video_id)
        return await beginning(video_ids)

    monkeypatch.setattr(near.videos, "beginning", late)
    page, token = await near.catalog.page("anna", 2, "")
    assert [video.number for video in page] == [1]
    page, token = await near.catalog.page("anna", 2, token)
    assert ([video.number for video in page], token) == ([3], "")


@given(st.integers(0, 2**53))
def test_a_page_token_comes_back(number: int) -> None:
    assert page_token.decode(page_token.encode(number)) == number


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_any_other_token_is_refused(token: str) -> None:
    try:
        number = page_token.decode(token)
    except ReelwayError as error:
        assert error.reason is ErrorReason.INVALID_PAGE_TOKEN
    else:
        assert page_token.encode(number) == token


async def test_a_video_id_that_cannot_be_is_not_found(near: Foundation) -> None:
    for video_id in ("x", "..", "0DB06C3C-0000-4000-8000-000000000000", str(uuid.uuid4())[:-1], "é"):
        assert await refusal(near.catalog.get("", video_id=video_id)) is ErrorReason.VIDEO_NOT_FOUND
        assert await refusal(near.catalog.delete("", video_id)) is ErrorReason.VIDEO_NOT_FOUND
