"""What an upload may become, and what becomes of one that is left alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
import redis.asyncio
from reelway.v1 import media_pb2, upload_pb2
from yarl import URL

from deploy.local.ports import free_port
from gateway import client_stream
from gateway.upload_backend import UploadBackend
from services.common.caller import Caller, set_caller
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.upload.journals import Journals
from services.upload.redis_journal_store import RedisJournalStore
from tests.support.clips import WEBM
from tests.support.fleet import Fleet, start_fleet
from tests.support.journal_client import JournalClient, connect, keys_under, open_objects, refusal
from tests.support.servers import S3Server
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def fleet(redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    settings = {
        "UPLOAD_MAX_BYTES": "20000",
        "APPEND_MAX_BYTES": "8000",
        "APPEND_MAX_CHUNKS": "5",
        "JOIN_MAX_CLIPS": "3",
        "JOIN_MAX_BYTES": "12000",
        "APPEND_OPEN_PER_OWNER": "3",
    }
    async with start_fleet(redis_url, juicefs_s3, tmp_path_factory.mktemp("limits"), settings) as running:
        yield running


@pytest.fixture(scope="module")
async def client(fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(fleet) as found:
        yield found


@pytest.fixture(scope="module")
async def hasty_fleet(
    redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    """It leaves no time for what a busy machine does between two calls: for tests of these times alone."""
    settings = {
        "APPEND_IDLE_EXPIRY_SECONDS": "5",
        "APPEND_EXPIRY_INTERVAL_SECONDS": "0.2",
        "UPLOAD_IDLE_SECONDS": "1.5",
        "APPEND_MAX_SECONDS": "4",
        "APPEND_ORPHAN_SECONDS": "4",
        "APPEND_ORPHAN_INTERVAL_SECONDS": "0.3",
    }
    # Where the other one sweeps nothing.
    elsewhere, bucket = str(URL(redis_url).with_path("/1")), juicefs_s3.with_new_bucket()
    async with start_fleet(elsewhere, bucket, tmp_path_factory.mktemp("hasty"), settings) as running:
        yield running


@pytest.fixture(scope="module")
async def hasty(hasty_fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(hasty_fleet) as found:
        yield found


async def test_a_chunk_is_limited_before_and_while_it_comes(client: JournalClient) -> None:
    video = await client.create()
    assert await refusal(client.append(video.video_id, b"x" * 8001)) is ErrorReason.CHUNK_TOO_LARGE
    for header in (
        upload_pb2.AppendHeader(video_id=video.video_id, declared_size_bytes=8001),
        upload_pb2.AppendHeader(video_id=video.video_id, max_size_bytes=8001 + 2**20),
    ):
        call = client.open_append()
        # Told by the header alone, before a byte of the chunk.
        await call.write(upload_pb2.AppendRequest(header=header, data=b"x" * 5000))
        assert await refusal(_answer(call)) is ErrorReason.CHUNK_TOO_LARGE
    await client.append(video.video_id, b"x" * 8000)
    await client.append(video.video_id, b"x" * 8000)
    assert await refusal(client.append(video.video_id, b"x" * 4001)) is ErrorReason.FILE_TOO_LARGE
    await client.append(video.video_id, b"x" * 4000)
    assert await refusal(client.append(video.video_id, b"x")) is ErrorReason.FILE_TOO_LARGE
    assert (await client.upload(video.video_id)).size_bytes == 20_000


async def test_a_chunk_of_unknown_length_is_refused_where_the_upload_is_full(client: JournalClient) -> None:
    video = await client.create()
    await client.append(video.video_id, b"x" * 8000)
    await client.append(video.video_id, b"x" * 8000)
    # There is room for 4000, and the chunk has not ended.
    assert await begun(client, video, b"x" * 5000) is ErrorReason.FILE_TOO_LARGE


async def test_clips_are_limited_to_what_can_be_joined(client: JournalClient) -> None:
    several, large, one = [await client.create() for _ in range(3)]
    clip = WEBM.ljust(5000, b"x")
    for _ in range(3):
        await client.append(several.video_id, WEBM)
    # Told by its first bytes, before the others.
    assert await begun(client, several, clip) is ErrorReason.TOO_MANY_CLIPS
    await client.append(several.video_id, b"more of the last one")
    assert (await client.upload(several.video_id)).clip_count == 3
    for _ in range(2):
        await client.append(large.video_id, clip)
    assert await begun(client, large, b"x" * 5000) is ErrorReason.CLIPS_TOO_LARGE
    # And by the header alone.
    assert await begun(client, large, b"", declared=2001) is ErrorReason.CLIPS_TOO_LARGE
    await client.append(large.video_id, b"x" * 2000)
    await client.append(one.video_id, WEBM.ljust(8000, b"x"))
    await client.append(one.video_id, b"x" * 8000)
    assert await begun(client, one, clip) is ErrorReason.CLIPS_TOO_LARGE
    await client.append(one.video_id, b"x" * 4000)
    assert (await client.upload(one.video_id)).clip_count == 1


async def begun(client: JournalClient, video: media_pb2.Video, data: bytes, declared: int = 0) -> ErrorReason:
    """What an append that has not ended is refused with."""
    call = client.open_append()
    header = upload_pb2.AppendHeader(video_id=video.video_id, declared_size_bytes=declared)
    await call.write(upload_pb2.AppendRequest(header=header, data=data))
    return await refusal(_answer(call))


async def _answer(call: object) -> object:
    try:
        return await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def test_the_number_of_chunks_is_limited(client: JournalClient) -> None:
    video = await client.create()
    for _ in range(5):
        await client.append(video.video_id, b"x")
    assert await begun(client, video, b"x" * 5000) is ErrorReason.TOO_MANY_CHUNKS
    assert await refusal(client.append(video.video_id, b"x")) is ErrorReason.TOO_MANY_CHUNKS


async def test_open_uploads_are_limited_per_owner_until_they_end(client: JournalClient) -> None:
    alice, bob = client.as_user("alice"), client.as_user("bob")
    mine = [await alice.create() for _ in range(3)]
    assert await refusal(alice.create()) is ErrorReason.TOO_MANY_UPLOADS
    await bob.create()
    await alice.abort(mine[0].video_id)
    await alice.create()
    await alice.append(mine[1].video_id, WEBM)
    await alice.seal(mine[1].video_id)
    assert await begun(alice, mine[1], b"x" * 5000) is ErrorReason.UPLOAD_SEALED
    await alice.create()
    assert await refusal(alice.create()) is ErrorReason.TOO_MANY_UPLOADS
    # One that cannot be made does not count.
    assert await refusal(client.as_user("carol").create(title="t" * 256)) is ErrorReason.INVALID_REQUEST
    for _ in range(3):
        await client.as_user("carol").create()


async def test_an_upload_that_could_not_be_made_holds_its_place_for_a_minute(redis_url: str) -> None:
    week = 7 * 86_400.0
    nobody = open_channel(f"127.0.0.1:{free_port()}")
    # In a database of its own, where no sweeper looks.
    elsewhere = str(URL(redis_url).with_path("/9"))
    async with nobody, redis.asyncio.Redis.from_url(elsewhere, decode_responses=True) as connection:
        store = RedisJournalStore(connection)
        journals = Journals(
            store=store,
            objects=cast(Any, None),
            data=cast(Any, None),
            catalog=CatalogClient(nobody),
            clock=SystemClock(),
            open_per_owner=1,
            open_of_nobody=2,
            idle_seconds=week,
        )
        set_caller(Caller(user="dora"))
        assert await refusal(journals.create("", "", "a.mp4")) is ErrorReason.SERVICE_UNAVAILABLE
        assert await refusal(journals.create("", "", "a.mp4")) is ErrorReason.TOO_MANY_UPLOADS
        before = SystemClock().seconds() - week
        assert await store.idle_since(before) == []
        assert [owner for _, owner in await store.idle_since(before + 61)] == ["dora"]
        # All clients without a token have places of their own, together.
        set_caller(Caller())
        for reason in (ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.TOO_MANY_UPLOADS):
            assert await refusal(journals.create("", "", "a.mp4")) is reason


async def is_gone(client: JournalClient, video_id: str) -> bool:
    try:
        await client.video(video_id)
    except ReelwayError as error:
        return error.reason is ErrorReason.VIDEO_NOT_FOUND
    return False


async def test_an_idle_upload_is_sealed_if_it_is_a_video_and_goes_if_not(
    hasty: JournalClient, hasty_fleet: Fleet
) -> None:
    video, nothing, empty = [await hasty.create() for _ in range(3)]
    await hasty.append(video.video_id, WEBM)
    await hasty.append(nothing.video_id, b"no video")
    now = asyncio.get_running_loop().time
    size, appended = len(WEBM), now()

    async def the_idle_one_is_gone() -> bool:
        nonlocal size, appended
        if now() - appended > 3:
            # Not idle as long as something comes.
            size, appended = (await hasty.append(video.video_id, b"more")).size_bytes, now()
        return await is_gone(hasty, nothing.video_id)

    await until(the_idle_one_is_gone)
    assert size > len(WEBM)
    assert (await hasty.upload(video.video_id)).state == upload_pb2.UPLOAD_STATE_OPEN

    async def is_ready() -> bool:
        return (await hasty.video(video.video_id)).state == media_pb2.VIDEO_STATE_READY

    await until(is_ready)
    assert len(await hasty.whole(video.video_id)) == size
    for gone in (nothing, empty):
        await until(lambda video_id=gone.video_id: is_gone(hasty, video_id))  # type: ignore[misc]
        assert await refusal(hasty.append(gone.video_id, b"x")) is ErrorReason.VIDEO_NOT_FOUND
        async with open_objects(hasty_fleet) as objects:
            assert not await keys_under(objects, f"journal/{gone.video_id}/")


async def drops(pause: float, count: int) -> AsyncIterator[bytes]:
    yield WEBM
    for _ in range(count):
        await asyncio.sleep(pause)
        yield b"drop"


async def test_a_slow_client_is_no_silent_one(
    hasty: JournalClient, hasty_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the gateway's side of the calls: it gathers, but not for as long as a service waits for a message."""
    monkeypatch.setattr(client_stream, "LONGEST_GATHERING", 0.2)
    set_caller(Caller(request_id="slow"))
    # Longer in all than the service waits for a message, and far from as long as an append may take.
    count = 6
    video_id = (await hasty.create()).video_id
    header = upload_pb2.AppendHeader(video_id=video_id, max_size_bytes=5000)
    async with open_channel(hasty_fleet.target("upload")) as channel:
        backend = UploadBackend(channel, 20)
        whole, appended = await asyncio.gather(
            backend.upload(drops(0.3, count), "slow.webm", 0),
            backend.append(header, drops(0.3, count)),
        )
    size = len(WEBM) + count * len(b"drop")
    assert (whole.video.size_bytes, appended.size_bytes) == (size, size)


