"""A record is in S3 before anybody is told of it, whoever dies, sleeps or is overtaken on the way there."""

import asyncio
import json

import pytest
from reelway.v1 import media_pb2

from services.catalog.catalog import Catalog
from services.catalog.record_store import RecordStore
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_objects import S3Objects
from tests.integration.catalog_rig import UpdateRequest, catalog_sweeper, draft, saved
from tests.support.foundation import Foundation, taken_lease
from tests.support.journal_client import refusal
from tests.support.waiting import until


async def left_unsaved(parts: Foundation, video: media_pb2.Video) -> media_pb2.Video:
    """A record of anna's whose writer died before it was in S3."""

    async def failing(key: str, body: bytes, content_type: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.objects, "put", failing)
        assert await refusal(parts.catalog.create(video, "anna")) is ErrorReason.STORE_UNAVAILABLE
        # Behind the refusal its record is marked again, which could else come behind the sweep that saves it.
        await parts.catalog._giving_up.wait()
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
    assert [mark async for mark in parts.videos.unsaved_before(float("inf"))] == []


async def test_a_record_that_cannot_be_saved_is_not_acknowledged_and_is_saved_by_the_sweep(near: Foundation) -> None:
    video = await left_unsaved(near, draft())
    assert [info.key async for info in near.objects.list("catalog/")] == []
    sweeper = catalog_sweeper(near)
    await sweeper.sweep()
    assert [info.key async for info in near.objects.list("catalog/")] == [], "a live call has its time"
    near.clock.ahead = 31
    await sweeper.sweep()
    assert (await saved(near, video.video_id)).number == 1
    assert [mark async for mark in near.videos.unsaved_before(float("inf"))] == []


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
    assert [mark async for mark in near.videos.unsaved_before(float("inf"))] == []


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
    assert [mark async for mark in near.videos.unsaved_before(float("inf"))] == []

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
        return bool([mark async for mark in near.videos.unsaved_before(float("inf"))])

    await until(is_marked)
    near.clock.ahead = 62
    await catalog_sweeper(near).sweep()
    assert (await saved(near, video.video_id)).title == "new"
    assert [mark async for mark in near.videos.unsaved_before(float("inf"))] == []


async def test_what_changes_nothing_saves_nothing_that_is_saved(near: Foundation) -> None:
    class Counting(RecordStore):
        saves = 0

        async def save(self, video: media_pb2.Video) -> None:
            self.saves += 1
            await super().save(video)

    records = Counting(near.objects, near.store)
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
        super().__init__(parts.objects, parts.store)
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
        await near.videos.finish_load(0, 0, await taken_lease(near.redis))
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
