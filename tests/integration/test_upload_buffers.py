"""Uploads and appends under way share one bound: who does not fit is told so at once, and what ends makes room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest
import redis.asyncio
from reelway.v1 import media_pb2, upload_pb2, upload_pb2_grpc

from services.common.caller import Caller
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.s3_objects import S3Objects
from services.upload.part_plan import MIB, PART
from tests.support.clips import mp4_of
from tests.support.fleet import Fleet, start_fleet
from tests.support.journal_client import JournalClient, connect, keys_under, open_objects, refusal
from tests.support.servers import S3Server
from tests.support.videos_api import BOUNDARY, FORM, Raw, file_part, form
from tests.support.waiting import until

CLIP = mp4_of(5000)
# More than the gateway's first message has: not told whole by that.
UNKNOWN = mp4_of(300_000)
OPEN = "{uploads}:open"


@pytest.fixture(scope="module")
async def fleet(redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """With room for three uploads of unknown size, and 4 MiB."""
    settings = {"UPLOAD_BUFFER_BYTES": "40MiB"}
    folder = tmp_path_factory.mktemp("buffers")
    async with start_fleet(redis_url, juicefs_s3, folder, settings, gateways=1) as running:
        yield running


@pytest.fixture(scope="module")
async def client(fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(fleet) as found:
        yield found


@pytest.fixture(scope="module")
async def objects(fleet: Fleet) -> AsyncIterator[S3Objects]:
    async with open_objects(fleet) as found:
        yield found


@pytest.fixture(scope="module")
async def upload_stub(fleet: Fleet) -> AsyncIterator[Any]:
    async with open_channel(fleet.target("upload")) as channel:
        yield upload_pb2_grpc.UploadServiceStub(channel)


@pytest.fixture(scope="module")
async def http(fleet: Fleet) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{fleet.of('gateway')[0].listen}") as session:
        yield session


async def upload(stub: Any, *pieces: bytes, ends: asyncio.Event | None = None, **header: Any) -> media_pb2.Video:
    """What becomes of an upload whose client sends these pieces, and says that there are no more once it `ends`."""

    async def messages() -> AsyncIterator[upload_pb2.UploadVideoRequest]:
        yield upload_pb2.UploadVideoRequest(header=upload_pb2.UploadHeader(**header))
        for piece in pieces:
            yield upload_pb2.UploadVideoRequest(data=piece)
        if ends is not None:
            await ends.wait()

    try:
        answer = await stub.UploadVideo(messages(), timeout=30, metadata=Caller("", "test").metadata())
        video: media_pb2.Video = answer.video
        return video
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def fits(stub: Any) -> bool:
    """Whether an upload of unknown size is taken; it is done then."""
    try:
        await upload(stub, CLIP)
    except ReelwayError as error:
        assert error.reason is ErrorReason.TOO_MANY_REQUESTS
        return False
    return True


@asynccontextmanager
async def under_way(stub: Any, objects: S3Objects, count: int = 3) -> AsyncIterator[None]:
    """So many large uploads are; they end well behind this."""
    before, ends = await keys_under(objects, "videos/"), asyncio.Event()
    uploads = [asyncio.create_task(upload(stub, CLIP, ends=ends)) for _ in range(count)]
    try:
        await until(lambda: are_new(objects, before, count))
        yield
    finally:
        ends.set()
        await asyncio.wait(uploads)
    assert [each.result().size_bytes for each in uploads] == [len(CLIP)] * count


async def are_new(objects: S3Objects, before: list[str], count: int) -> bool:
    """Whether so many videos have come into the store, or go there."""
    return len(await keys_under(objects, "videos/")) == len(before) + count


async def unknown_length(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_large_upload_that_does_not_fit_is_refused_by_its_header_and_leaves_nothing(
    upload_stub: Any, objects: S3Objects, client: JournalClient, fleet: Fleet
) -> None:
    video_id = (await client.create()).video_id
    async with (
        redis.asyncio.Redis.from_url(fleet.redis_url, decode_responses=True) as state,
        under_way(upload_stub, objects),
    ):
        before = (await keys_under(objects, "videos/"), await state.zcard(OPEN))
        for header in ({}, {"declared_size_bytes": 2**30}, {"max_size_bytes": 2**30}):
            # Not a byte is sent, nor that there is none.
            refused = upload(upload_stub, ends=asyncio.Event(), **header)
            assert await refusal(refused) is ErrorReason.TOO_MANY_REQUESTS
        append = client.open_append()
        await append.write(upload_pb2.AppendRequest(header=upload_pb2.AppendHeader(video_id=video_id), data=CLIP))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await append
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert from_rpc_error(error.value).reason is ErrorReason.TOO_MANY_REQUESTS
        assert (await keys_under(objects, "videos/"), await state.zcard(OPEN)) == before
        assert await keys_under(objects, f"journal/{video_id}/") == []
    assert await fits(upload_stub)


async def test_what_is_small_fits_beside_a_large_upload(
    upload_stub: Any, objects: S3Objects, client: JournalClient
) -> None:
    video_id = (await client.create()).video_id
    async with under_way(upload_stub, objects):
        await client.append(video_id, b"x" * 1000)  # in one message, which says that it is the last
        await client.append(video_id, b"x" * 2_000_000, declared_size_bytes=2_000_000)
        await client.append(video_id, b"x" * 2_000_000, max_size_bytes=2_000_100)
        assert (await client.upload(video_id)).size_bytes == 4_001_000
        await upload(upload_stub, CLIP, declared_size_bytes=len(CLIP))
        # Longer than it says, by more than there is room for.
        longer = upload(upload_stub, *[CLIP + bytes(MIB)] * 5, max_size_bytes=len(CLIP))
        assert await refusal(longer) is ErrorReason.TOO_MANY_REQUESTS
    assert await fits(upload_stub)


async def test_an_upload_gets_through_beside_others_that_stand_still(
    upload_stub: Any, objects: S3Objects, client: JournalClient
) -> None:
    """With room for one part: three at a time would be faster, but none waits for what nobody gives back."""
    video_id, size = (await client.create()).video_id, 3 * PART + MIB
    async with under_way(upload_stub, objects, 2):
        video = await upload(upload_stub, CLIP, *[bytes(MIB)] * (size // MIB))
        assert video.size_bytes == len(CLIP) + size
        await client.append(video_id, bytes(size))
        assert (await client.upload(video_id)).size_bytes == size
        assert await fits(upload_stub)


async def test_over_http_it_is_a_429_with_retry_after(
    upload_stub: Any, objects: S3Objects, http: aiohttp.ClientSession
) -> None:
    async def told(method: str, path: str, data: Any, headers: Any = None) -> tuple[int, str | None]:
        async with http.request(method, path, data=data, headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Retry-After")

    async with http.post("/create_video") as answer:
        number = (await answer.json())["video_id"]
    whole, chunk = form(file_part(UNKNOWN)), form(file_part(UNKNOWN, "video_chunck"))
    record = f"/api/record/videos/update_video_chunck?video_id={number}"
    async with under_way(upload_stub, objects):
        assert await told("POST", "/videos", unknown_length(whole), FORM) == (429, "5")
        assert await told("POST", f"/append_video/{number}", unknown_length(UNKNOWN)) == (429, "5")
        assert await told("PATCH", record, unknown_length(chunk), FORM) == (429, "5")
        # Beside it what says how small it is is taken.
        assert await told("POST", "/videos", whole, FORM) == (201, None)
        assert await told("POST", f"/append_video/{number}", UNKNOWN) == (200, None)
    assert await told("POST", f"/append_video/{number}", unknown_length(UNKNOWN)) == (200, None)


async def test_a_broken_connection_makes_room(upload_stub: Any, objects: S3Objects, fleet: Fleet) -> None:
    before = await keys_under(objects, "videos/")
    raw = await Raw.open(f"http://{fleet.of('gateway')[0].listen}")
    size = 100 * MIB
    raw.send(
        f"POST /videos HTTP/1.1\r\nHost: t\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: {size}\r\n\r\n"
        f"--{BOUNDARY}\r\n".encode()
        + file_part(mp4_of(500_000))
    )
    await until(lambda: are_new(objects, before, 1))
    async with under_way(upload_stub, objects, 2):
        assert not await fits(upload_stub)
        raw.reset()
        await until(lambda: fits(upload_stub))


@pytest.mark.parametrize("cancelled", [True, False])
async def test_an_append_that_breaks_off_makes_room(
    upload_stub: Any, objects: S3Objects, client: JournalClient, cancelled: bool
) -> None:
    video_id = (await client.create()).video_id
    append = client.open_append()
    await append.write(upload_pb2.AppendRequest(header=upload_pb2.AppendHeader(video_id=video_id)))
    for _ in range(PART // MIB + 1):
        await append.write(upload_pb2.AppendRequest(data=bytes(MIB)))

    async def is_under_way() -> bool:
        return bool(await keys_under(objects, f"journal/{video_id}/"))

    await until(is_under_way)
    async with under_way(upload_stub, objects, 2):
        assert not await fits(upload_stub)
        if cancelled:
            append.cancel()
        else:
            await append.done_writing()  # without its last message
            with pytest.raises(grpc.aio.AioRpcError):
                await append
        await until(lambda: fits(upload_stub))


async def test_an_append_makes_room_whether_it_is_refused_or_done(upload_stub: Any, client: JournalClient) -> None:
    video_id, chunk = (await client.create()).video_id, bytes(2 * MIB)
    for wrong in ({"sha256": bytes(32)}, {"declared_size_bytes": 30 * MIB}, {"expected_offset_bytes": 7}):
        with pytest.raises(ReelwayError):
            await client.append(video_id, chunk, **wrong)
        with pytest.raises(ReelwayError):
            await client.append(video_id, b"", **wrong)
        assert await fits(upload_stub)
    await client.append(video_id, chunk)
    assert await fits(upload_stub)
