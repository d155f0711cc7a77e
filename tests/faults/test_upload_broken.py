"""Uploads that break off: the store, the catalogue, the client or Redis fails. Nothing half stays for good."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from reelway.v1 import upload_pb2

from services.common.byte_messages import UploadMessage
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.part_plan import MIB, PART
from tests.support.chaos_proxy import ChaosProxy, chaos_proxy
from tests.support.clips import mp4_of
from tests.support.foundation import NOTHING, Foundation, Messages, Store, foundation, messages, open_store
from tests.support.journal_client import refusal
from tests.support.servers import S3Server
from tests.support.waiting import until


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


@pytest.mark.parametrize("known", [True, False])
async def test_parts_that_break_off_are_sent_again(weather: Weather, known: bool) -> None:
    """Both ways to send a part: while it arrives, and when it is whole."""
    data = mp4_of(2 * PART + 700_000)
    weather.proxy.break_uploads(3 * MIB, 5 * MIB, 300_000)
    video = await weather.parts.uploads.upload(messages(data, most=len(data) if known else 0))
    assert await weather.parts.is_whole(video, data)


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

        assert await refusal(parts.uploads.upload(then_it_goes_away())) is ErrorReason.STORE_UNAVAILABLE
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

        assert await refusal(parts.uploads.upload(then_silence())) is ErrorReason.TIMEOUT
        assert await parts.leftovers() == NOTHING


async def test_a_client_that_sends_nothing_at_all_is_given_up(juicefs_store: Store, clean_redis: str) -> None:
    async with foundation(juicefs_store, clean_redis, idle_seconds=0.1) as parts:

        async def nothing() -> Messages:
            await asyncio.Event().wait()
            yield UploadMessage(header=upload_pb2.UploadHeader())

        assert await refusal(parts.uploads.upload(nothing())) is ErrorReason.TIMEOUT


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


async def test_a_stream_that_ends_without_the_announced_last_message_leaves_nothing(parts: Foundation) -> None:
    """Node's HTTP/2 ends a stream before it resets it: a cancelled call looks like one that was finished."""
    header, data = UploadMessage(header=upload_pb2.UploadHeader(announces_finish=True)), mp4_of(PART + 600_000)

    async def sent(*messages: UploadMessage) -> Messages:
        for message in messages:
            yield message

    for broken_off in ((), (UploadMessage([data[:100]]),), (UploadMessage([data]),)):
        assert await refusal(parts.uploads.upload(sent(header, *broken_off))) is ErrorReason.LENGTH_MISMATCH
        assert await parts.leftovers() == NOTHING
    for finished in ((UploadMessage([data], finish=True),), (UploadMessage([data]), UploadMessage(finish=True))):
        behind = UploadMessage([b"no part of the file"])
        assert await parts.is_whole(await parts.uploads.upload(sent(header, *finished, behind)), data)


async def test_a_catalogue_that_refuses_leaves_nothing(parts: Foundation) -> None:
    parts.near.failure = ReelwayError(ErrorReason.INVALID_REQUEST)
    assert await refusal(parts.uploads.upload(messages(mp4_of(100_000)))) is ErrorReason.INVALID_REQUEST
    assert await parts.leftovers() == NOTHING


async def test_redis_that_is_emptied_ends_the_uploads_under_way_cleanly(each_store: Store, clean_redis: str) -> None:
    async with foundation(each_store, clean_redis, lease_seconds=0.4) as parts:

        async def then_it_is_emptied() -> Messages:
            async for message in messages(mp4_of(PART + 100_000)):
                yield message
            await parts.redis.flushall()
            await asyncio.Event().wait()

        assert await refusal(parts.uploads.upload(then_it_is_emptied())) is ErrorReason.STORE_UNAVAILABLE
        assert await parts.leftovers() == NOTHING
