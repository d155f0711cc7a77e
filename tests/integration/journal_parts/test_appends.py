"""An append is there once or not at all: its commit unanswered, sent twice, overtaken, late, or its journal lost."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reelway.v1 import media_pb2, upload_pb2

from services.common.byte_messages import AppendMessage
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_objects import ObjectInfo
from services.common.tasks import end
from services.upload import appends
from services.upload.chunk_writer import ChunkWriter
from services.upload.journal import Committed, Moved
from tests.integration.journal_parts.rig import ORPHAN_SECONDS, Rig
from tests.support.clips import WEBM
from tests.support.journal_client import refusal
from tests.support.waiting import until


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


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1)])
async def test_nothing_is_located_before_the_first_byte(rig: Rig, offset: int, length: int) -> None:
    """It would be told of extents that hold none of it."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    assert await refusal(rig.journals.locate(video_id, offset, length, "")) is ErrorReason.INVALID_REQUEST


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


async def test_a_journal_is_made_again_though_whoever_needs_it_has_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of many chunks takes longer than a call: each would begin with their listing, and none come to its end."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    await rig.store.drop(video_id)
    listed, go_on, listing = list[str](), asyncio.Event(), rig.parts.objects.list

    async def slow(prefix: str) -> AsyncIterator[ObjectInfo]:
        listed.append(prefix)
        await go_on.wait()
        async for info in listing(prefix):
            yield info

    monkeypatch.setattr(rig.parts.objects, "list", slow)
    leaving = asyncio.create_task(rig.journals.get(video_id))
    await until(lambda: bool(listed))
    await end(leaving)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.journals.get(video_id), 0.1)
    go_on.set()

    async def made() -> bool:
        return await rig.store.get(video_id) is not None

    # By nobody who asks for it now.
    await until(made)
    assert (await rig.journals.get(video_id)).size == len(WEBM)
    assert len(listed) == 1


async def test_an_append_that_slept_until_its_chunk_may_be_swept_adds_nothing(rig: Rig) -> None:
    """A process can be frozen, or its machine, between storing a chunk and committing it."""
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    # It began so long ago.
    rig.parts.clock.ahead = -ORPHAN_SECONDS - 60
    assert await refusal(rig.append(video_id, b"late")) is ErrorReason.TIMEOUT
    assert await rig.whole(video_id) == WEBM


async def test_a_client_is_told_of_its_own_pace_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a store that takes the chunk too late, which may be quicker the next time."""
    video_id, never = await rig.create(), asyncio.Event()
    monkeypatch.setattr(rig.appends, "_longest_seconds", 0.1)

    async def begun() -> AsyncIterator[AppendMessage]:
        yield AppendMessage([WEBM], upload_pb2.AppendHeader(video_id=video_id))
        await never.wait()

    assert await refusal(rig.appends.append(begun())) is ErrorReason.CHUNK_TOO_SLOW
    assert ErrorReason.CHUNK_TOO_SLOW.value.http_status == 408
    monkeypatch.setattr(appends, "_STORE_SECONDS", 0.1)
    monkeypatch.setattr(rig.parts.store, "put", lambda *_: never.wait())
    with pytest.raises(TimeoutError):
        await rig.append(video_id, WEBM)


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