async def test_a_silent_append_is_ended(hasty: JournalClient) -> None:
    video = await hasty.create()
    call = hasty.open_append()
    await call.write(upload_pb2.AppendRequest(header=upload_pb2.AppendHeader(video_id=video.video_id), data=b"x"))
    assert await refusal(_answer(call)) is ErrorReason.TIMEOUT
    assert (await hasty.upload(video.video_id)).size_bytes == 0


async def test_an_append_that_is_never_silent_is_ended_once_it_lasts_too_long(hasty: JournalClient) -> None:
    video = await hasty.create()
    call = hasty.open_append()
    first = upload_pb2.AppendRequest(header=upload_pb2.AppendHeader(video_id=video.video_id), data=WEBM)
    now = asyncio.get_running_loop().time
    began = now()

    async def drip() -> None:
        await call.write(first)
        while now() - began < 8:
            await asyncio.sleep(0.3)
            await call.write(upload_pb2.AppendRequest(data=b"x"))
        await call.write(upload_pb2.AppendRequest(finish=True))

    dripping = asyncio.create_task(drip())
    assert await refusal(_answer(call)) is ErrorReason.CHUNK_TOO_SLOW
    # As UPLOAD_IDLE_SECONDS has not ended it.
    assert now() - began > 3
    await asyncio.wait([dripping])
    assert isinstance(dripping.exception(), asyncio.InvalidStateError | grpc.aio.AioRpcError)
    assert (await hasty.upload(video.video_id)).size_bytes == 0


async def test_chunks_of_no_upload_are_swept_and_those_of_one_or_of_a_lost_record_stay(
    hasty: JournalClient, hasty_fleet: Fleet
) -> None:
    private = await hasty.as_user("dora").create()
    await hasty.as_user("dora").append(private.video_id, WEBM)
    await hasty.as_user("dora").change(private.video_id, is_private=True)
    async with open_objects(hasty_fleet) as objects:
        # Comes before all others, so that it is looked at before them.
        unknown = "journal/00000000-0000-4000-8000-000000000000/0000000000000000-0123456789abcdef"
        orphan = f"journal/{private.video_id}/0000000000000005-0123456789abcdef"
        for key in (unknown, orphan):
            await objects.put(key, b"left", "application/octet-stream")
        await objects.create_multipart(orphan + "0", "application/octet-stream")

        async def only_the_committed_one() -> bool:
            return not await keys_under(objects, orphan)

        await until(only_the_committed_one)
        assert await keys_under(objects, unknown) == [unknown]
    assert await hasty.as_user("dora").whole(private.video_id) == WEBM
