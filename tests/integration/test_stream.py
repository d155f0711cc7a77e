"""StreamService as a client of it sees it: exact bytes, limits, versions, presigned URLs."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reelway.v1 import media_pb2, stream_pb2, stream_pb2_grpc
from yarl import URL

from services.common.byte_messages import decode_read_response
from services.common.channel import TRANSPORT_OPTIONS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.request_limits import LONGEST_WINDOW
from services.common.settings import LONGEST_SIGNED_SECONDS
from services.stream.playback import LONGEST_MESSAGE
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import CatalogSide, catalog_side, videos_api

SIZE = 3 * 2**20 + 77
DATA = mp4_of(SIZE, seed=21)
ANNA = uuid4()


class StreamSide:
    """Calls of a user to the stream service, answers as bytes."""

    def __init__(self, channel: grpc.aio.Channel, catalog: CatalogSide) -> None:
        self._channel, self._catalog = channel, catalog
        self.stub: stream_pb2_grpc.StreamServiceAsyncStub = stream_pb2_grpc.StreamServiceStub(channel)

    async def stat(self, user: str = "", **which: Any) -> stream_pb2.StatResponse:
        request = stream_pb2.StatRequest(**which)
        return await self.stub.Stat(request, metadata=self._catalog.metadata(user), timeout=10)

    async def messages(self, video_id: str, offset: int, length: int, etag: str = "", user: str = "") -> list[bytes]:
        request = stream_pb2.ReadRequest(video_id=video_id, offset_bytes=offset, length_bytes=length, etag=etag)
        read: Any = self._channel.unary_stream(
            "/reelway.v1.StreamService/Read",
            request_serializer=stream_pb2.ReadRequest.SerializeToString,
            response_deserializer=decode_read_response,
        )
        return [bytes(data) async for data in read(request, metadata=self._catalog.metadata(user), timeout=20)]

    async def short(self, video_id: str, offset: int, length: int, etag: str = "", user: str = "") -> bytes:
        request = stream_pb2.ReadRangeRequest(video_id=video_id, offset_bytes=offset, length_bytes=length, etag=etag)
        return (await self.stub.ReadRange(request, metadata=self._catalog.metadata(user), timeout=10)).data

    async def presign(self, video_id: str, seconds: int, user: str = "", **more: str) -> str:
        request = stream_pb2.PresignReadRequest(video_id=video_id, expires_seconds=seconds, **more)
        return (await self.stub.PresignRead(request, metadata=self._catalog.metadata(user), timeout=10)).url


@pytest.fixture(scope="module")
async def catalog(system: RunningSystem) -> AsyncIterator[CatalogSide]:
    async with catalog_side(system) as side:
        yield side


@pytest.fixture(scope="module")
async def stream(system: RunningSystem, catalog: CatalogSide) -> AsyncIterator[StreamSide]:
    async with grpc.aio.insecure_channel(system.process("stream").listen, options=TRANSPORT_OPTIONS) as channel:
        yield StreamSide(channel, catalog)


@pytest.fixture(scope="module")
async def video_id(system: RunningSystem) -> str:
    async with videos_api(system.base_url) as api:
        return await api.new_video(DATA, system.authorization(ANNA))


@contextlib.contextmanager
def refused(reason: ErrorReason) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert from_rpc_error(caught.value).reason is reason


async def test_what_a_reader_must_know(stream: StreamSide, catalog: CatalogSide, video_id: str) -> None:
    record = await catalog.get(video_id)
    stat = await stream.stat(video_id=video_id)
    assert (stat.video_id, stat.number, stat.size_bytes, stat.etag) == (video_id, record.number, SIZE, record.etag)
    assert (stat.container, stat.sealed, stat.modify_time) == (media_pb2.CONTAINER_MP4, True, record.modify_time)
    assert await stream.stat(number=record.number) == stat


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, SIZE - 1), st.integers(1, SIZE))
@example(0, SIZE)
@example(SIZE - 1, 1)
@example(2**20 - 1, 2)
async def test_a_window_is_exactly_what_was_asked_for(
    stream: StreamSide, video_id: str, offset: int, length: int
) -> None:
    length = min(length, SIZE - offset)
    messages = await stream.messages(video_id, offset, length)
    assert b"".join(messages) == DATA[offset : offset + length]
    assert all(0 < len(message) <= 2**20 for message in messages)
    short = min(length, LONGEST_MESSAGE)
    assert await stream.short(video_id, offset, short) == DATA[offset : offset + short]


@pytest.mark.parametrize(("length", "largest"), [(15 * 2**20, 2**19), (17 * 2**20, 2**20)])
async def test_a_long_window_comes_in_large_messages(
    system: RunningSystem, stream: StreamSide, length: int, largest: int
) -> None:
    data = mp4_of(length, seed=22)
    async with videos_api(system.base_url) as api:
        video_id = await api.new_video(data, system.authorization(ANNA))
    messages = await stream.messages(video_id, 0, length)
    assert b"".join(messages) == data
    assert len(messages[0]) == 2**16
    assert max(map(len, messages)) == largest


@pytest.mark.parametrize("offset", [0, 12_345])
async def test_the_longest_answer_in_one_message(stream: StreamSide, video_id: str, offset: int) -> None:
    assert await stream.short(video_id, offset, LONGEST_MESSAGE) == DATA[offset : offset + LONGEST_MESSAGE]


@pytest.mark.parametrize(
    ("offset", "length", "reason"),
    [
        (-1, 10, ErrorReason.INVALID_REQUEST),
        (0, 0, ErrorReason.INVALID_REQUEST),
        (0, -5, ErrorReason.INVALID_REQUEST),
        (0, LONGEST_WINDOW + 1, ErrorReason.INVALID_REQUEST),
        (SIZE, 1, ErrorReason.RANGE_NOT_SATISFIABLE),
        (SIZE - 1, 2, ErrorReason.RANGE_NOT_SATISFIABLE),
        (2**62, 10, ErrorReason.RANGE_NOT_SATISFIABLE),
    ],
)
async def test_what_is_not_inside_the_video_is_refused(
    stream: StreamSide, video_id: str, offset: int, length: int, reason: ErrorReason
) -> None:
    with refused(reason):
        await stream.messages(video_id, offset, length)
    with refused(reason):
        await stream.short(video_id, offset, length)


async def test_a_short_read_is_short(stream: StreamSide, video_id: str) -> None:
    with refused(ErrorReason.INVALID_REQUEST):
        await stream.short(video_id, 0, LONGEST_MESSAGE + 1)


async def test_another_version_is_not_served(stream: StreamSide, video_id: str) -> None:
    etag = (await stream.stat(video_id=video_id)).etag
    assert await stream.short(video_id, 0, 10, etag) == DATA[:10]
    for other in (f"W/{etag}", etag.strip('"'), '"' + "0" * 32 + '"'):
        with refused(ErrorReason.VIDEO_CHANGED):
            await stream.short(video_id, 0, 10, other)
        with refused(ErrorReason.VIDEO_CHANGED):
            await stream.messages(video_id, 0, 10, other)


NOBODY_S = "4d1c6c5e-5b0f-4c39-9a3d-1f0e8b7a2c64"


@pytest.mark.parametrize("unknown", ["", "x", "../catalog", NOBODY_S, NOBODY_S.upper()])
async def test_what_is_unknown_is_not_found(stream: StreamSide, unknown: str) -> None:
    for call in (
        stream.stat(video_id=unknown),
        stream.short(unknown, 0, 1),
        stream.messages(unknown, 0, 1),
        stream.presign(unknown, 60),
    ):
        with refused(ErrorReason.VIDEO_NOT_FOUND):
            await call


async def test_a_private_video_is_hidden_from_every_call(
    stream: StreamSide, catalog: CatalogSide, system: RunningSystem
) -> None:
    async with videos_api(system.base_url) as api:
        private = await api.new_video(DATA[:5000], system.authorization(ANNA))
    await catalog.make_private(private, str(ANNA))
    number = (await catalog.get(private, str(ANNA))).number
    for user in ("", str(uuid4())):
        for call in (
            stream.stat(user, video_id=private),
            stream.stat(user, number=number),
            stream.short(private, 0, 1, user=user),
            stream.messages(private, 0, 1, user=user),
            stream.presign(private, 60, user),
        ):
            with refused(ErrorReason.VIDEO_NOT_FOUND):
                await call
    assert await stream.short(private, 0, 10, user=str(ANNA)) == DATA[:10]


async def test_a_signed_address_serves_as_it_was_asked_to(stream: StreamSide, video_id: str) -> None:
    disposition = 'attachment; filename="film.mp4"'
    url = await stream.presign(video_id, 60, content_type="application/octet-stream", content_disposition=disposition)
    ranged = {"Range": f"bytes=1000000-{SIZE - 1}"}
    async with aiohttp.ClientSession() as http:
        async with http.get(URL(url, encoded=True), headers=ranged) as answer:
            assert (answer.status, await answer.read()) == (206, DATA[1_000_000:])
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"] == disposition
        async with http.get(URL(url.replace(video_id, str(uuid4())), encoded=True)) as answer:
            assert answer.status == 403, "it is signed for one object"


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SIGNED_SECONDS + 1])
async def test_an_expiry_that_s3_does_not_know_is_refused(stream: StreamSide, video_id: str, seconds: int) -> None:
    with refused(ErrorReason.INVALID_REQUEST):
        await stream.presign(video_id, seconds)


async def test_a_deleted_video_is_gone_for_readers(
    stream: StreamSide, catalog: CatalogSide, system: RunningSystem
) -> None:
    async with videos_api(system.base_url) as api:
        doomed = await api.new_video(DATA[:5000])
    await stream.short(doomed, 0, 10)
    await catalog.delete(doomed)
    # From memory it may be found for another second; its bytes are gone at once.
    with refused(ErrorReason.VIDEO_NOT_FOUND):
        await stream.short(doomed, 0, 10)
