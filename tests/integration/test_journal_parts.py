"""The journal's own parts inside the test, on real Redis and S3, where one of them fails at the wrong moment."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
import redis.asyncio
from reelway.v1 import catalog_pb2, media_pb2, upload_pb2

from services.common import redis_client
from services.common.byte_messages import AppendMessage
from services.common.clip_joiner import ClipJoiner
from services.common.containers import SNIFF_BYTES
from services.common.entity_tags import unquoted
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import joined_prefix, journal_prefix
from services.common.s3_objects import ObjectInfo
from services.common.settings import RedisSettings
from services.upload.appends import Appends
from services.upload.buffers import Buffers
from services.upload.chunk_writer import ChunkWriter
from services.upload.compaction import Compaction, Overtaken
from services.upload.journal import Chunk, Committed, JournalState
from services.upload.journal_store import Limits, Moved
from services.upload.journal_sweeper import JournalSweeper
from services.upload.journals import Journals
from services.upload.redis_journal_store import LEASES, RedisJournalStore, lease_name
from services.upload.seal import Sealing
from tests.support.clips import WEBM
from tests.support.foundation import Foundation, as_user
from tests.support.journal_client import keys_under, refusal

ORPHAN_SECONDS = 3600.0


@dataclass
class Rig:
    """What the upload process makes of an upload that grows."""

    parts: Foundation
    redis: redis.asyncio.Redis
    store: RedisJournalStore
    journals: Journals
    appends: Appends
    sealing: Sealing
    sweeper: JournalSweeper
    compaction: Compaction

    async def create(self) -> str:
        return (await self.journals.create("", "", "a.webm")).video_id

    async def append(self, video_id: str, data: bytes, **header: Any) -> Committed:
        """A chunk in one message."""

        async def messages() -> AsyncIterator[AppendMessage]:
            yield AppendMessage([data], upload_pb2.AppendHeader(video_id=video_id, **header), finish=True)

        return await self.appends.append(messages())

    async def keys(self, video_id: str) -> list[str]:
        """Of all chunks that are there, once nothing is being undone."""
        await self.appends.undoing.wait()
        return await keys_under(self.parts.objects, journal_prefix(video_id))

    async def whole(self, video_id: str) -> bytes:
        """What the journal says that the upload is."""
        located = await self.store.locate(video_id, 0, 2**40, "", 1000)
        assert located is not None
        return b"".join([await self.parts.bytes_of(extent.key) for extent in located.extents])


@pytest.fixture
async def rig(near: Foundation, clean_redis: str) -> AsyncIterator[Rig]:
    objects, data, catalog, clock = near.objects, near.store, near.client, near.clock
    async with redis_client.connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJournalStore(client)
        journals = Journals(
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            clock=clock,
            open_per_owner=10,
            open_of_nobody=10,
            idle_seconds=86_400,
        )
        appends = Appends(
            journals=journals,
            store=store,
            objects=objects,
            writer=ChunkWriter(objects, data),
            buffers=Buffers(2**30),
            clock=clock,
            limits=Limits(1000, 2**30, 1000, 2**30),
            most_bytes=2**30,
            idle_seconds=30,
            longest_seconds=60,
            orphan_seconds=ORPHAN_SECONDS,
        )
        sealing = Sealing(journals, store, catalog, clock)
        sweeper = JournalSweeper(
            journals=journals,
            sealing=sealing,
            store=store,
            objects=objects,
            catalog=catalog,
            idle_lease=Lease(client, LEASES + "idle", 60),
            orphan_lease=Lease(client, LEASES + "orphans", 60),
            clock=clock,
            idle_seconds=86_400,
            orphan_seconds=ORPHAN_SECONDS,
        )
        compaction = Compaction(
            joiner=cast(ClipJoiner, None),
            sealing=sealing,
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            lease=lambda video_id: Lease(client, lease_name(video_id), 60),
            clock=clock,
        )
        as_user("anna")
        yield Rig(near, client, store, journals, appends, sealing, sweeper, compaction)


async def test_a_chunk_whose_commit_redis_did_not_answer_keeps_its_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be part of the upload; whether it is only Redis can tell, and the sweeper asks."""
    video_id = await rig.create()
    commit = rig.store.commit

    async def unanswered(*args: Any, **options: Any) -> Committed:
        await commit(*args, **options)
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "commit", unanswered)
        assert await refusal(rig.append(video_id, WEBM, idempotency_key="k")) is ErrorReason.STORE_UNAVAILABLE
    assert len(await rig.keys(video_id)) == 1
    assert await rig.whole(video_id) == WEBM
    assert (await rig.append(video_id, WEBM, idempotency_key="k")).size == len(WEBM)


