"""Uploads that break off: the store, the catalogue, the client or Redis fails. Nothing half stays for good."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator

import pytest
from reelway.v1 import catalog_pb2, media_pb2, upload_pb2

from services.catalog.rebuild import rebuild
from services.common.byte_messages import UploadMessage
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.open_uploads import OpenUpload
from services.upload.part_plan import MIB, PART
from tests.support.chaos_proxy import ChaosProxy, chaos_proxy
from tests.support.clips import mp4_of
from tests.support.foundation import NOTHING, Foundation, Store, as_user, foundation, messages, open_store
from tests.support.servers import S3Server
from tests.support.waiting import until

Messages = AsyncIterator[UploadMessage]


class Weather:
    """A foundation behind a proxy that breaks."""

    def __init__(self, parts: Foundation, proxy: ChaosProxy) -> None:
        self.parts, self.proxy = parts, proxy


@pytest.fixture(scope="module")
async def stormy_store(s3_server: S3Server) -> AsyncIterator[tuple[Store, ChaosProxy]]:
    async with chaos_proxy(s3_server.endpoint_url) as proxy, open_store(s3_server, proxy.url) as store:
        yield store, proxy


@pytest.fixture
async def weather(stormy_store: tuple[Store, ChaosProxy], clean_redis: str) -> AsyncIterator[Weather]:
    store, proxy = stormy_store
    async with foundation(store, clean_redis) as parts:
        yield Weather(parts, proxy)
    proxy.come_back()
    assert proxy.unused == 0, "a break that was asked for did not happen"


async def is_whole(parts: Foundation, video: media_pb2.Video, data: bytes) -> bool:
    return hashlib.sha256(await parts.bytes_of(video.object_key)).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("known", [True, False])
async def test_parts_that_break_off_are_sent_again(weather: Weather, known: bool) -> None:
    """Both ways to send a part: while it arrives, and when it is whole."""
    data = mp4_of(2 * PART + 700_000)
    weather.proxy.break_uploads(3 * MIB, 5 * MIB, 300_000)
    video = await weather.parts.uploads.upload(messages(data, most=len(data) if known else 0))
    assert await is_whole(weather.parts, video, data)


@pytest.mark.usefixtures("hasty_writes")
async def test_a_store_that_stays_away_ends_the_upload_and_the_sweep_gets_what_is_left(
    juicefs_s3: S3Server, clean_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many tries as ever; only the SDK's seconds between them, some ten in all, tell nothing.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    data = mp4_of(PART + 2_000_000)
    async with (
        chaos_proxy(juicefs_s3.endpoint_url) as proxy,
        open_store(juicefs_s3.with_new_bucket(), proxy.url) as store,
        foundation(store, clean_redis) as parts,
    ):

        async def then_it_goes_away() -> Messages:
            async for message in messages(data):
                yield message
            proxy.go_down()

        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(then_it_goes_away())
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
        proxy.come_back()
        assert (await parts.leftovers())["multiparts"], "nobody could take it away"
        await parts.sweeper().sweep()
        assert (await parts.leftovers())["multiparts"], "its time is not up"
        parts.clock.ahead = 61
        await parts.sweeper().sweep()
        assert await parts.leftovers() == NOTHING


async def test_an_upload_that_goes_silent_is_given_up(each_store: Store, clean_redis: str) -> None:
    async with foundation(each_store, clean_redis, idle_seconds=0.2) as parts:
        silence = asyncio.Event()

        async def then_silence() -> Messages:
            async for message in messages(mp4_of(PART + 1_000_000)):
                yield message
            await silence.wait()

        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(then_silence())
        assert refused.value.reason is ErrorReason.TIMEOUT
        assert await parts.leftovers() == NOTHING


async def test_a_client_that_sends_nothing_at_all_is_given_up(juicefs_store: Store, clean_redis: str) -> None:
    async with foundation(juicefs_store, clean_redis, idle_seconds=0.1) as parts:

        async def nothing() -> Messages:
            await asyncio.Event().wait()
            yield UploadMessage(header=upload_pb2.UploadHeader())

        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(nothing())
        assert refused.value.reason is ErrorReason.TIMEOUT


@pytest.mark.parametrize("at", [10_000, PART + 600_000])
async def test_a_client_that_vanishes_leaves_nothing(parts: Foundation, at: int) -> None:
    reached = asyncio.Event()

    async def then_it_vanishes() -> Messages:
        async for message in messages(mp4_of(at), most=at + 5 * MIB):
            yield message
        reached.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(parts.uploads.upload(then_it_vanishes()))
    await reached.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await parts.uploads.undoing.wait()
    assert await parts.leftovers() == NOTHING
    await until(lambda: not parts.uploads.undoing._going)


async def test_a_vanished_client_s_room_is_free_once_its_upload_is_undone(
    juicefs_store: Store, clean_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are in memory until then, whatever became of the call."""
    reached, undoing, may_undo = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def then_it_vanishes() -> Messages:
        async for message in messages(mp4_of(10_000)):
            yield message
        reached.set()
        await asyncio.Event().wait()

    async with foundation(juicefs_store, clean_redis, buffer_bytes=PART) as parts:
        abort = parts.objects.abort_multipart

        async def slowly(key: str, upload_id: str) -> None:
            undoing.set()
            await may_undo.wait()
            await abort(key, upload_id)

        async def is_refused() -> bool:
            try:
                await parts.uploads.upload(messages(mp4_of(10_000)))
            except ReelwayError as error:
                return error.reason is ErrorReason.TOO_MANY_REQUESTS
            return False

        monkeypatch.setattr(parts.objects, "abort_multipart", slowly)
        upload = asyncio.create_task(parts.uploads.upload(then_it_vanishes()))
        await reached.wait()
        assert await is_refused()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await undoing.wait()
        assert await is_refused()
        may_undo.set()
        await parts.uploads.undoing.wait()
        assert await parts.leftovers() == NOTHING
        assert not await is_refused()


