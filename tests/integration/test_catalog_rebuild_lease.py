"""One rebuild at a time: whoever has lost its lease leaves alone what another one made."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from reelway.v1 import catalog_pb2

from services.catalog.rebuild import Rebuilt, keep_index, rebuild
from services.catalog.redis_video_store import LEASES
from services.common import tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import record_key
from services.common.s3_objects import ObjectInfo
from tests.integration.catalog_rig import catalogue, fill, index_made_again
from tests.support.foundation import Foundation
from tests.support.waiting import until


async def test_what_another_replica_made_again_meanwhile_is_left_alone(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was done with it between the look for the index and the lease."""
    await fill(near)
    before = await catalogue(near)
    await near.redis.flushall()
    lease, released, closed = near.rebuild_lease(), asyncio.Event(), asyncio.Event()
    take, release = lease.take, lease.release

    async def late() -> bool:
        await index_made_again(near)
        await near.redis.delete(LEASES + "rebuild")
        monkeypatch.setattr(near.videos, "close_index", close)
        return await take()

    async def close(*_: object) -> bool:
        closed.set()
        return True

    async def give_back() -> None:
        await release()
        released.set()

    monkeypatch.setattr(lease, "take", late)
    monkeypatch.setattr(lease, "release", give_back)
    keeper = asyncio.create_task(keep_index(near.records, near.objects, near.videos, lease))
    try:
        async with asyncio.timeout(30):
            await released.wait()
    finally:
        await tasks.end(keeper)
    assert not closed.is_set()
    assert await near.rebuild_lease().take(), "the lease was given back"
    assert await catalogue(near) == before


async def test_who_is_told_to_stop_in_the_middle_gives_the_lease_back(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica would wait for it, and nobody serve a video meanwhile."""
    begun = asyncio.Event()

    async def endless(_: str) -> AsyncIterator[list[ObjectInfo]]:
        begun.set()
        await asyncio.Event().wait()
        yield []

    monkeypatch.setattr(near.objects, "pages", endless)
    await near.redis.flushall()
    keeper = asyncio.create_task(keep_index(near.records, near.objects, near.videos, near.rebuild_lease()))
    async with asyncio.timeout(30):
        await begun.wait()
    assert not await near.rebuild_lease().take()
    await tasks.end(keeper)
    assert await near.rebuild_lease().take()


async def test_two_rebuilds_do_not_work_at_once(near: Foundation) -> None:
    await fill(near)
    other = near.rebuild_lease()
    assert await other.take()
    with pytest.raises(ReelwayError) as refused:
        await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert refused.value.reason is ErrorReason.SERVICE_UNAVAILABLE
    assert await near.videos.exists(), "who is refused touches nothing"
    await near.redis.delete("{catalog}:index:3")
    await rebuild(near.records, near.objects, near.videos, other, writers_seconds=0)
    assert await near.videos.exists()


async def test_a_listing_that_outlasts_the_lease_does_not_lose_it(
    near: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else begins meanwhile: two that took it from each other would never come to an end."""
    await fill(near)
    # Its first renewal has seconds on a machine that is busy with something else.
    mine, yours = near.rebuild_lease(3), near.rebuild_lease()
    listing = near.objects.pages

    async def slow(prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        left = [await near.redis.pttl(LEASES + "rebuild")]

        async def is_renewed() -> bool:
            assert not await yours.take()
            left.append(await near.redis.pttl(LEASES + "rebuild"))
            return bool(left[-1] > left[-2])

        await until(is_renewed)
        async for page in listing(prefix):
            yield page

    monkeypatch.setattr(near.objects, "pages", slow)
    await near.redis.flushall()
    found = await rebuild(near.records, near.objects, near.videos, mine, writers_seconds=0)
    assert found == Rebuilt(videos=4, tombstones=1)


async def test_a_rebuild_that_loses_its_lease_ends_at_once(near: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(near)

    async def lost(_: str) -> AsyncIterator[list[ObjectInfo]]:
        await near.redis.set(LEASES + "rebuild", "somebody else")
        await asyncio.Event().wait()
        yield []

    monkeypatch.setattr(near.objects, "pages", lost)
    async with asyncio.timeout(30):
        with pytest.raises(ReelwayError) as refused:
            await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(2), writers_seconds=0)
    assert refused.value.reason is ErrorReason.SERVICE_UNAVAILABLE
    assert not await near.videos.exists()


@pytest.mark.parametrize(
    ("store", "step"),
    [("records", "save"), *(("videos", step) for step in ("close_index", "clear", "load", "finish_load"))],
)
async def test_a_rebuild_that_slept_past_its_lease_leaves_alone_what_another_one_made(
    near: Foundation, monkeypatch: pytest.MonkeyPatch, store: str, step: str
) -> None:
    """That one gave the lease back, and what it made is served and changed by now."""
    await fill(near)
    before = (await near.catalog.page("anna", 1000, ""))[0]
    assert await near.videos.mark(before[0], "left")
    go_on = getattr(getattr(near, store), step)

    async def slept(*arguments: Any) -> object:
        monkeypatch.undo()
        await near.redis.delete(LEASES + "rebuild")
        heir = near.rebuild_lease()
        await rebuild(near.records, near.objects, near.videos, heir, writers_seconds=0)
        await heir.release()
        await near.catalog.update("anna", catalog_pb2.UpdateVideoRequest(video_id=before[0].video_id, title="told"))
        return await go_on(*arguments)

    monkeypatch.setattr(getattr(near, store), step, slept)
    with pytest.raises(ReelwayError) as refused:
        await rebuild(near.records, near.objects, near.videos, near.rebuild_lease(), writers_seconds=0)
    assert refused.value.reason is ErrorReason.SERVICE_UNAVAILABLE
    after = (await near.catalog.page("anna", 1000, ""))[0]
    assert [video.video_id for video in after] == [video.video_id for video in before]
    assert after[0].title == "told"
    assert await near.records.load(record_key(after[0].video_id)) == after[0]
