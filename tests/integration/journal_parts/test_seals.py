"""A sealed upload has every chunk that was acknowledged, and becomes one object, whoever comes between."""

import asyncio
from typing import Any

import pytest
from reelway.v1 import catalog_pb2, media_pb2

from services.common import tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import joined_prefix, journal_prefix
from services.upload.compaction import Overtaken
from services.upload.journal import JournalState
from services.upload.redis_journal_store import lease_name
from tests.integration.journal_parts.rig import Rig, sealed
from tests.support.clips import WEBM
from tests.support.foundation import as_user
from tests.support.journal_client import keys_under, refusal


async def test_what_is_appended_while_an_upload_is_sealed_is_in_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was acknowledged before the freezing, and behind the look at what there is."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    step = rig.store.step

    async def just_before(*args: Any, **fields: Any) -> bool:
        await rig.append(video_id, b"last")
        return await step(*args, **fields)

    monkeypatch.setattr(rig.store, "step", just_before)
    sealed = await rig.sealing.seal(video_id, ())
    monkeypatch.undo()
    assert sealed.size_bytes == len(WEBM) + 4
    journal = await rig.store.get(video_id)
    assert journal is not None
    assert sealed.etag == journal.etag
    assert await rig.compaction.compact(video_id)
    video = await rig.parts.catalog.look_up(video_id)
    assert await rig.parts.bytes_of(video.object_key) == WEBM + b"last"


async def test_chunks_stay_where_their_object_is_not_what_was_written(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that acknowledges and loses: the record must not name it, nor may anything be removed for it."""
    video_id = await sealed(rig)
    chunks = await rig.keys(video_id)

    async def cut_short(key: str, upload_id: str, etags: list[str]) -> None:
        await rig.parts.objects.put(key, b"less", "video/webm")

    with monkeypatch.context() as patch:
        patch.setattr(rig.parts.objects, "complete_multipart", cut_short)
        with pytest.raises(RuntimeError):
            await rig.compaction.compact(video_id)
    assert await rig.keys(video_id) == chunks
    video = await rig.parts.catalog.look_up(video_id)
    assert (video.state, video.object_key) == (media_pb2.VIDEO_STATE_READY, "")
    # The next try does not take it for what it has made before.
    assert await rig.compaction.compact(video_id)
    video = await rig.parts.catalog.look_up(video_id)
    assert await rig.parts.bytes_of(video.object_key) == WEBM + b"more"
    assert await rig.keys(video_id) == []


async def test_an_object_that_went_with_its_video_is_no_failure(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The video is deleted in the moment in which its chunks have become one object."""
    video_id = await sealed(rig)
    complete = rig.parts.objects.complete_multipart

    async def delete_behind(key: str, upload_id: str, etags: list[str]) -> None:
        await complete(key, upload_id, etags)
        await rig.parts.client.delete(video_id)
        # Whoever joined its clips for a viewer had not heard of it.
        await rig.parts.objects.put(f"{joined_prefix(video_id)}late.mp4", b"joined", "video/mp4")
        await rig.parts.objects.create_multipart(f"videos/{video_id}.mp4", "video/mp4")

    monkeypatch.setattr(rig.parts.objects, "complete_multipart", delete_behind)
    assert await rig.compaction.compact(video_id)
    assert await rig.store.get(video_id) is None
    assert await rig.keys(video_id) == []
    assert await keys_under(rig.parts.objects, f"videos/{video_id}") == []
    assert await keys_under(rig.parts.objects, joined_prefix(video_id)) == []
    assert [one async for one in rig.parts.objects.list_multiparts(f"videos/{video_id}")] == []
    assert await rig.compaction.compact(video_id), "there is nothing left of it"


async def test_of_two_that_compact_one_upload_the_later_leaves_it_to_the_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ran out while the one slept: its upload of parts would be in nobody's book."""
    video_id = await sealed(rig)
    begin, begun = rig.parts.objects.create_multipart, list[str]()

    async def overtaken(key: str, content_type: str) -> str:
        for _ in range(2):
            begun.append(await begin(key, content_type))
        assert await rig.store.set_multipart(video_id, begun[0], "") == begun[0]
        return begun[1]

    with monkeypatch.context() as patch:
        patch.setattr(rig.parts.objects, "create_multipart", overtaken)
        with pytest.raises(Overtaken):
            await rig.compaction.compact(video_id)
    left = [one.upload_id async for one in rig.parts.objects.list_multiparts(f"videos/{video_id}.webm")]
    assert left == begun[:1]
    # Who has the lease goes on with the one that is noted.
    monkeypatch.setattr(rig.parts.objects, "create_multipart", None)
    assert await rig.compaction.compact(video_id)
    video = await rig.parts.catalog.look_up(video_id)
    assert await rig.parts.bytes_of(video.object_key) == WEBM + b"more"
    journal = await rig.store.get(video_id)
    assert journal is not None
    assert journal.state is JournalState.COMPACTED


async def test_who_is_told_to_stop_leaves_the_upload_to_another_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the file of a growing video would wait for the lease, too."""
    video_id, begun = await sealed(rig), asyncio.Event()

    async def endless(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(rig.parts.objects, "create_multipart", endless)
        running = asyncio.create_task(rig.compaction.run(60))
        async with asyncio.timeout(30):
            await begun.wait()
        lease = Lease(rig.redis, lease_name(video_id), 60)
        assert not await lease.take()
        await tasks.end(running)
    assert await lease.take()


async def test_a_private_video_whose_bytes_are_not_found_is_not_taken_for_a_deleted_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever compacts it asks for it in its owner's name, though nobody has called."""
    video_id = await sealed(rig)
    await rig.parts.catalog.update("anna", catalog_pb2.UpdateVideoRequest(video_id=video_id, is_private=True))

    async def not_found(*_: Any) -> None:
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)

    as_user("")
    with monkeypatch.context() as patch:
        patch.setattr(rig.parts.objects, "complete_multipart", not_found)
        assert await refusal(rig.compaction.compact(video_id)) is ErrorReason.VIDEO_NOT_FOUND
    assert await rig.whole(video_id) == WEBM + b"more"
    assert await rig.compaction.compact(video_id)


