"""What is given up, by its owner or as idle, goes as a whole; what somebody goes on with or sealed stays."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reelway.v1 import media_pb2, upload_pb2

from services.common.byte_messages import AppendMessage
from services.common.containers import SNIFF_BYTES
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload import redis_journal_store
from services.upload.journal import Journal, JournalState
from tests.integration.journal_parts.rig import Rig, sealed
from tests.support.clips import WEBM
from tests.support.foundation import as_user
from tests.support.journal_client import refusal


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
    # Its record says that it grows: nobody may be answered with it as with what is sealed.
    assert await refusal(rig.sealing.seal(video_id, ())) is ErrorReason.VIDEO_NOT_FOUND
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


async def test_idle_uploads_that_cannot_be_expired_do_not_hold_up_those_behind_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_journal_store, "_BATCH", 1)
    bad, good = [await rig.create() for _ in range(2)]
    get = rig.journals.get

    async def failing_for_one(video_id: str) -> Journal:
        if video_id == bad:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return await get(video_id)

    monkeypatch.setattr(rig.journals, "get", failing_for_one)
    rig.parts.clock.ahead = 86_400 + 60
    for _ in range(2):
        await rig.sweeper.expire_idle()
    assert (await rig.parts.catalog.look_up(good)).state == media_pb2.VIDEO_STATE_DELETED


async def test_idle_uploads_are_expired_some_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [await rig.create() for _ in range(9)]
    get, at_once = rig.journals.get, [0]

    async def counted(video_id: str) -> Journal:
        at_once.append(at_once[-1] + 1)
        try:
            return await get(video_id)
        finally:
            at_once.append(at_once[-1] - 1)

    monkeypatch.setattr(rig.journals, "get", counted)
    rig.parts.clock.ahead = 86_400 + 60
    await rig.sweeper.expire_idle()
    assert 1 < max(at_once) <= 8
    assert {(await rig.parts.catalog.look_up(each)).state for each in videos} == {media_pb2.VIDEO_STATE_DELETED}


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
