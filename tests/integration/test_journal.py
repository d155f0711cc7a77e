"""The journal over gRPC, on real Redis and both S3 servers."""

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import AsyncIterator

import crc32c
import pytest
import redis.asyncio
from reelway.v1 import catalog_pb2, media_pb2, upload_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_objects import S3Objects
from services.upload.journal import Chunk, Committed, Limits
from services.upload.redis_journal_store import RedisJournalStore
from tests.support.clips import WEBM
from tests.support.fleet import Fleet, start_fleet
from tests.support.foundation import finished_video
from tests.support.journal_client import (
    JournalClient,
    connect,
    keys_under,
    lose_redis,
    open_objects,
    refusal,
)
from tests.support.servers import S3Server
from tests.support.waiting import until

MIB = 2**20


@pytest.fixture(scope="module")
async def fleet(redis_url: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("journal")
    # moto says of every multipart upload that it was begun in 2010: a sweep would abort those under way.
    settings = {"COMPACTION_INTERVAL_SECONDS": "0.2", "APPEND_ORPHAN_SECONDS": "999999999"}
    async with start_fleet(redis_url, s3_server, folder, settings, replicas=2) as running:
        yield running


@pytest.fixture(scope="module")
async def client(fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(fleet) as found:
        yield found


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed} {size}").randbytes(size)


async def test_what_is_appended_is_read_at_once_and_stays_the_same_when_sealed(
    client: JournalClient, fleet: Fleet
) -> None:
    video = await client.create(title="growing", file_name="C:\\clips\\a.webm")
    assert (video.state, video.size_bytes, video.file_name) == (media_pb2.VIDEO_STATE_UPLOADING, 0, "a.webm")
    assert await refusal(client.stat(video.video_id)) is ErrorReason.NO_DATA
    # Smaller than a part, as large as one, larger than the largest PUT; and tiny ones between.
    chunks = [WEBM + noise(1000), b"x", noise(6 * MIB), noise(70_000), noise(18 * MIB + 3), noise(5 * MIB), b"end"]
    whole, etags = b"", []
    for chunk in chunks:
        answer = await client.append(video.video_id, chunk, declared_size_bytes=len(chunk) if len(chunk) % 2 else 0)
        assert (answer.offset_bytes, answer.size_bytes) == (len(whole), len(whole) + len(chunk))
        whole += chunk
        etags.append(answer.etag)
        stat = await client.stat(video.video_id)
        assert (stat.size_bytes, stat.etag, stat.sealed) == (len(whole), answer.etag, False)
        assert stat.container == media_pb2.CONTAINER_WEBM
    assert len(set(etags)) == len(chunks)
    assert await client.whole(video.video_id) == whole
    for offset in (0, 1046, 1047, 1048, 6 * MIB + 1040, 6 * MIB + 71_048, len(whole) - 4):
        length = min(70_010, len(whole) - offset)
        assert await client.read_range(video.video_id, offset, length) == whole[offset : offset + length]

    sealed = await client.seal(video.video_id)
    assert (sealed.state, sealed.size_bytes, sealed.etag) == (media_pb2.VIDEO_STATE_READY, len(whole), etags[-1])
    assert await client.whole(video.video_id) == whole
    await until(lambda: client.is_compacted(video.video_id), 30)
    after = await client.video(video.video_id)
    assert (after.size_bytes, after.etag, after.object_key) == (
        len(whole), etags[-1], f"videos/{video.video_id}.webm",
    )  # fmt: skip
    assert await client.whole(video.video_id) == whole
    # Who began to read an earlier version reads on in it.
    assert await client.read(video.video_id, 500, 548, etags[0]) == whole[500:1048]
    assert await refusal(client.read(video.video_id, 500, 549, etags[0])) is ErrorReason.RANGE_NOT_SATISFIABLE
    for other in (etags[0].replace("a", "b"), f'"{"a" * 32}-{"f" * 5000}"'):
        assert await refusal(client.read(video.video_id, 0, 1, other)) is ErrorReason.VIDEO_CHANGED
    async with open_objects(fleet) as objects:
        assert await objects.get(after.object_key) == whole

        async def chunks_are_gone() -> bool:
            return not await keys_under(objects, f"journal/{video.video_id}/")

        await until(chunks_are_gone, 30)
        assert not await keys_under(objects, f"videos/{video.video_id}.webm/")
    assert await refusal(client.append(video.video_id, b"more")) is ErrorReason.UPLOAD_SEALED
    assert await client.seal(video.video_id) == after


async def test_reads_go_on_through_seal_and_compaction(client: JournalClient, fleet: Fleet) -> None:
    video = await client.create()
    chunks = [WEBM, *(noise(150_000 + index) for index in range(40)), noise(5 * MIB)]
    for chunk in chunks:
        await client.append(video.video_id, chunk)
    whole, reads, stopped = b"".join(chunks), 0, False

    async def keep_reading() -> None:
        nonlocal reads
        while not stopped:
            assert await client.whole(video.video_id, window=300_001) == whole
            reads += 1

    readers = [asyncio.create_task(keep_reading()) for _ in range(3)]
    await client.seal(video.video_id)
    async with open_objects(fleet) as objects:

        async def is_one_object() -> bool:
            return not await keys_under(objects, f"journal/{video.video_id}/")

        await until(is_one_object, 60)
    before = reads
    await until(lambda: reads > before + 3, 60)
    stopped = True
    await asyncio.gather(*readers)


async def test_appends_at_once_get_an_order_and_no_mixture(client: JournalClient) -> None:
    video = await client.create()
    chunks = [bytes([65 + index]) * (5000 + index) for index in range(16)]
    answers = await asyncio.gather(*(client.append(video.video_id, chunk) for chunk in chunks))
    whole = await client.whole(video.video_id)
    assert sorted(answer.offset_bytes for answer in answers)[0] == 0
    for chunk, answer in zip(chunks, answers, strict=True):
        assert whole[answer.offset_bytes : answer.size_bytes] == chunk
    assert len(whole) == sum(map(len, chunks))


async def test_a_retry_with_its_key_is_answered_as_the_first_was(client: JournalClient) -> None:
    video = await client.create()
    first = await client.append(video.video_id, b"a" * 100, idempotency_key="one")
    await client.append(video.video_id, b"b" * 100)
    again = await client.append(video.video_id, b"a" * 100, idempotency_key="one")
    assert again == first
    at_once = await asyncio.gather(
        *(client.append(video.video_id, b"c" * 100, idempotency_key="two") for _ in range(4))
    )
    assert all(answer == at_once[0] for answer in at_once)
    assert await client.whole(video.video_id) == b"a" * 100 + b"b" * 100 + b"c" * 100
    # After the seal, too: the client may not know that its last chunk went through.
    other = await client.create()
    last = await client.append(other.video_id, WEBM, idempotency_key="last")
    await client.seal(other.video_id)
    assert await client.append(other.video_id, WEBM, idempotency_key="last") == last


async def test_a_key_is_of_one_chunk(client: JournalClient) -> None:
    """Told that it was appended, a client would drop what the video does not have."""
    video = await client.create()
    first = await client.append(video.video_id, b"a" * 100, idempotency_key="one")
    other = client.append(video.video_id, b"b" * 101, idempotency_key="one")
    assert await refusal(other) is ErrorReason.INVALID_REQUEST
    assert await refusal(client.append(video.video_id, b"", idempotency_key="one")) is ErrorReason.EMPTY_CHUNK
    assert await client.append(video.video_id, b"a" * 100, idempotency_key="one") == first
    assert await client.whole(video.video_id) == b"a" * 100


@pytest.mark.parametrize("key", ["", "lost"])
async def test_a_commit_whose_answer_was_lost_is_no_replay(client: JournalClient, fleet: Fleet, key: str) -> None:
    """The Redis client asks again by itself; a replay would remove the chunk that was just made part of the upload."""
    video_id = (await client.create()).video_id
    chunk = dataclasses.replace(Chunk.new(video_id, 0, begins_clip=False), length=3, etag='"of the bytes"')
    async with redis.asyncio.Redis.from_url(fleet.redis_url, decode_responses=True) as connection:
        store = RedisJournalStore(connection)
        first, again = [
            await store.commit(
                chunk, "", Limits(10, MIB, 10, MIB), now=0, swept=float("inf"), container=0, idempotency_key=key
            )
            for _ in range(2)
        ]
    assert isinstance(first, Committed)
    assert (first.size, first.replayed) == (3, False)
    assert again == first


async def test_an_offset_that_is_not_the_end_is_refused_with_the_end(client: JournalClient) -> None:
    video = await client.create()
    await client.append(video.video_id, b"12345", expected_offset_bytes=0)
    with pytest.raises(ReelwayError) as refused:
        await client.append(video.video_id, b"12345", expected_offset_bytes=0)
    assert refused.value.reason is ErrorReason.OFFSET_MISMATCH
    assert refused.value.metadata["size_bytes"] == "5"
    # Two at once at the same offset: one is in, the other is told.
    results = await asyncio.gather(
        *(client.append(video.video_id, bytes([index]) * 9, expected_offset_bytes=5) for index in range(4)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, ReelwayError)]
    assert [error.reason for error in refusals] == [ErrorReason.OFFSET_MISMATCH] * 3
    assert (await client.upload(video.video_id)).size_bytes == 14


async def test_sums_are_checked(client: JournalClient, fleet: Fleet) -> None:
    video = await client.create()
    data = noise(300_000)
    good, crc = hashlib.sha256(data).digest(), crc32c.crc32c(data)
    await client.append(video.video_id, data, sha256=good, crc32c=crc)
    for wrong in ({"sha256": hashlib.sha256(b"").digest()}, {"crc32c": crc ^ 1}, {"crc32c": 0}):
        assert await refusal(client.append(video.video_id, data, **wrong)) is ErrorReason.CHECKSUM_MISMATCH
    assert await refusal(client.append(video.video_id, data, sha256=b"short")) is ErrorReason.INVALID_REQUEST
    for declared in (len(data) - 1, len(data) + 1):
        reason = await refusal(client.append(video.video_id, data, declared_size_bytes=declared))
        assert reason is ErrorReason.LENGTH_MISMATCH
    assert await client.whole(video.video_id) == data
    async with open_objects(fleet) as objects:

        async def only_the_good_one() -> bool:
            return len(await keys_under(objects, f"journal/{video.video_id}/")) == 1

        await until(only_the_good_one, 30)


async def test_a_call_that_breaks_off_appends_nothing(client: JournalClient, fleet: Fleet) -> None:
    video = await client.create()
    await client.append(video.video_id, b"before")
    for size, declared in ((1000, 0), (1000, 5000), (17 * MIB, 0), (20 * MIB, 30 * MIB)):
        call = client.open_append()
        header = upload_pb2.AppendHeader(video_id=video.video_id, declared_size_bytes=declared)
        data = noise(size)
        await call.write(upload_pb2.AppendRequest(header=header, data=data[:MIB]))
        for start in range(MIB, size, MIB):
            await call.write(upload_pb2.AppendRequest(data=data[start : start + MIB]))
        call.cancel()
    assert (await client.append(video.video_id, b"after")).offset_bytes == 6
    assert await client.whole(video.video_id) == b"beforeafter"
    async with open_objects(fleet) as objects:
        await left_under(objects, f"journal/{video.video_id}/", 2)


async def left_under(objects: S3Objects, prefix: str, count: int) -> None:
    """Until so many objects and unfinished uploads are left; AssertionError with what is there instead."""

    async def are_left() -> bool:
        return len(await keys_under(objects, prefix)) == count

    try:
        await until(are_left, 30)
    except TimeoutError:
        objects_left = [info async for info in objects.list(prefix)]
        uploads_left = [info async for info in objects.list_multiparts(prefix)]
        raise AssertionError(f"left: {objects_left}, {uploads_left}") from None


async def test_malformed_streams_are_refused(client: JournalClient) -> None:
    video = await client.create()
    header = upload_pb2.AppendHeader(video_id=video.video_id)
    assert await refusal(client.append_messages([])) is ErrorReason.HEADER_MISSING
    data_first = [upload_pb2.AppendRequest(data=b"x")]
    assert await refusal(client.append_messages(data_first)) is ErrorReason.HEADER_MISSING
    unfinished = [upload_pb2.AppendRequest(header=header, data=b"x")]
    assert await refusal(client.append_messages(unfinished)) is ErrorReason.LENGTH_MISMATCH
    twice = [upload_pb2.AppendRequest(header=header, data=b"x"), upload_pb2.AppendRequest(header=header, data=b"y")]
    assert await refusal(client.append_messages(twice)) is ErrorReason.HEADER_MISSING
    assert await refusal(client.append(video.video_id, b"")) is ErrorReason.EMPTY_CHUNK
    assert await refusal(client.append("no-such-video", b"x")) is ErrorReason.VIDEO_NOT_FOUND
    unknown = "00000000-0000-4000-8000-000000000000"
    assert await refusal(client.append(unknown, b"x")) is ErrorReason.VIDEO_NOT_FOUND
    assert (await client.upload(video.video_id)).size_bytes == 0


async def test_only_the_owner_appends_seals_and_aborts(client: JournalClient) -> None:
    owner, other = client.as_user("alice"), client.as_user("bob")
    video = await owner.create()
    await owner.append(video.video_id, WEBM)
    for call in (other.append(video.video_id, b"x"), other.seal(video.video_id), client.abort(video.video_id)):
        assert await refusal(call) is ErrorReason.NOT_THE_OWNER
    assert (await other.upload(video.video_id)).size_bytes == len(WEBM)
    await owner.change(video.video_id, is_private=True)
    for call in (other.append(video.video_id, b"x"), other.seal(video.video_id), other.upload(video.video_id)):
        assert await refusal(call) is ErrorReason.VIDEO_NOT_FOUND
    assert await owner.whole(video.video_id) == WEBM


async def test_a_finished_video_is_sealed_again_by_its_owner_alone(client: JournalClient) -> None:
    """Also where there is no journal that would know its owner."""
    owner, finished = client.as_user("alice"), finished_video()
    await owner._call(owner._catalog.CreateVideo, catalog_pb2.CreateVideoRequest(video=finished))
    assert (await owner.seal(finished.video_id)).object_key == finished.object_key
    for other in (client, client.as_user("bob")):
        assert await refusal(other.seal(finished.video_id)) is ErrorReason.NOT_THE_OWNER


async def test_seal_wants_a_video_and_leaves_the_upload_open_else(client: JournalClient) -> None:
    video = await client.create()
    assert await refusal(client.seal(video.video_id)) is ErrorReason.EMPTY_FILE
    await client.append(video.video_id, WEBM[:3])
    assert await refusal(client.seal(video.video_id)) is ErrorReason.NOT_A_VIDEO
    # A first slice too short to tell: the rest of the signature comes with the next.
    await client.append(video.video_id, WEBM[3:])
    assert await refusal(client.seal(video.video_id, [media_pb2.CONTAINER_MP4])) is ErrorReason.NOT_A_VIDEO
    assert (await client.upload(video.video_id)).state == upload_pb2.UPLOAD_STATE_OPEN
    sealed = await client.seal(video.video_id, [media_pb2.CONTAINER_MP4, media_pb2.CONTAINER_WEBM])
    assert sealed.container == media_pb2.CONTAINER_WEBM


async def test_what_is_no_video_is_sealed_as_none(client: JournalClient) -> None:
    video = await client.create()
    await client.append(video.video_id, b"this is no video")
    for containers in ([], [media_pb2.CONTAINER_UNSPECIFIED]):
        assert await refusal(client.seal(video.video_id, containers)) is ErrorReason.NOT_A_VIDEO


async def test_a_finished_video_that_is_deleted_has_no_upload_any_more(client: JournalClient) -> None:
    """Its journal outlives it for an hour."""
    owner = client.as_user("alice")
    video = await owner.create()
    await owner.append(video.video_id, WEBM)
    await owner.seal(video.video_id)
    await until(lambda: owner.is_compacted(video.video_id), 30)
    await owner.delete(video.video_id)
    assert await refusal(owner.upload(video.video_id)) is ErrorReason.VIDEO_NOT_FOUND


async def test_aborted_uploads_leave_nothing(client: JournalClient, fleet: Fleet) -> None:
    video = await client.create()
    await client.append(video.video_id, noise(5000))
    await client.abort(video.video_id)
    for call in (client.video(video.video_id), client.append(video.video_id, b"x"), client.abort(video.video_id)):
        assert await refusal(call) is ErrorReason.VIDEO_NOT_FOUND
    async with open_objects(fleet) as objects:
        assert not await keys_under(objects, f"journal/{video.video_id}/")


async def test_a_journal_that_redis_lost_is_made_again_from_its_chunks(client: JournalClient, fleet: Fleet) -> None:
    growing, finished = await client.create(), await client.create()
    chunks = [WEBM, noise(40_000, 1), WEBM + noise(3000), b"tail"]
    for chunk in chunks:
        await client.append(growing.video_id, chunk)
    await client.append(finished.video_id, WEBM + b"whole")
    sealed = await client.seal(finished.video_id)
    before = await client.upload(growing.video_id)
    await lose_redis(client, fleet, growing.video_id)
    answers = await asyncio.gather(*(client.append(growing.video_id, b"more") for _ in range(2)))
    assert sorted(answer.offset_bytes for answer in answers) == [before.size_bytes, before.size_bytes + 4]
    after = await client.upload(growing.video_id)
    assert (after.chunk_count, after.clip_count, after.container) == (6, 2, media_pb2.CONTAINER_WEBM)
    # Who read it before reads on under the same tag.
    assert await client.read(growing.video_id, 0, before.size_bytes, before.etag) == b"".join(chunks)
    assert before.clip_count == 2
    # By the journal's own tag: without one the two clips would be joined.
    assert await client.read(growing.video_id, 0, before.size_bytes, after.etag) == b"".join(chunks)
    assert await client.whole(finished.video_id) == WEBM + b"whole"
    assert (await client.stat(finished.video_id)).etag == sealed.etag


async def test_what_an_upload_is_survives_the_loss_of_redis(client: JournalClient, fleet: Fleet) -> None:
    """Also where the first chunk holds all that is sniffed, or is the only one."""
    for chunks in ([WEBM + noise(4096), b"tail"], [WEBM]):
        video = await client.create()
        for chunk in chunks:
            await client.append(video.video_id, chunk)
        await lose_redis(client, fleet, video.video_id)
        assert (await client.stat(video.video_id)).container == media_pb2.CONTAINER_WEBM
        assert (await client.seal(video.video_id)).container == media_pb2.CONTAINER_WEBM
        assert await client.whole(video.video_id) == b"".join(chunks)


async def test_an_append_goes_on_through_the_loss_of_redis(client: JournalClient, fleet: Fleet) -> None:
    video, chunk = await client.create(), noise(17 * MIB)
    await client.append(video.video_id, WEBM)
    call = client.open_append()
    header = upload_pb2.AppendHeader(video_id=video.video_id)
    for start in range(0, len(chunk), MIB):
        data = chunk[start : start + MIB]
        await call.write(upload_pb2.AppendRequest(header=None if start else header, data=data))
    async with open_objects(fleet) as objects:

        async def is_under_way() -> bool:
            return any([True async for _ in objects.list_multiparts(f"journal/{video.video_id}/")])

        await until(is_under_way)
    await lose_redis(client, fleet, video.video_id)
    await call.write(upload_pb2.AppendRequest(finish=True))
    answer = await call
    assert (answer.offset_bytes, answer.size_bytes) == (len(WEBM), len(WEBM) + len(chunk))
    assert await client.whole(video.video_id) == WEBM + chunk