async def test_whatever_ends_an_upload_makes_room_for_the_next(juicefs_store: Store, clean_redis: str) -> None:
    data = mp4_of(100_000)

    async def fits(parts: Foundation) -> bool:
        return (await parts.uploads.upload(messages(data))).size_bytes == len(data)

    async def broken_off() -> Messages:
        async for message in messages(data):
            yield message
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)

    async with foundation(juicefs_store, clean_redis, buffer_bytes=PART, max_bytes=2 * MIB, idle_seconds=0.1) as parts:
        for ending in (
            messages(b""),
            messages(b"no video"),
            messages(mp4_of(2 * MIB + 1)),
            messages(data, declared=len(data) + 1),
            broken_off(),
        ):
            with pytest.raises(ReelwayError) as refused:
                await parts.uploads.upload(ending)
            assert refused.value.reason is not ErrorReason.TOO_MANY_REQUESTS
            assert await fits(parts)
        parts.near.failure = RuntimeError("a fault of ours")
        with pytest.raises(RuntimeError):
            await parts.uploads.upload(messages(data))
        parts.near.failure = None
        for turns in range(40):
            # In each of its first turns: before its header is read, and while its work begins.
            upload = asyncio.create_task(parts.uploads.upload(messages(data)))
            for _ in range(turns):
                await asyncio.sleep(0)
            upload.cancel()
            await asyncio.wait([upload])
            await parts.uploads.undoing.wait()
        assert await fits(parts)


@pytest.mark.parametrize("client_leaves", [False, True])
async def test_what_the_store_began_without_an_answer_is_swept(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, client_leaves: bool
) -> None:
    begin, begun, may_fail = parts.objects.create_multipart, asyncio.Event(), asyncio.Event()

    async def unanswered(key: str, content_type: str) -> str:
        await begin(key, content_type)
        begun.set()
        await may_fail.wait()
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    monkeypatch.setattr(parts.objects, "create_multipart", unanswered)
    upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
    await begun.wait()
    if client_leaves:
        upload.cancel()
        await asyncio.wait([upload])
    may_fail.set()
    await asyncio.wait([upload])
    await parts.uploads.undoing.wait()
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