async def test_a_chunk_that_was_sent_twice_at_once_is_kept_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await rig.create()
    first = await rig.append(video_id, WEBM, idempotency_key="k")

    async def not_yet(video_id: str, key: str) -> None:
        """When the second one asked, the first was not committed."""

    monkeypatch.setattr(rig.store, "replay", not_yet)
    assert await rig.append(video_id, WEBM, idempotency_key="k") == dataclasses.replace(first, replayed=True)
    assert await refusal(rig.append(video_id, b"another", idempotency_key="k")) is ErrorReason.INVALID_REQUEST
    assert len(await rig.keys(video_id)) == 1
    assert await rig.whole(video_id) == WEBM


def overtake(rig: Rig, monkeypatch: pytest.MonkeyPatch, video_id: str, data: bytes) -> None:
    """Before the next chunk is committed these bytes are."""
    commit = rig.store.commit

    async def overtaken(*args: Any, **options: Any) -> Committed | Moved | None:
        monkeypatch.setattr(rig.store, "commit", commit)
        await rig.append(video_id, data)
        return await commit(*args, **options)

    monkeypatch.setattr(rig.store, "commit", overtaken)


@pytest.mark.parametrize("copied", [True, False])
async def test_a_chunk_that_cannot_be_moved_behind_another_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    video_id = await rig.create()
    copy = rig.parts.objects.copy

    async def failing(source: str, target: str) -> None:
        if copied:
            # It is the answer that was lost.
            await copy(source, target)
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    monkeypatch.setattr(rig.parts.objects, "copy", failing)
    overtake(rig, monkeypatch, video_id, b"first")
    assert await refusal(rig.append(video_id, WEBM)) is ErrorReason.STORE_UNAVAILABLE
    assert len(await rig.keys(video_id)) == 1
    assert await rig.whole(video_id) == b"first"


async def test_a_chunk_that_moves_takes_its_first_place_with_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks for one offset would leave it to their age which of them a journal that is made again has."""
    video_id = await rig.create()
    overtake(rig, monkeypatch, video_id, b"first ")
    assert (await rig.append(video_id, b"second")).offset == 6
    assert len(await rig.keys(video_id)) == 2
    assert await rig.whole(video_id) == b"first second"


@pytest.mark.parametrize("restored", [True, False])
async def test_a_refused_chunk_that_a_journal_was_made_again_of_stays(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    """Redis is emptied while it is sent: without its object the video would have a hole, and go on behind it."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    write = ChunkWriter.write

    async def emptied(*args: Any, **options: Any) -> Any:
        stored = await write(*args, **options)
        await rig.store.drop(video_id)
        if restored:
            await rig.journals.get(video_id)
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(ChunkWriter, "write", emptied)
        assert await refusal(rig.append(video_id, b"refused", sha256=bytes(32))) is ErrorReason.CHECKSUM_MISMATCH
    await rig.appends.undoing.wait()
    await rig.journals.get(video_id)
    assert await rig.whole(video_id) == WEBM + b"refused"


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


