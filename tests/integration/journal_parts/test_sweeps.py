"""A sweep removes what nobody can need any more, and nothing that somebody may."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest
from reelway.v1 import media_pb2

from services.common.entity_tags import unquoted
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import joined_prefix
from services.common.s3_objects import ObjectInfo
from services.upload.journal import Chunk
from tests.integration.catalog_rig import UpdateRequest, index_made_again
from tests.integration.journal_parts.rig import ORPHAN_SECONDS, Rig
from tests.support.clips import WEBM
from tests.support.journal_client import keys_under


async def test_what_an_append_may_still_commit_is_not_swept(rig: Rig) -> None:
    """Only what is older than any append can be; of what is committed nothing, however old."""
    objects = rig.parts.objects
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    [committed] = await rig.keys(video_id)
    stored = Chunk.new(video_id, len(WEBM), begins_clip=False).key
    await objects.put(stored, b"stored, and not committed yet", "application/octet-stream")
    under_way = Chunk.new(video_id, len(WEBM), begins_clip=False).key
    await objects.create_multipart(under_way, "application/octet-stream")
    await rig.sweeper.sweep_orphans()
    assert set(await rig.keys(video_id)) == {committed, stored, under_way}
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    await rig.sweeper.sweep_orphans()
    assert await rig.keys(video_id) == [committed]


async def test_the_chunks_of_a_sealed_upload_wait_for_their_compaction(rig: Rig) -> None:
    """However long nobody gets round to it; one that nobody knows of is known again."""
    video_id = await rig.create()
    for data in (WEBM, b"more"):
        await rig.append(video_id, data)
    await rig.sealing.seal(video_id, ())
    await rig.store.compaction_done(video_id)
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    await rig.sweeper.sweep_orphans()
    assert await rig.whole(video_id) == WEBM + b"more"
    assert await rig.store.to_compact(float("inf")) == [video_id]


async def test_a_sweep_lists_all_chunks_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for each upload would be as many as there are uploads, though most have few chunks."""
    objects = rig.parts.objects
    listed, listing = list[str](), objects.list
    ids = [await rig.create() for _ in range(3)]
    for video_id in ids:
        await rig.append(video_id, WEBM)
        for at in range(2):
            await objects.put(Chunk.new(video_id, at, begins_clip=False).key, b"left", "application/octet-stream")
        await objects.put(f"{joined_prefix(video_id)}{'0' * 32}-7.mp4", b"joined", "video/mp4")

    async def noted(prefix: str) -> AsyncIterator[ObjectInfo]:
        listed.append(prefix)
        async for info in listing(prefix):
            yield info

    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    with monkeypatch.context() as patch:
        patch.setattr(objects, "list", noted)
        await rig.sweeper.sweep_orphans()
    assert listed == ["journal/", "joined/"]
    assert [len(await rig.keys(video_id)) for video_id in ids] == [1, 1, 1]
    assert await keys_under(objects, "joined/") == []


async def test_an_upload_that_cannot_be_read_keeps_no_other_from_the_sweepers(rig: Rig) -> None:
    broken, idle = sorted([await rig.create() for _ in range(2)])
    for video_id in (broken, idle):
        await rig.append(video_id, WEBM)
        await rig.store.looked_at(video_id, "anna", 0)
        await rig.parts.objects.put(Chunk.new(video_id, 0, begins_clip=False).key, b"left", "application/octet-stream")
    await rig.redis.hdel(f"{{journal:{broken}}}", "owner")
    rig.parts.clock.ahead = 86_400 + 60
    await rig.sweeper.sweep_orphans()
    assert len(await rig.keys(idle)) == 1
    await rig.sweeper.expire_idle()
    assert (await rig.parts.catalog.look_up(idle)).state == media_pb2.VIDEO_STATE_READY


async def test_an_upload_without_a_chunk_expires_though_redis_was_emptied(rig: Rig) -> None:
    """Nothing in S3 but its record tells of it, and nobody can delete a video that grows."""
    video_id = await rig.create()
    await rig.parts.catalog.update("anna", UpdateRequest(video_id=video_id, is_private=True))
    await index_made_again(rig.parts)
    await rig.sweeper.sweep_orphans()
    await rig.sweeper.expire_idle()
    assert (await rig.parts.catalog.look_up(video_id)).state == media_pb2.VIDEO_STATE_UPLOADING, "it is young"
    rig.parts.clock.ahead = 86_400 + 60
    await rig.sweeper.expire_idle()
    assert (await rig.parts.catalog.look_up(video_id)).state == media_pb2.VIDEO_STATE_DELETED


async def test_what_is_left_goes_where_nobody_lists_the_uploads(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    left = Chunk.new(video_id, 0, begins_clip=False).key
    await rig.parts.objects.put(left, b"left", "application/octet-stream")
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    away = Mock(side_effect=ReelwayError(ErrorReason.SERVICE_UNAVAILABLE))
    monkeypatch.setattr(rig.sweeper._catalog, "growing", away)
    await rig.sweeper.sweep_orphans()
    assert len(await rig.keys(video_id)) == 1
    assert left not in await rig.keys(video_id)


async def test_uploads_that_redis_lost_are_found_several_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a dozen requests: one by one, thousands would take a store that answers slowly half an hour."""
    ids = [await rig.create() for _ in range(4)]
    for video_id in ids:
        await rig.append(video_id, WEBM)
    await index_made_again(rig.parts)
    listing, together = rig.parts.objects.list, asyncio.Barrier(2)

    async def not_alone(prefix: str) -> AsyncIterator[ObjectInfo]:
        if any(video_id in prefix for video_id in ids):
            await together.wait()
        async for info in listing(prefix):
            yield info

    monkeypatch.setattr(rig.parts.objects, "list", not_alone)
    async with asyncio.timeout(30):
        await rig.sweeper.sweep_orphans()
    for video_id in ids:
        journal = await rig.store.get(video_id)
        assert journal is not None
        assert journal.size == len(WEBM)


async def test_joined_clips_stay_while_somebody_may_read_them(rig: Rig) -> None:
    """Those of the version that there is, however old; of an earlier one as long as an orphan."""
    objects = rig.parts.objects
    video_id = await rig.create()
    etag = (await rig.append(video_id, WEBM)).etag
    current, earlier = (f"{joined_prefix(video_id)}{version}.mp4" for version in (unquoted(etag), "0" * 32 + "-7"))
    for key in (current, earlier):
        await objects.put(key, b"joined", "video/mp4")
    await rig.sweeper.sweep_orphans()
    assert await keys_under(objects, joined_prefix(video_id)) == sorted([current, earlier])
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    await rig.sweeper.sweep_orphans()
    assert await keys_under(objects, joined_prefix(video_id)) == [current]