@pytest.mark.parametrize("reason", [ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.CALL_TOKEN_REFUSED])
async def test_a_catalogue_that_is_away_at_the_end_leaves_the_sweep_to_decide(
    parts: Foundation, reason: ErrorReason
) -> None:
    """Whether the record was made is not known, nor by a try before the last one; the bytes stay until it is."""
    for done in (False, True):
        parts.near.failure, parts.near.after = ReelwayError(reason), done
        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(messages(mp4_of(100_000)))
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
        left = await parts.leftovers()
        assert left["objects"] == left["entries"]
        assert len(left["entries"]) == 1
        await parts.sweeper().sweep()
        assert await parts.leftovers() == left, "its time is not up"
        parts.near.failure = None
        parts.clock.ahead += 61
        await parts.sweeper().sweep()
        left = await parts.leftovers()
        assert left["multiparts"] == left["entries"] == []
        assert len(left["objects"]) == len(left["records"]) == int(done)


async def test_a_catalogue_that_cannot_be_asked_keeps_the_sweep_from_deleting(parts: Foundation) -> None:
    parts.near.failure, parts.near.after = ReelwayError(ErrorReason.SERVICE_UNAVAILABLE), True
    with pytest.raises(ReelwayError):
        await parts.uploads.upload(messages(mp4_of(100_000)))
    parts.clock.ahead = 61
    await parts.redis.delete("{catalog}:index:3")
    await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert len(left["objects"]) == len(left["entries"]) == 1