async def test_an_append_that_slept_until_its_chunk_may_be_swept_adds_nothing(rig: Rig) -> None:
    """A process can be frozen, or its machine, between storing a chunk and committing it."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    # It began so long ago.
    rig.parts.clock.ahead = -ORPHAN_SECONDS - 60
    assert await refusal(rig.append(video_id, b"late")) is ErrorReason.TIMEOUT
    assert await rig.whole(video_id) == WEBM


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


async def test_a_sweep_ends_where_another_replica_has_taken_over(rig: Rig) -> None:
    video_id = await rig.create()
    await rig.parts.objects.put(Chunk.new(video_id, 0, begins_clip=False).key, b"left", "application/octet-stream")
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    other = Lease(rig.redis, LEASES + "orphans", 60)
    assert await other.take()
    await rig.sweeper.sweep_orphans()
    assert len(await rig.keys(video_id)) == 1
    await other.release()
    await rig.sweeper.sweep_orphans()
    assert await rig.keys(video_id) == []


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


async def sealed(rig: Rig) -> str:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    await rig.append(video_id, b"more")
    await rig.sealing.seal(video_id, ())
    return video_id


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

    monkeypatch.setattr(rig.parts.objects, "complete_multipart", delete_behind)
    assert await rig.compaction.compact(video_id)
    assert await rig.store.get(video_id) is None
    assert await rig.keys(video_id) == []
    assert await keys_under(rig.parts.objects, f"videos/{video_id}") == []


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


async def test_of_two_last_chunks_a_sealed_upload_has_the_one_that_its_record_says(rig: Rig) -> None:
    """The other one's bytes would be served under its entity tag."""
    video_id = await sealed(rig)
    # As long, no older, and before the other in a listing.
    orphan = f"{journal_prefix(video_id)}{len(WEBM):016d}-{0:016x}"
    await rig.parts.objects.put(orphan, b"less", "application/octet-stream")
    await rig.store.drop(video_id)
    await rig.journals.get(video_id)
    assert await rig.whole(video_id) == WEBM + b"more"


async def test_what_was_sealed_cannot_be_given_up(rig: Rig) -> None:
    """It is a finished video by then: a client whose abort comes late must not lose it."""
    video_id = await sealed(rig)
    assert await refusal(rig.journals.abort(video_id)) is ErrorReason.UPLOAD_SEALED
    assert await rig.whole(video_id) == WEBM + b"more"
    assert await rig.compaction.compact(video_id)
    assert await refusal(rig.journals.abort(video_id)) is ErrorReason.UPLOAD_SEALED
    video = await rig.parts.catalog.look_up(video_id)
    assert (video.state, await rig.parts.bytes_of(video.object_key)) == (media_pb2.VIDEO_STATE_READY, WEBM + b"more")


async def half_aborted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> str:
    """An upload that its owner gave up as the catalogue did not answer."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)

    async def died(*called: object) -> None:
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(rig.parts.near, "delete", died)
        assert await refusal(rig.journals.abort(video_id)) is ErrorReason.SERVICE_UNAVAILABLE
    return video_id


async def test_what_was_given_up_is_located_by_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chunks go one by one: half of them is no video."""
    video_id = await half_aborted(rig, monkeypatch)
    for look in (rig.journals.locate(video_id, 0, 10, ""), rig.journals.get(video_id), rig.append(video_id, b"more")):
        assert await refusal(look) is ErrorReason.VIDEO_NOT_FOUND
    # The sweeper of idle uploads carries it through, at its next look.
    await rig.sweeper.expire_idle()
    assert await rig.keys(video_id) == []
    assert await rig.store.idle_since(float("inf")) == []
    assert (await rig.parts.catalog.look_up(video_id)).state == media_pb2.VIDEO_STATE_DELETED


