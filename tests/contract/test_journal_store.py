"""What appends, their sweeper and the compaction rely on in the journals, on a real Redis."""

import asyncio
import dataclasses
import functools
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis.asyncio as redis

from services.common import redis_client
from services.common.entity_tags import of_journal
from services.common.error_catalog import ErrorReason
from services.common.extents import Extent
from services.common.object_keys import journal_prefix
from services.common.settings import RedisSettings
from services.upload.journal import Chunk, Committed, Journal, JournalState, Limits, Moved
from services.upload.redis_journal_store import RedisJournalStore
from tests.support.journal_client import refusal

LIMITS = Limits(chunks=100, bytes=1000, clips=100, clips_bytes=1000)
FOREVER = float("inf")


@pytest.fixture
async def client(clean_redis: str) -> AsyncIterator[redis.Redis]:
    async with redis_client.connect(RedisSettings(redis_url=clean_redis)) as connected:
        yield connected


@pytest.fixture
def store(client: redis.Redis) -> RedisJournalStore:
    return RedisJournalStore(client)


def journal_of(extents: Sequence[tuple[Extent, str]] = (), owner: str = "anna") -> Journal:
    """An open one; its size and tag are those of its last extent."""
    size, etag = (extents[-1][0].end, extents[-1][1]) if extents else (0, "")
    state = JournalState.OPEN
    return Journal(str(uuid.uuid4()), owner, state, size=size, etag=etag, chunks=len(extents), clips=len(extents[:1]))


def extents_of(sizes: Sequence[int]) -> list[tuple[Extent, str]]:
    found, offset, etag = list[tuple[Extent, str]](), 0, ""
    for size in sizes:
        chunk = Chunk.new("", offset, begins_clip=False)
        offset += size
        etag = of_journal(etag, f'"{size}"', offset)
        found.append((Extent(chunk.offset, size, chunk.name), etag))
    return found


async def commit(
    store: RedisJournalStore,
    journal: Journal,
    offset: int,
    length: int,
    *,
    caller: str = "anna",
    limits: Limits = LIMITS,
    begins_clip: bool = False,
) -> Committed | Moved | None:
    """Of a chunk that is in S3, by whoever was let in before."""
    chunk = dataclasses.replace(
        Chunk.new(journal.video_id, offset, begins_clip=begins_clip), length=length, etag=f'"{length}"'
    )
    return await store.commit(chunk, caller, limits, now=1.0, swept=FOREVER, container=0)


async def test_what_was_restored_stays(store: RedisJournalStore, client: redis.Redis) -> None:
    """Its extents wait for the journal under a key that goes by itself, should whoever restores it die."""
    extents = extents_of([7] * 1500)
    journal = journal_of(extents)
    assert await store.create(journal, extents)
    keys = sorted([key async for key in client.scan_iter(f"*{journal.video_id}*")])
    assert keys == [f"{{journal:{journal.video_id}}}", f"{{journal:{journal.video_id}}}:extents"]
    assert [await client.ttl(key) for key in keys] == [-1, -1]
    located = await store.locate(journal.video_id, 0, journal.size, "", 2000)
    assert located is not None
    assert len(located.extents) == 1500


async def test_of_two_who_restore_a_journal_the_first_counts(store: RedisJournalStore, client: redis.Redis) -> None:
    """The other one's extents would have taken away what was appended since."""
    extents = extents_of([5, 6])
    journal = journal_of(extents)
    assert await store.create(journal, extents)
    assert isinstance(await commit(store, journal, 11, 3), Committed)
    assert not await store.create(journal, extents)
    located = await store.locate(journal.video_id, 0, 100, "", 10)
    assert located is not None
    assert [extent.offset for extent in located.extents] == [0, 5, 11]
    assert (located.size, located.journal.chunks) == (14, 3)
    assert not [key async for key in client.scan_iter("*:restored:*")]


