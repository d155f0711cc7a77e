"""The index made again from S3: the same catalogue, the same numbers."""

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest
from reelway.v1 import catalog_pb2, media_pb2

from services.catalog.rebuild import Rebuilt, keep_index, rebuild
from services.common import tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import record_key
from services.common.s3_objects import ObjectInfo, S3Objects
from tests.integration.catalog_rig import catalogue, fill, index_made_again
from tests.support.clips import mp4_of
from tests.support.foundation import Foundation, messages
from tests.support.waiting import until

GROWING = media_pb2.VIDEO_STATE_UPLOADING


async def nothing() -> None:
    """What happens meanwhile, as a rule."""


def save_behind_rebuild(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[None]] = nothing
) -> None:
    """The next record is late: it comes to S3 when the index was made again, and `meanwhile` has happened."""
    save = parts.records.save

    async def slow(video: media_pb2.Video) -> None:
        monkeypatch.undo()
        await index_made_again(parts)
        await meanwhile()
        await save(video)

    monkeypatch.setattr(parts.records, "save", slow)


async def test_a_rebuilt_index_is_the_one_that_was_lost(parts: Foundation) -> None:
    deleted = await fill(parts)
    before = await catalogue(parts)
    await parts.redis.flushall()
    lease = parts.rebuild_lease()
    found = await rebuild(parts.records, parts.objects, parts.videos, lease, writers_seconds=0)
    assert found == Rebuilt(videos=4, tombstones=1)
    assert await catalogue(parts) == before
    assert [video.title for video in before["anna"]] == ["", "", "mine"]
    fresh = await parts.uploads.upload(messages(mp4_of(5000)))
    assert fresh.number > deleted.number, "the number of a deleted video is never given again"
    assert (await parts.videos.get_by_number(deleted.number)) is not None


