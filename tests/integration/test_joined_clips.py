"""Several clips on their way to one object, with the test as the worker that joins them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.catalog.record_store import RecordStore
from services.common.entity_tags import unquoted
from services.common.object_keys import joined_prefix, journal_prefix
from services.common.redis_client import connect as connect_redis
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.ffmpeg.job import JobLease
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import Holding, RedisJobStore
from tests.support.clips import MP4
from tests.support.fleet import Fleet
from tests.support.journal_client import JournalClient, connect, empty_redis, keys_under, lose_redis, open_objects
from tests.support.servers import S3Server
from tests.support.waiting import until

SETTINGS = {
    "COMPACTION_INTERVAL_SECONDS": "0.2",
    "APPEND_MAX_SECONDS": "2",
    "APPEND_ORPHAN_SECONDS": "2",
    "APPEND_ORPHAN_INTERVAL_SECONDS": "0.2",
}


@pytest.fixture
async def fleet(clean_redis: str, juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[Fleet]:
    running = Fleet(clean_redis, juicefs_s3, tmp_path, SETTINGS)
    for service in ("ffmpeg", "catalog", "upload", "stream"):
        running.add(service)
    try:
        await asyncio.gather(*(replica.start() for replica in running.replicas))
        yield running
    finally:
        await asyncio.gather(*(replica.kill() for replica in running.replicas), return_exceptions=True)


async def recorded(client: JournalClient, *chunks: bytes) -> str:
    """An open recording of these chunks; its id."""
    video = await client.create()
    for chunk in chunks:
        await client.append(video.video_id, chunk)
    return video.video_id


async def sealed(client: JournalClient, *chunks: bytes) -> str:
    """The same, finished."""
    video_id = await recorded(client, *chunks)
    await client.seal(video_id)
    return video_id


async def joined_key(client: JournalClient, video_id: str) -> str:
    """Where the clips are, joined."""
    return f"{joined_prefix(video_id)}{unquoted((await client.upload(video_id)).etag)}.mp4"


async def is_swept(objects: S3Objects, key: str, upload_id: str) -> bool:
    """Whether a multipart upload is gone."""
    return await objects.list_parts(key, upload_id) is None


async def test_a_long_join_holds_up_no_other_recording(fleet: Fleet) -> None:
    async with (
        connect(fleet) as client,
        open_objects(fleet) as objects,
        connect_redis(RedisSettings(redis_url=fleet.redis_url)) as redis,
    ):
        jobs, leases = RedisJobStore(redis, JobPolicy()), list[JobLease]()

        async def is_asked_for() -> bool:
            lease = await jobs.claim("worker", uuid.uuid4().hex, [JobKind.JOIN])
            leases.extend([lease] if lease else [])
            return lease is not None

        clips = await sealed(client, MP4, MP4)
        await until(is_asked_for)
        other = await sealed(client, MP4, b"more of it")
        await until(lambda: client.is_compacted(other))
        assert not await client.is_compacted(clips)
        key = await joined_key(client, clips)
        await objects.put(key, b"joined", "video/mp4")
        assert await jobs.complete(leases[0], {"key": key}) is Holding.HELD
        await until(lambda: client.is_compacted(clips))
        assert await client.whole(clips) == b"joined"


async def test_what_was_joined_outlives_the_loss_of_redis_while_nobody_knows_whose_it_is(fleet: Fleet) -> None:
    [catalog] = fleet.of("catalog")
    async with connect(fleet) as client, open_objects(fleet) as objects:
        clips = await recorded(client, MP4, MP4)
        key = await joined_key(client, clips)
        await objects.put(key, b"joined", "video/mp4")
        assert await client.whole(clips) == b"joined"
        await catalog.kill()
        await empty_redis(fleet)
        # The last thing that the sweep does, and it is younger.
        left = await objects.create_multipart(f"{journal_prefix(clips)}left", "video/mp4")
        await until(lambda: is_swept(objects, f"{journal_prefix(clips)}left", left))
        await catalog.start()
        assert await client.whole(clips) == b"joined"


@pytest.mark.parametrize("second", [b"more of it", MP4], ids=["slices", "clips"])
async def test_an_object_is_found_behind_a_record_that_does_not_name_it(fleet: Fleet, second: bytes) -> None:
    """The PUT of an older record came to S3 later than the one that names it, and Redis, which knew it, was lost."""
    async with (
        connect(fleet) as client,
        open_objects(fleet) as objects,
        S3Bytes.open(fleet.s3.settings) as data,
    ):
        video_id = await recorded(client, MP4, second)
        before = await client.upload(video_id)
        if second == MP4:
            await objects.put(await joined_key(client, video_id), b"joined", "video/mp4")
        await client.seal(video_id)
        await until(lambda: client.is_compacted(video_id))

        async def chunks_are_gone() -> bool:
            return await keys_under(objects, journal_prefix(video_id)) == []

        await until(chunks_are_gone)
        whole, final = await client.whole(video_id), await client.stat(video_id)
        records = RecordStore(objects, data)
        older = await records.load(f"catalog/{video_id}.json")
        assert older is not None
        older.ClearField("object_key")
        older.size_bytes, older.etag = before.size_bytes, before.etag
        await records.save(older)
        await lose_redis(client, fleet, video_id)
        assert not await client.is_compacted(video_id)

        # The stream service believes for a moment what it knew before.
        async def is_read() -> bool:
            return await client.whole(video_id) == whole and await client.is_compacted(video_id)

        await until(is_read)
        found = await client.stat(video_id)
        assert (found.size_bytes, found.container) == (final.size_bytes, final.container)
        # An encode that was made again would differ, and nobody knows that this one was not.
        assert (found.etag == final.etag) == (second != MP4)