async def test_a_compacted_upload_leaves_nothing_in_redis_but_for_an_hour(rig: Rig) -> None:
    """In which whoever reads its chunks is told what became of them."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM, idempotency_key="k")
    await rig.sealing.seal(video_id, ())
    assert await rig.compaction.compact(video_id)
    left = [key async for key in rig.redis.scan_iter(f"{{journal:{video_id}}}*")]
    assert len(left) == 3
    assert all([0 < await rig.redis.ttl(key) <= 3600 for key in left])


async def test_an_upload_that_is_about_to_be_sealed_is_not_struck_out(rig: Rig) -> None:
    """It is entered first: whoever compacts may look between the two, and must look again."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    assert not await rig.compaction.compact(video_id)
    rig.parts.clock.ahead = 61
    assert await rig.compaction.compact(video_id), "who entered it has died"


async def test_an_upload_that_another_seals_and_compacts_meanwhile_is_answered_as_what_it_became(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    step = rig.store.step

    async def just_before(*args: Any, **fields: Any) -> bool:
        monkeypatch.undo()
        await rig.sealing.seal(video_id, ())
        assert await rig.compaction.compact(video_id)
        return await step(*args, **fields)

    monkeypatch.setattr(rig.store, "step", just_before)
    video, journal = await rig.sealing.seal(video_id, ()), await rig.store.get(video_id)
    assert journal is not None
    assert (video.state, video.object_key) == (media_pb2.VIDEO_STATE_READY, journal.object_key)
    assert video.modify_time.ToMilliseconds() == int(journal.modified * 1000), "when its last chunk came"
    assert await rig.store.idle_since(float("inf")) == [], "it takes none of its owner's places"


async def test_an_upload_that_is_struck_out_as_it_is_sealed_is_entered_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever compacts it had looked just before."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    step = rig.store.step

    async def struck_out(*args: Any, **fields: Any) -> bool:
        stepped = await step(*args, **fields)
        await rig.store.compaction_done(video_id)
        return stepped

    monkeypatch.setattr(rig.store, "step", struck_out)
    await rig.sealing.seal(video_id, ())
    assert await rig.store.to_compact(float("inf")) == [video_id]
    assert rig.sealing.wake.is_set()


async def test_what_redis_lost_is_looked_after_again(rig: Rig) -> None:
    """An upload that grows expires one day, whoever asks for it; and one that is sealed becomes one object."""
    growing, finished = await rig.create(), await sealed(rig)
    await rig.append(growing, WEBM)
    before = [(await rig.journals.get(video_id)).etag for video_id in (growing, finished)]
    for video_id in (growing, finished):
        await rig.store.drop(video_id)
        await rig.store.leave(video_id, "anna")
        await rig.store.compaction_done(video_id)
    assert [(await rig.journals.get(video_id)).etag for video_id in (growing, finished)] == before
    assert await rig.store.idle_since(float("inf")) == [(growing, "anna")]
    assert await rig.store.to_compact(float("inf")) == [finished]
    assert await asyncio.gather(*map(rig.whole, (growing, finished))) == [WEBM, WEBM + b"more"]


async def test_what_redis_lost_is_looked_after_though_its_journal_is_read_by_nobody_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis took the journal that was made again, and failed then: whoever comes later finds it there."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    await rig.store.drop(video_id)
    await rig.store.leave(video_id, "anna")
    create = rig.store.create

    async def unanswered(*args: Any) -> bool:
        await create(*args)
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "create", unanswered)
        assert await refusal(rig.journals.get(video_id)) is ErrorReason.STORE_UNAVAILABLE
    await rig.append(video_id, b"more")
    rig.parts.clock.ahead = 61
    await rig.sweeper.expire_idle()
    looked_at = await rig.redis.zscore("{journals}:open", f"{video_id} anna")
    journal = await rig.store.get(video_id)
    assert journal is not None
    assert looked_at == journal.modified


async def test_of_two_last_chunks_a_sealed_upload_has_the_one_that_its_record_says(rig: Rig) -> None:
    """The other one's bytes would be served under its entity tag."""
    video_id = await sealed(rig)
    # As long, no older, and before the other in a listing.
    orphan = f"{journal_prefix(video_id)}{len(WEBM):016d}-{0:016x}"
    await rig.parts.objects.put(orphan, b"less", "application/octet-stream")
    await rig.store.drop(video_id)
    await rig.journals.get(video_id)
    assert await rig.whole(video_id) == WEBM + b"more"
