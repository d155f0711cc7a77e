"""Whole files into S3, on both servers: every byte, whatever the guess; nothing left of what is refused."""

import asyncio
import contextlib
import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from reelway.v1 import media_pb2, upload_pb2

from services.common.byte_messages import UploadMessage
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.buffers import Buffers
from services.upload.messages import FRAMING
from services.upload.multipart_writer import MultipartWriter
from services.upload.part_plan import MIB, PART
from tests.support.clips import Clip, mp4_of
from tests.support.foundation import NOTHING, Foundation, Store, as_user, foundation, messages

LIMIT = 36 * MIB


@pytest.fixture
async def parts(each_store: Store, clean_redis: str) -> AsyncIterator[Foundation]:
    async with foundation(each_store, clean_redis, max_bytes=LIMIT) as wired:
        yield wired


async def check_stored(parts: Foundation, video: media_pb2.Video, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    assert (video.size_bytes, video.sha256, video.etag) == (len(data), digest, f'"{digest[:32]}"')
    assert video.state == media_pb2.VIDEO_STATE_READY
    assert hashlib.sha256(await parts.bytes_of(video.object_key)).hexdigest() == digest
    left = await parts.leftovers()
    assert left["multiparts"] == left["entries"] == []
    assert left["records"] == [f"catalog/{video.video_id}.json"]


@pytest.mark.parametrize("size", [1000, PART - 1, PART, PART + 1, 2 * PART + 321_001])
async def test_a_file_of_any_size_is_stored_whole(parts: Foundation, size: int) -> None:
    data = mp4_of(size)
    video = await parts.uploads.upload(messages(data, [1, 2, 4093, 70_001]))
    await check_stored(parts, video, data)


@pytest.mark.parametrize("size", [5000, PART, PART + MIB + 5])
@pytest.mark.parametrize("off", [2, -2, 1_000_000, -1_000_000])
async def test_a_wrong_guess_of_the_size_costs_no_byte(parts: Foundation, size: int, off: int) -> None:
    """The header's bound is only likely: forms have framing behind the file, and not every client writes all of it."""
    data = mp4_of(size)
    video = await parts.uploads.upload(messages(data, [4096], most=max(1, size + off)))
    await check_stored(parts, video, data)


async def test_a_guess_that_is_met_sends_each_byte_once(parts: Foundation) -> None:
    """Parts are sent on while they arrive: the last byte is awaited, and only it."""
    data = mp4_of(PART + 100_000)
    sent: list[int] = []
    put = parts.store.put_part

    async def counting(key: str, upload_id: str, number: int, length: int, body: object) -> str:
        sent.append(length)
        return await put(key, upload_id, number, length, body)  # type: ignore[arg-type]

    parts.store.put_part = counting  # type: ignore[method-assign]
    video = await parts.uploads.upload(messages(data, most=len(data)))
    await check_stored(parts, video, data)
    assert sent == [PART, 100_000]


@pytest.mark.parametrize("declared", [True, False])
async def test_real_clips_become_videos_of_their_kind(
    parts: Foundation, clips: dict[str, Clip], declared: bool
) -> None:
    for name, clip in clips.items():
        data = clip.data
        named = f"C:\\films\\../{name}\x00\n"
        video = await parts.uploads.upload(messages(data, name=named, declared=len(data) if declared else 0))
        kind = KINDS[clip.container]
        assert (video.container, video.file_name) == (clip.container, name)
        assert video.object_key == f"videos/{video.video_id}.{kind.extension}"
        assert hashlib.sha256(await parts.bytes_of(video.object_key)).hexdigest() == video.sha256
        answer = await parts.objects._client.head_object(Bucket=parts.objects._bucket, Key=video.object_key)
        assert answer["ContentType"] == kind.content_type


async def refused(parts: Foundation, source: AsyncIterator[UploadMessage]) -> ReelwayError:
    """The refusal, of which nothing is left."""
    with pytest.raises(ReelwayError) as refusal:
        await parts.uploads.upload(source)
    assert await parts.leftovers() == NOTHING
    return refusal.value


@pytest.mark.parametrize("off", [-1, 1, 9 * MIB])
async def test_a_file_that_is_not_as_long_as_declared_is_refused(parts: Foundation, off: int) -> None:
    data = mp4_of(PART + 200_000)
    error = await refused(parts, messages(data, declared=len(data) + off))
    assert error.reason is ErrorReason.LENGTH_MISMATCH


@pytest.mark.parametrize("name", ["declared", "most"])
async def test_a_negative_size_is_refused(parts: Foundation, name: str) -> None:
    error = await refused(parts, messages(mp4_of(1000), **{name: -1}))  # type: ignore[arg-type]
    assert (error.reason, len(error.violations)) == (ErrorReason.INVALID_REQUEST, 1)


async def _counted(source: AsyncIterator[UploadMessage], taken: list[int]) -> AsyncIterator[UploadMessage]:
    async for message in source:
        taken.append(sum(map(len, message.data)))
        yield message


async def test_a_size_over_the_limit_is_refused_before_a_byte_is_read(parts: Foundation) -> None:
    for declared, most in ((LIMIT + 1, 0), (0, LIMIT + FRAMING + 1)):
        taken: list[int] = []
        error = await refused(parts, _counted(messages(mp4_of(10**6), declared=declared, most=most), taken))
        assert error.reason is ErrorReason.FILE_TOO_LARGE
        assert error.metadata == {"max_bytes": str(LIMIT)}
        assert taken == [0]


@pytest.mark.parametrize("most", [0, LIMIT + FRAMING])
async def test_a_file_that_grows_over_the_limit_is_refused_at_once(parts: Foundation, most: int) -> None:
    taken: list[int] = []
    error = await refused(parts, _counted(messages(mp4_of(LIMIT + 5 * MIB), most=most), taken))
    assert error.reason is ErrorReason.FILE_TOO_LARGE
    assert sum(taken) <= LIMIT + MIB


@pytest.mark.parametrize("sizes", [[MIB + 1], [10, MIB], [4096, MIB - 4095]])
async def test_the_limit_counts_from_the_first_message_on(
    juicefs_store: Store, clean_redis: str, sizes: list[int]
) -> None:
    async with foundation(juicefs_store, clean_redis, max_bytes=MIB) as small:
        error = await refused(small, messages(mp4_of(MIB + 1), sizes))
        assert error.reason is ErrorReason.FILE_TOO_LARGE
        data = mp4_of(MIB)
        await check_stored(small, await small.uploads.upload(messages(data, [MIB])), data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ErrorReason.EMPTY_FILE),
        (b"\xff\xd8\xff\xe0" + bytes(9000), ErrorReason.NOT_A_VIDEO),
        (b"x", ErrorReason.NOT_A_VIDEO),
    ],
)
async def test_what_is_no_video_is_refused(parts: Foundation, data: bytes, reason: ErrorReason) -> None:
    assert (await refused(parts, messages(data))).reason is reason