@pytest.mark.parametrize("at_once", [1, 2, 1000])
async def test_rebuilding_what_is_there_changes_nothing(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("services.common.s3_objects._PAGE_KEYS", at_once)
    await fill(near)
    before = await catalogue(near)
    lease = near.rebuild_lease()
    for _ in range(2):
        await rebuild(near.records, near.objects, near.videos, lease, writers_seconds=0)
        assert await catalogue(near) == before


async def test_while_the_index_is_missing_everybody_is_told(near: Foundation) -> None:
    await fill(near)
    await near.redis.flushall()
    for call in (
        near.catalog.page("", 10, ""),
        near.catalog.get("", number=1),
        near.catalog.create(media_pb2.Video(video_id=str(uuid.uuid4()), state=GROWING), ""),
    ):
        with pytest.raises(ReelwayError) as refused:
            await call
        assert refused.value.reason is ErrorReason.INDEX_MISSING


async def test_the_index_is_made_again_by_itself(near: Foundation) -> None:
    """A new system and an emptied Redis alike."""
    await fill(near)
    before = await catalogue(near)
    await near.redis.flushall()
    keeper = asyncio.create_task(keep_index(near.records, near.objects, near.videos, near.rebuild_lease()))
    try:
        await until(near.videos.exists)
        assert await catalogue(near) == before
    finally:
        await tasks.end(keeper)


async def test_who_is_writing_a_record_has_the_time_of_a_call_before_the_index_goes(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = await fill(near)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        assert not await near.videos.exists()
        assert await near.videos.get_unguarded(video.video_id) is not None
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(2):
        await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=10)
        # The second time nobody can have written anything.
        await near.redis.flushall()
    assert waited == [10]


async def test_a_new_system_counts_from_one(near: Foundation) -> None:
    await index_made_again(near)
    assert await near.videos.next_number() == 1


async def first_of_many_changed(near: Foundation) -> media_pb2.Video:
    """The next version of the first of some videos, which nobody knows of yet."""
    await fill(near)
    changed = (await near.catalog.page("", 1, ""))[0][0]
    changed.title, changed.version = "only in Redis", 2
    return changed


async def test_changes_that_were_not_saved_survive_a_rebuild_on_purpose(near: Foundation) -> None:
    """`rebuild` on an index that is there: what stands only in Redis is saved first."""
    changed = await first_of_many_changed(near)
    assert await near.videos.replace(changed, "mark")
    await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert (await near.catalog.get("", number=changed.number)).title == "only in Redis"


async def test_changes_that_were_not_saved_survive_a_rebuild_on_purpose_that_broke_off(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 was away: the index is closed, what stands only in Redis still does, and a replica goes on by itself."""
    changed = await first_of_many_changed(near)
    assert await near.videos.replace(changed, "mark")
    away = AsyncMock(side_effect=ReelwayError(ErrorReason.STORE_UNAVAILABLE))
    lease = near.rebuild_lease()
    with monkeypatch.context() as patch, pytest.raises(ReelwayError):
        patch.setattr(near.records, "save", away)
        await rebuild(near.records, near.objects, near.videos, lease, writers_seconds=0)
    await rebuild(near.records, near.objects, near.videos, lease, writers_seconds=0)
    assert (await near.catalog.get("", number=changed.number)).title == "only in Redis"


async def test_so_do_those_made_just_before_a_close_that_redis_did_not_answer(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is repeated then, and finds no index to be closed."""
    changed = await first_of_many_changed(near)
    close = near.videos.close_index

    async def repeated(lease: Lease) -> bool:
        assert await near.videos.replace(changed, "mark")
        assert await close(lease)
        return await close(lease)

    monkeypatch.setattr(near.videos, "close_index", repeated)
    await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert (await near.catalog.get("", number=changed.number)).title == "only in Redis"


async def test_a_creation_that_overlaps_the_loss_is_not_acknowledged_and_its_number_not_given_again(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed before Redis was emptied, in S3 only after the rebuild looked there."""
    await fill(near)
    save_behind_rebuild(near, monkeypatch)
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.create(media_pb2.Video(video_id="f" * 8 + str(uuid.uuid4())[8:], state=GROWING), "")
    assert refused.value.reason is ErrorReason.INDEX_MISSING
    video = await near.catalog.create(media_pb2.Video(video_id=str(uuid.uuid4()), state=GROWING), "")
    # The record of the first one is there from now on.
    await index_made_again(near)
    assert await near.catalog.get("", number=video.number) == video


async def test_nor_is_a_change_whose_record_the_rebuild_found_older(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = await near.catalog.create(media_pb2.Video(video_id=str(uuid.uuid4()), state=GROWING), "")
    save_behind_rebuild(near, monkeypatch)
    request = catalog_pb2.UpdateVideoRequest(video_id=video.video_id, title="new")
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.update("", request)
    assert refused.value.reason is ErrorReason.INDEX_MISSING
    await near.catalog.update("", request)
    assert (await near.catalog.get("", video_id=video.video_id)).title == "new"
    assert json.loads(await near.bytes_of(f"catalog/{video.video_id}.json"))["title"] == "new"


@pytest.mark.parametrize("others", [1, 2])
async def test_nor_is_a_change_in_whose_place_the_rebuilt_index_has_others(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    video = await near.catalog.create(media_pb2.Video(video_id=str(uuid.uuid4()), state=GROWING), "")

    async def change() -> None:
        for number in range(others):
            await near.catalog.update(
                "", catalog_pb2.UpdateVideoRequest(video_id=video.video_id, description=f"acknowledged {number}")
            )

    save_behind_rebuild(near, monkeypatch, change)
    with pytest.raises(ReelwayError) as refused:
        await near.catalog.update("", catalog_pb2.UpdateVideoRequest(video_id=video.video_id, title="lost"))
    assert refused.value.reason is ErrorReason.INDEX_MISSING
    indexed = await near.catalog.get("", video_id=video.video_id)
    assert (indexed.title, indexed.description) == ("", f"acknowledged {others - 1}")
    assert await near.records.load(f"catalog/{video.video_id}.json") == indexed


async def test_what_is_no_record_and_what_has_no_bytes_is_counted_and_left_out(near: Foundation) -> None:
    await fill(near)
    await near.objects.put("catalog/broken.json", b"{not json", "application/json")
    await near.objects.put("catalog/foreign.json", b"\xff\xfe", "application/json")
    await near.objects.put("catalog/note.txt", b"hello", "text/plain")
    lost = (await near.catalog.page("berta", 1000, ""))[0][1]
    await near.objects.delete(lost.object_key)
    body = json.loads(await near.bytes_of(f"catalog/{lost.video_id}.json"))
    assert body["owner"] == "berta"
    kept = (await near.catalog.page("", 1, ""))[0][0]
    body = json.loads(await near.bytes_of(f"catalog/{kept.video_id}.json"))
    body["field_of_a_newer_release"] = {"a": 1}
    await near.objects.put(f"catalog/{kept.video_id}.json", json.dumps(body).encode(), "application/json")
    await near.redis.flushall()
    found = await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert found == Rebuilt(videos=3, tombstones=1, unreadable=2, without_bytes=1)
    assert [video.number for video in (await near.catalog.page("berta", 10, ""))[0]] == [1]
    assert await near.videos.next_number() > 5


async def test_a_record_that_is_read_in_the_middle_of_being_written_is_read_again(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = await near.catalog.create(media_pb2.Video(video_id=str(uuid.uuid4()), state=GROWING), "")
    get, reads = S3Objects.get, 0

    async def cut_at_first(self: S3Objects, key: str) -> bytes | None:
        nonlocal reads
        reads += 1
        body = await get(self, key)
        return body[:-9] if body and reads == 1 else body

    monkeypatch.setattr(S3Objects, "get", cut_at_first)
    assert await near.records.load(record_key(video.video_id)) == video


async def test_a_rebuild_reads_records_by_the_lean_client_and_those_that_have_grown_since_by_the_other(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(parts)
    before = await catalogue(parts)
    grown = before["anna"][0].video_id
    get, listing, asked = S3Objects.get, parts.objects.pages, list[str]()

    async def counted(self: S3Objects, key: str) -> bytes | None:
        asked.append(key)
        return await get(self, key)

    async def older(prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        async for page in listing(prefix):
            yield [
                dataclasses.replace(info, size=info.size - 9) if info.key == record_key(grown) else info
                for info in page
            ]

    monkeypatch.setattr(S3Objects, "get", counted)
    monkeypatch.setattr(parts.objects, "pages", older)
    await index_made_again(parts)
    assert asked == [record_key(grown)]
    assert await catalogue(parts) == before


async def test_a_rebuild_has_no_more_of_the_listing_in_memory_than_it_is_at(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(near)
    before, listing, index, steps = await catalogue(near), near.objects.list, near.videos.load, list[str]()

    async def noted(prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in listing(prefix):
            if prefix == "videos/":
                steps.append("object")
            yield info

    async def load(videos: Sequence[media_pb2.Video], lease: Lease) -> None:
        steps.extend("video" for video in videos if video.object_key)
        await index(videos, lease)

    monkeypatch.setattr("services.common.s3_objects._PAGE_KEYS", 1)
    monkeypatch.setattr(near.objects, "list", noted)
    monkeypatch.setattr(near.videos, "load", load)
    await index_made_again(near)
    assert steps == ["object", "video"] * 4
    assert await catalogue(near) == before


async def test_bytes_that_a_late_listing_does_not_show_are_there(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(near)
    before = await catalogue(near)
    listing = near.objects.list

    async def late(prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in listing(prefix):
            if not info.key.startswith("videos/"):
                yield info

    await near.redis.flushall()
    with monkeypatch.context() as patch:
        patch.setattr(near.objects, "list", late)
        found = await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert found == Rebuilt(videos=4, tombstones=1)
    assert await catalogue(near) == before


@pytest.mark.parametrize("step", ["load", "finish_load"])
async def test_a_rebuild_of_which_redis_lost_a_part_ends_without_an_index(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A server that comes back, or takes over, is a moment behind: what it lacks nobody would ever miss."""
    await fill(near)
    before, go_on = await catalogue(near), getattr(near.videos, step)
    steps = 0

    async def behind_a_loss(*arguments: Any) -> object:
        nonlocal steps
        steps += 1
        if steps == (2 if step == "load" else 1):
            await near.videos.clear(lease)
        return await go_on(*arguments)

    lease = near.rebuild_lease()
    with monkeypatch.context() as patch:
        patch.setattr("services.common.s3_objects._PAGE_KEYS", 2)
        patch.setattr(near.videos, step, behind_a_loss)
        with pytest.raises(ReelwayError) as refused:
            await rebuild(near.records, near.objects, near.videos, lease, writers_seconds=0)
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert not await near.videos.exists()
    await rebuild(near.records, near.objects, near.videos, lease, writers_seconds=0)
    assert await catalogue(near) == before