async def test_what_a_restoring_process_left_goes_by_itself(
    store: RedisJournalStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it dies: behind any command, or before the last one."""
    execute: Any = client.execute_command

    async def died(**_: object) -> None:
        raise asyncio.CancelledError

    async def dies_behind_it(*args: Any, **options: Any) -> None:
        await execute(*args, **options)
        raise asyncio.CancelledError

    extents = extents_of([5, 6])
    with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
        patch.setattr(store, "_create", died)
        patch.setattr(client, "execute_command", dies_behind_it)
        await store.create(journal_of(extents), extents)
    [left] = [key async for key in client.scan_iter("*")]
    assert 0 < await client.ttl(left) <= 3600


@pytest.mark.parametrize("lost", [1000, 1500])
async def test_a_journal_whose_extents_were_lost_on_the_way_is_none(
    store: RedisJournalStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Another server takes over that has not all of them: the sweeper would remove the chunks that none names."""
    create: Any = store._create
    extents = extents_of([7] * 1500)
    journal = journal_of(extents)

    async def loses_them(**options: Any) -> Any:
        await client.zremrangebyrank(options["keys"][2], 0, lost - 1)
        return await create(**options)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_create", loses_them)
        assert await refusal(store.create(journal, extents)) is ErrorReason.STORE_UNAVAILABLE
    assert await store.get(journal.video_id) is None
    assert await store.create(journal, extents)


@pytest.mark.parametrize(
    ("state", "reason"),
    [(JournalState.SEALED, ErrorReason.UPLOAD_SEALED), (JournalState.ABORTED, ErrorReason.VIDEO_NOT_FOUND)],
)
async def test_a_chunk_that_comes_behind_the_end_is_not_taken(
    store: RedisJournalStore, state: JournalState, reason: ErrorReason
) -> None:
    """Its append began before: acknowledged, it would be in no video."""
    journal = journal_of()
    await store.create(journal)
    assert isinstance(await commit(store, journal, 0, 5), Committed)
    assert await store.step(journal.video_id, state)
    assert await store.step(journal.video_id, state), "asked again, as where the answer was lost"
    assert await refusal(commit(store, journal, 5, 5)) is reason
    after = await store.get(journal.video_id)
    assert after is not None
    assert (after.state, after.size, after.chunks) == (state, 5, 1)


async def test_limits_hold_for_appends_that_were_let_in_together(store: RedisJournalStore) -> None:
    """Each of them was judged before the others had come."""
    journal, few = journal_of(), dataclasses.replace(LIMITS, chunks=2, bytes=10)
    await store.create(journal)
    await commit(store, journal, 0, 5, limits=few)
    assert await refusal(commit(store, journal, 5, 6, limits=few)) is ErrorReason.FILE_TOO_LARGE
    assert await commit(store, journal, 0, 5, limits=few) == Moved(5)
    assert isinstance(await commit(store, journal, 5, 5, limits=few), Committed)
    assert await refusal(commit(store, journal, 10, 1, limits=few)) is ErrorReason.TOO_MANY_CHUNKS


async def test_limits_of_clips_hold_for_those_that_were_let_in_together(store: RedisJournalStore) -> None:
    journal, few = journal_of(), dataclasses.replace(LIMITS, clips=2, clips_bytes=10)
    await store.create(journal)
    # Of one clip that begins with no signature, as large as it likes.
    await commit(store, journal, 0, 8, limits=few)
    clip = functools.partial(commit, store, journal, limits=few, begins_clip=True)
    assert await refusal(clip(8, 3)) is ErrorReason.CLIPS_TOO_LARGE
    assert isinstance(await clip(8, 1), Committed)
    assert await refusal(clip(9, 1)) is ErrorReason.TOO_MANY_CLIPS
    assert await refusal(commit(store, journal, 9, 2, limits=few)) is ErrorReason.CLIPS_TOO_LARGE
    assert isinstance(await commit(store, journal, 9, 1, limits=few), Committed)
    slices = journal_of()
    await store.create(slices)
    await commit(store, slices, 0, 20, limits=few, begins_clip=True)
    assert isinstance(await commit(store, slices, 20, 20, limits=few), Committed)


async def test_a_chunk_is_taken_from_the_owner_alone(store: RedisJournalStore) -> None:
    hers, nobodys = journal_of(), journal_of(owner="")
    for journal in (hers, nobodys):
        await store.create(journal)
    for caller in ("boris", ""):
        assert await refusal(commit(store, hers, 0, 5, caller=caller)) is ErrorReason.NOT_THE_OWNER
    assert isinstance(await commit(store, hers, 0, 5), Committed)
    assert isinstance(await commit(store, nobodys, 0, 5, caller="boris"), Committed)


async def test_a_chunk_is_located_as_it_was_committed(store: RedisJournalStore) -> None:
    journal = journal_of()
    await store.create(journal)
    assert isinstance(await commit(store, journal, 0, 7), Committed)
    chunk = dataclasses.replace(Chunk.new(journal.video_id, 7, begins_clip=True), length=12, etag='"e"')
    await store.commit(chunk, "anna", LIMITS, now=1.0, swept=FOREVER, container=0)
    located = await store.locate(journal.video_id, 7, 1, "", 1)
    assert located is not None
    assert located.extents == [Extent(7, 12, chunk.key, begins_clip=True)]


async def test_a_chunk_that_may_be_swept_is_not_taken(store: RedisJournalStore) -> None:
    """But one that is in already is there."""
    journal = journal_of()
    await store.create(journal)
    chunk = dataclasses.replace(Chunk.new(journal.video_id, 0, begins_clip=False), length=3, etag='"e"')
    past = functools.partial(store.commit, chunk, "anna", LIMITS, now=1.0, swept=1.0, container=0)
    assert await refusal(past()) is ErrorReason.TIMEOUT
    first = await store.commit(chunk, "anna", LIMITS, now=1.0, swept=FOREVER, container=0)
    assert isinstance(first, Committed)
    assert await past() == first


async def test_an_older_version_ends_where_it_ended(store: RedisJournalStore) -> None:
    journal = journal_of()
    await store.create(journal)
    first = await commit(store, journal, 0, 5)
    second = await commit(store, journal, 5, 6)
    assert isinstance(first, Committed)
    assert isinstance(second, Committed)
    for version, sizes in ((first, [5]), (second, [5, 6])):
        located = await store.locate(journal.video_id, 0, 100, version.etag, 10)
        assert located is not None
        assert (located.size, [extent.length for extent in located.extents]) == (version.size, sizes)
        assert located.extents[0].key.startswith(journal_prefix(journal.video_id))
    for other in ('"sha"', first.etag.replace("-5", "-6"), second.etag.replace("-b", "-5")):
        assert await refusal(store.locate(journal.video_id, 0, 1, other, 10)) is ErrorReason.VIDEO_CHANGED
    empty = journal_of()
    await store.create(empty)
    assert await refusal(store.locate(empty.video_id, 0, 1, first.etag, 10)) is ErrorReason.VIDEO_CHANGED


async def test_what_is_done_for_an_upload_that_has_gone_does_not_bring_it_back(store: RedisJournalStore) -> None:
    journal = journal_of()
    await store.create(journal)
    await store.enter(journal.video_id, "anna", 1.0, 10)
    await store.await_compaction(journal.video_id, 1.0)
    await store.compaction_done(journal.video_id)
    await store.leave(journal.video_id, "anna")
    await store.drop(journal.video_id)
    await store.set_container(journal.video_id, 1)
    await store.looked_at(journal.video_id, "anna", 2.0)
    await store.put_off_compaction(journal.video_id, 2.0)
    assert await store.set_multipart(journal.video_id, "upload", "") == ""
    assert not await store.step(journal.video_id, JournalState.ABORTED)
    assert await store.get(journal.video_id) is None
    assert await store.idle_since(FOREVER) == []
    assert await store.to_compact(FOREVER) == []


async def test_an_upload_that_goes_as_its_container_is_noted_leaves_nothing(
    store: RedisJournalStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a journal could be read by nobody, and would stay."""
    journal = journal_of()
    await store.create(journal)
    execute: Any = client.execute_command

    async def goes_behind_the_first(*args: Any, **options: Any) -> Any:
        answer = await execute(*args, **options)
        monkeypatch.undo()
        await store.drop(journal.video_id)
        return answer

    monkeypatch.setattr(client, "execute_command", goes_behind_the_first)
    await store.set_container(journal.video_id, 1)
    assert [key async for key in client.scan_iter("*")] == []


async def test_a_container_is_noted_once(store: RedisJournalStore) -> None:
    journal = journal_of()
    await store.create(journal)
    for container in (1, 2):
        await store.set_container(journal.video_id, container)
    noted = await store.get(journal.video_id)
    assert noted is not None
    assert noted.container == 1


async def test_an_upload_is_what_its_first_chunk_is(store: RedisJournalStore) -> None:
    """Whatever the next ones look like."""
    journal = journal_of()
    await store.create(journal)
    for offset, container in ((0, 1), (5, 2)):
        chunk = dataclasses.replace(Chunk.new(journal.video_id, offset, begins_clip=True), length=5, etag='"e"')
        await store.commit(chunk, "anna", LIMITS, now=1.0, swept=FOREVER, container=container)
    noted = await store.get(journal.video_id)
    assert noted is not None
    assert (noted.size, noted.container) == (10, 1)


async def test_a_journal_goes_with_all_that_it_has(store: RedisJournalStore, client: redis.Redis) -> None:
    """At once, or after a time in which its readers may still ask."""
    for after in (0.0, 60.0):
        journal = journal_of()
        await store.create(journal)
        chunk = dataclasses.replace(Chunk.new(journal.video_id, 0, begins_clip=True), length=3, etag='"e"')
        await store.commit(chunk, "anna", LIMITS, now=1.0, swept=FOREVER, container=1, idempotency_key="once")
        await store.drop(journal.video_id, after)
        left = [key async for key in client.scan_iter(f"*{journal.video_id}*")]
        assert len(left) == (3 if after else 0)
        assert all([0 < await client.ttl(key) <= after for key in left])


async def test_a_second_upload_of_parts_is_not_noted_over_another(store: RedisJournalStore) -> None:
    """Two are at it where a lease ran out: the second one to note what it began is told, and aborts its own."""
    journal = journal_of()
    await store.create(journal)
    assert await store.set_multipart(journal.video_id, "first", "") == "first"
    assert await store.set_multipart(journal.video_id, "second", "") == "first"
    # The first one is gone from the store; it is known what is replaced.
    assert await store.set_multipart(journal.video_id, "third", "first") == "third"


async def test_an_upload_that_waits_longer_for_its_compaction_keeps_its_time(store: RedisJournalStore) -> None:
    """Who seals again, or sweeps, does not bring one forward that was put off."""
    await store.await_compaction("video", 5.0)
    await store.put_off_compaction("video", 20.0)
    await store.await_compaction("video", 6.0)
    assert await store.to_compact(19.0) == []
    assert await store.to_compact(20.0) == ["video"]


async def test_an_expiry_that_is_put_off_is_behind_the_others_and_of_nothing_that_has_left(
    store: RedisJournalStore,
) -> None:
    one, other, gone = (str(uuid.uuid4()) for _ in range(3))
    assert await store.enter(one, "anna", 1.0, 1)
    assert await store.enter(other, "boris", 2.0, 1)
    for until in (3.0, 1.0):
        await store.put_off_expiry(one, "anna", until)
    await store.put_off_expiry(gone, "anna", 3.0)
    assert await store.idle_since(3.0) == [(other, "boris"), (one, "anna")]


async def test_an_upload_that_is_entered_again_is_no_second_one(store: RedisJournalStore) -> None:
    """The client library repeats a call whose answer was lost, also where that filled the last place."""
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    for _ in range(2):
        assert await store.enter(one, "anna", 1.0, 1)
    assert not await store.enter(other, "anna", 1.0, 1)
    assert await store.enter(other, "boris", 1.0, 1)
    assert await store.idle_since(1.0) == sorted([(one, "anna"), (other, "boris")])
    await store.leave(one, "anna")
    assert await store.enter(other, "anna", 1.0, 1)