async def test_an_index_that_is_lost_when_the_record_is_saved_keeps_the_bytes(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is in S3 by then, and the rebuilt index has it: its object must be there."""
    save, data = parts.records.save, mp4_of(100_000)

    async def then_lost(video: media_pb2.Video) -> None:
        await save(video)
        await parts.videos.clear()

    monkeypatch.setattr(parts.records, "save", then_lost)
    with pytest.raises(ReelwayError):
        await parts.uploads.upload(messages(data))
    await rebuild(parts.records, parts.objects, parts.videos, parts.rebuild_lease(), writers_seconds=0)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    (video,), _ = await parts.catalog.page("", 10, "")
    assert await is_whole(parts, video, data)
    assert (await parts.leftovers())["entries"] == []


async def test_an_upload_that_redis_forgets_on_its_way_to_the_catalog_leaves_nothing(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = parts.near.create

    async def late(video: media_pb2.Video) -> media_pb2.Video:
        await parts.redis.flushall()
        return await create(video)

    monkeypatch.setattr(parts.near, "create", late)
    with pytest.raises(ReelwayError) as refused:
        await parts.uploads.upload(messages(mp4_of(100_000)))
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    await rebuild(parts.records, parts.objects, parts.videos, parts.rebuild_lease(), writers_seconds=0)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


async def test_a_stream_that_ends_without_the_announced_last_message_leaves_nothing(parts: Foundation) -> None:
    """Node's HTTP/2 ends a stream before it resets it: a cancelled call looks like one that was finished."""
    header, data = UploadMessage(header=upload_pb2.UploadHeader(announces_finish=True)), mp4_of(PART + 600_000)

    async def sent(*messages: UploadMessage) -> Messages:
        for message in messages:
            yield message

    for broken_off in ((), (UploadMessage([data[:100]]),), (UploadMessage([data]),)):
        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(sent(header, *broken_off))
        assert refused.value.reason is ErrorReason.LENGTH_MISMATCH
        assert await parts.leftovers() == NOTHING
    for finished in ((UploadMessage([data], finish=True),), (UploadMessage([data]), UploadMessage(finish=True))):
        behind = UploadMessage([b"no part of the file"])
        assert await is_whole(parts, await parts.uploads.upload(sent(header, *finished, behind)), data)


async def test_a_catalogue_that_refuses_leaves_nothing(parts: Foundation) -> None:
    parts.near.failure = ReelwayError(ErrorReason.INVALID_REQUEST)
    with pytest.raises(ReelwayError) as refused:
        await parts.uploads.upload(messages(mp4_of(100_000)))
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
    assert await parts.leftovers() == NOTHING


async def test_a_private_video_s_bytes_are_never_swept(parts: Foundation) -> None:
    """Its entry survived a crash between the record and the strike-out; only its owner sees the record."""
    as_user("anna")
    video = await parts.uploads.upload(messages(mp4_of(100_000)))
    await parts.catalog.update("anna", catalog_pb2.UpdateVideoRequest(video_id=video.video_id, is_private=True))
    await parts.register.begin(OpenUpload(video.video_id, video.object_key, "anna"))
    as_user("")
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    left = await parts.leftovers()
    assert left["objects"] == [video.object_key]
    assert left["entries"] == []


async def test_a_live_upload_is_never_swept(each_store: Store, clean_redis: str) -> None:
    """It lasts for more than two leases; its heart beats, on a machine that is busy, too."""
    async with foundation(each_store, clean_redis, lease_seconds=1.5) as parts:
        swept = asyncio.Event()
        data = mp4_of(PART + 100_000)

        async def slow() -> Messages:
            async for message in messages(data[:-1]):
                yield message
            await swept.wait()
            yield UploadMessage([data[-1:]])

        upload = asyncio.create_task(parts.uploads.upload(slow()))
        await until(lambda: _has_multipart(parts))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() < begun + 3.2:
            await parts.sweeper(orphan_seconds=0).sweep()
            await asyncio.sleep(0.1)
        assert not upload.done()
        swept.set()
        assert await is_whole(parts, await upload, data)


async def _has_multipart(parts: Foundation) -> bool:
    return bool((await parts.leftovers())["multiparts"])


@pytest.mark.usefixtures("hasty_writes")
async def test_an_upload_that_was_swept_while_it_was_frozen_makes_no_video(parts: Foundation) -> None:
    """A process that was stopped for longer than its lease wakes up to find its object gone."""
    data = mp4_of(100_000)

    async def frozen() -> Messages:
        async for message in messages(data):
            yield message
        parts.clock.ahead += 61
        await parts.sweeper().sweep()

    with pytest.raises(ReelwayError) as refused:
        await parts.uploads.upload(frozen())
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    parts.clock.ahead += 61
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING


async def test_an_upload_that_wakes_up_while_it_is_swept_makes_no_video(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with its object complete; it goes on when the sweeper has asked for the record, and not yet deleted."""
    asleep, woken = asyncio.Event(), asyncio.Event()
    renew, get = parts.register.renew, parts.near.get

    async def late(upload: OpenUpload) -> bool:
        asleep.set()
        await woken.wait()
        return await renew(upload)

    monkeypatch.setattr(parts.register, "renew", late)
    upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
    await asleep.wait()

    async def then_it_wakes(*, video_id: str = "", number: int = 0) -> media_pb2.Video:
        try:
            return await get(video_id=video_id, number=number)
        finally:
            woken.set()
            await asyncio.wait([upload])

    monkeypatch.setattr(parts.near, "get", then_it_wakes)
    parts.clock.ahead = 61
    await parts.sweeper().sweep()
    with pytest.raises(ReelwayError) as refused:
        await upload
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert await parts.leftovers() == NOTHING


@pytest.mark.parametrize("away", [False, True])
async def test_an_upload_that_was_swept_on_its_way_to_the_catalog_makes_no_video(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """Frozen behind its last look at the register, and in front of the catalog, which may be away when it is undone."""
    create, asked = parts.near.create, []

    async def late(video: media_pb2.Video) -> media_pb2.Video:
        asked.append(video.video_id)
        parts.clock.ahead = 61
        await parts.sweeper().sweep()
        return await create(video)

    async def unavailable(video_id: str) -> None:
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)

    monkeypatch.setattr(parts.near, "create", late)
    with monkeypatch.context() as patched, pytest.raises(ReelwayError) as refused:
        if away:
            patched.setattr(parts.near, "delete", unavailable)
        await parts.uploads.upload(messages(mp4_of(100_000)))
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    parts.clock.ahead += 61
    await parts.sweeper().sweep()
    with pytest.raises(ReelwayError) as gone:
        await parts.near.get(video_id=asked[0])
    assert gone.value.reason is ErrorReason.VIDEO_NOT_FOUND
    # The record of a video that was deleted stays for its number.
    assert await parts.leftovers() == NOTHING | {"records": [f"catalog/{asked[0]}.json"]}


@pytest.mark.parametrize("cancels", ["heartbeat", "client"])
async def test_what_a_swept_upload_recorded_is_undone_to_the_end(
    each_store: Store, clean_redis: str, monkeypatch: pytest.MonkeyPatch, cancels: str
) -> None:
    """When it wakes up, its heart beats and finds the entry gone, and the gateway has long broken the call off."""
    async with foundation(each_store, clean_redis, lease_seconds=0.4 if cancels == "heartbeat" else 60) as parts:
        create = parts.near.create

        async def late(video: media_pb2.Video) -> media_pb2.Video:
            parts.clock.ahead = 61
            await parts.sweeper().sweep()
            recorded = await create(video)
            if cancels == "client":
                upload.cancel()
            else:
                await asyncio.sleep(2 * parts.register.heartbeat_seconds)
            return recorded

        monkeypatch.setattr(parts.near, "create", late)
        upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(100_000))))
        await asyncio.wait([upload])
        assert upload.cancelled() or upload.exception() is not None
        await parts.uploads.undoing.wait()
        assert (await parts.catalog.page("", 10, ""))[0] == []


async def test_multipart_uploads_that_nobody_knows_are_swept_when_they_are_old(
    juicefs_store: Store, clean_redis: str
) -> None:
    """Redis was emptied under them; a living one has its entry. (moto's multipart uploads all began in 2010.)"""
    async with foundation(juicefs_store, clean_redis) as parts:
        known = OpenUpload("a", "videos/a.mp4", "")
        await parts.register.begin(known)
        await parts.objects.create_multipart(known.key, "video/mp4")
        await parts.objects.create_multipart("videos/b.mp4", "video/mp4")
        await parts.sweeper(orphan_seconds=30).sweep()
        assert sorted((await parts.leftovers())["multiparts"]) == ["videos/a.mp4", "videos/b.mp4"]
        parts.clock.ahead = 40
        await parts.sweeper(orphan_seconds=30).sweep()
        assert (await parts.leftovers())["multiparts"] == ["videos/a.mp4"]


async def test_a_failed_upload_does_not_keep_the_next_from_being_swept(parts: Foundation) -> None:
    """One entry that cannot be judged now must not hold up the others."""
    for number in range(3):
        await parts.register.begin(OpenUpload(str(uuid.uuid4()), f"videos/{number}.mp4", ""))
        await parts.objects.put(f"videos/{number}.mp4", b"bytes", "video/mp4")
    parts.clock.ahead = 61
    delete = parts.objects.delete

    async def failing(key: str) -> None:
        if key == "videos/0.mp4":
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        await delete(key)

    parts.objects.delete = failing  # type: ignore[method-assign]
    try:
        await parts.sweeper().sweep()
    finally:
        parts.objects.delete = delete  # type: ignore[method-assign]
    left = await parts.leftovers()
    assert left["objects"] == left["entries"] == ["videos/0.mp4"]
    parts.clock.ahead = 0
    await parts.sweeper().sweep()
    assert await parts.leftovers() == NOTHING, "what a sweep took is for the next one"


async def test_redis_that_is_emptied_ends_the_uploads_under_way_cleanly(each_store: Store, clean_redis: str) -> None:
    async with foundation(each_store, clean_redis, lease_seconds=0.4) as parts:

        async def then_it_is_emptied() -> Messages:
            async for message in messages(mp4_of(PART + 100_000)):
                yield message
            await parts.redis.flushall()
            await asyncio.Event().wait()

        with pytest.raises(ReelwayError) as refused:
            await parts.uploads.upload(then_it_is_emptied())
        assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
        assert await parts.leftovers() == NOTHING