async def test_an_abort_that_broke_off_can_be_repeated_by_its_owner(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await half_aborted(rig, monkeypatch)
    as_user("boris")
    assert await refusal(rig.journals.abort(video_id)) is ErrorReason.VIDEO_NOT_FOUND
    as_user("anna")
    await rig.journals.abort(video_id)
    assert (await rig.parts.catalog.look_up(video_id)).state == media_pb2.VIDEO_STATE_DELETED
    assert await rig.store.idle_since(float("inf")) == []
    assert await refusal(rig.journals.abort(video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_what_is_given_up_as_it_is_sealed_is_no_video(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the catalogue has buried it, its record says that it grows."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    step = rig.store.step

    async def just_before(*args: Any, **fields: Any) -> bool:
        await step(video_id, JournalState.ABORTED)
        return await step(*args, **fields)

    monkeypatch.setattr(rig.store, "step", just_before)
    assert await refusal(rig.sealing.seal(video_id, ())) is ErrorReason.VIDEO_NOT_FOUND


async def test_what_is_appended_as_an_idle_upload_is_given_up_keeps_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was acknowledged behind the sweeper's look, and may make a video of it."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM[:3])
    rig.parts.clock.ahead = 86_400 + 60
    step = rig.store.step

    async def just_before(*args: Any, **fields: Any) -> bool:
        await rig.append(video_id, WEBM[3:])
        return await step(*args, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "step", just_before)
        await rig.sweeper.expire_idle()
    await rig.sweeper.expire_idle()
    assert await rig.whole(video_id) == WEBM
    assert (await rig.parts.catalog.look_up(video_id)).state == media_pb2.VIDEO_STATE_UPLOADING


async def test_an_idle_upload_that_grows_as_it_is_sealed_stays_open(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recorder is back: the next chunk would be refused."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    rig.parts.clock.ahead = 86_400 + 60
    step = rig.store.step

    async def just_before(*args: Any, **fields: Any) -> bool:
        await rig.append(video_id, b"back")
        return await step(*args, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "step", just_before)
        await rig.sweeper.expire_idle()
    await rig.sweeper.expire_idle()
    await rig.append(video_id, b"again")
    assert await rig.whole(video_id) == WEBM + b"backagain"


async def test_an_idle_upload_with_a_chunk_on_its_way_stays_open(rig: Rig) -> None:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    rig.parts.clock.ahead = 86_400 - 5

    async def slow() -> AsyncIterator[AppendMessage]:
        yield AppendMessage([b"sl" * SNIFF_BYTES], upload_pb2.AppendHeader(video_id=video_id))
        rig.parts.clock.ahead = 86_400 + 5
        await rig.sweeper.expire_idle()
        as_user("anna")
        yield AppendMessage([b"ow"], None, finish=True)

    await rig.appends.append(slow())
    assert (await rig.whole(video_id)).endswith(b"slow")


async def test_an_idle_upload_whose_chunk_begins_once_all_are_listed_stays_open(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    rig.parts.clock.ahead = 86_400 + 5
    idle_since = rig.store.idle_since
    begun, looked = asyncio.Event(), asyncio.Event()
    appending: list[asyncio.Task[Any]] = []

    async def slow() -> AsyncIterator[AppendMessage]:
        yield AppendMessage([b"sl" * SNIFF_BYTES], upload_pb2.AppendHeader(video_id=video_id))
        begun.set()
        await looked.wait()
        yield AppendMessage([b"ow"], None, finish=True)

    async def and_a_chunk_begins(before: float) -> list[tuple[str, str]]:
        found = await idle_since(before)
        appending.append(asyncio.create_task(rig.appends.append(slow())))
        await begun.wait()
        return found

    monkeypatch.setattr(rig.store, "idle_since", and_a_chunk_begins)
    await rig.sweeper.expire_idle()
    looked.set()
    await appending[0]
    assert (await rig.whole(video_id)).endswith(b"slow")


async def test_an_upload_that_is_deleted_while_it_is_made_takes_no_chunks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is found, by whoever deletes all that there is, before its creator is answered."""
    create = rig.parts.near.create

    async def and_deleted(video: media_pb2.Video) -> media_pb2.Video:
        created = await create(video)
        await rig.journals.abort(video.video_id)
        return created

    monkeypatch.setattr(rig.parts.near, "create", and_deleted)
    video_id = await rig.create()
    assert await refusal(rig.append(video_id, WEBM)) is ErrorReason.VIDEO_NOT_FOUND
    assert await rig.keys(video_id) == []
    assert await rig.redis.keys("{journal*") == []


async def test_an_upload_that_was_not_recorded_gives_its_place_back_after_a_minute(rig: Rig) -> None:
    rig.parts.near.failure = ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
    assert await refusal(rig.create()) is ErrorReason.SERVICE_UNAVAILABLE
    rig.parts.near.failure = None
    kept = await rig.create()
    rig.parts.clock.ahead = 61
    await rig.sweeper.expire_idle()
    assert await rig.store.idle_since(float("inf")) == [(kept, "anna")]
    assert await rig.redis.keys("{journal:*") == [f"{{journal:{kept}}}"]


async def test_a_journal_that_could_not_be_dropped_is_found_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await rig.create()
    await rig.append(video_id, WEBM, idempotency_key="k")

    async def away(video_id: str, after_seconds: float = 0) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "drop", away)
        assert await refusal(rig.journals.abort(video_id)) is ErrorReason.STORE_UNAVAILABLE
    await rig.sweeper.expire_idle()
    assert await rig.redis.keys("{journal*") == []


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