async def _only(*sent: UploadMessage) -> AsyncIterator[UploadMessage]:
    for message in sent:
        yield message


async def test_there_is_one_header_and_it_comes_first(parts: Foundation) -> None:
    header, data = UploadMessage(header=upload_pb2.UploadHeader()), UploadMessage([mp4_of(100_000)])
    for sent in ((), (data,), (header, data, header), (header, header, data)):
        assert (await refused(parts, _only(*sent))).reason is ErrorReason.HEADER_MISSING


async def test_empty_messages_mean_nothing(parts: Foundation) -> None:
    data = mp4_of(50_000)
    header, empty = UploadMessage(header=upload_pb2.UploadHeader()), UploadMessage([b""])
    source = _only(header, empty, UploadMessage([data[:10]]), empty, UploadMessage([data[10:]]), empty)
    await check_stored(parts, await parts.uploads.upload(source), data)


async def test_what_comes_in_tiny_pieces_takes_little_more_memory_than_it_has_bytes(
    juicefs_store: Store, clean_redis: str
) -> None:
    """Each piece that is kept costs some 300 bytes of its own: a part of two-byte pieces would be a gigabyte."""
    data = mp4_of(100_000)
    async with foundation(juicefs_store, clean_redis) as near:
        room = Buffers(PART).reserve(None)
        writer = MultipartWriter(near.objects, near.store, "videos/tiny.mp4", "video/mp4", room=room)
        async with writer:
            tracemalloc.start()
            try:
                for at in range(0, len(data), 2):
                    await writer.write(bytes(data[at : at + 2]))
                kept, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert await writer.complete() == hashlib.sha256(data).hexdigest()
        assert await near.bytes_of("videos/tiny.mp4") == data
    assert kept < 3 * len(data)


@pytest.mark.parametrize("turns", range(12))
async def test_what_is_cancelled_behind_its_completion_is_a_video_or_nothing(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Whichever turn of the event loop a client that goes away hits."""
    complete, completed = parts.objects.complete_multipart, asyncio.Event()

    async def noted(key: str, upload_id: str, etags: list[str]) -> None:
        await complete(key, upload_id, etags)
        completed.set()

    monkeypatch.setattr(parts.objects, "complete_multipart", noted)
    upload = asyncio.create_task(parts.uploads.upload(messages(mp4_of(5000))))
    await completed.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    upload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    await parts.uploads.undoing.wait()
    left = await parts.leftovers()
    assert left["multiparts"] == left["entries"] == []
    assert len(left["objects"]) == len(left["records"])


async def test_the_owner_is_the_caller(parts: Foundation) -> None:
    as_user("anna")
    video = await parts.uploads.upload(messages(mp4_of(5000)))
    as_user("")
    assert video.owner == "anna"
    nobody_s = await parts.uploads.upload(messages(mp4_of(5000)))
    assert nobody_s.owner == ""
