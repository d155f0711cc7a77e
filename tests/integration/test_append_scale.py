"""Many appends to one upload, and many uploads at once, through two replicas of each service."""

import asyncio
import hashlib
import random
import statistics
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.fleet import Fleet, start_fleet
from tests.support.journal_client import JournalClient, connect
from tests.support.servers import S3Server

KIB = 2**10
APPENDS = 10_000
SAMPLE = 200


@pytest.fixture(scope="module")
async def fleet(redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with start_fleet(redis_url, juicefs_s3, tmp_path_factory.mktemp("scale"), replicas=2) as running:
        yield running


@pytest.fixture(scope="module")
async def client(fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(fleet) as found:
        yield found


async def test_the_last_of_10_000_appends_costs_what_the_first_did(client: JournalClient) -> None:
    video = await client.create()
    whole = random.Random(1).randbytes(APPENDS * KIB)

    async def timed(video_id: str, index: int) -> float:
        started = time.perf_counter()
        answer = await client.append(video_id, whole[index * KIB : (index + 1) * KIB])
        assert answer.offset_bytes == (index * KIB if video_id == video.video_id else 0)
        return time.perf_counter() - started

    for index in range(APPENDS - SAMPLE):
        await timed(video.video_id, index)
    first: list[float] = []
    last: list[float] = []
    # A first append to another video between any two of the last ones: both see the same machine.
    fresh = [await client.create() for _ in range(SAMPLE)]
    for index, other in enumerate(fresh, APPENDS - SAMPLE):
        first.append(await timed(other.video_id, index))
        last.append(await timed(video.video_id, index))
    assert statistics.median(last) / statistics.median(first) <= 1.5
    read = await client.whole(video.video_id)
    assert hashlib.sha256(read).digest() == hashlib.sha256(whole).digest()


async def test_64_uploads_at_once_do_not_mix(client: JournalClient) -> None:
    async def record(seed: int) -> None:
        source = random.Random(seed)
        video, parts = await client.create(), []
        for _ in range(8):
            chunk = source.randbytes(source.randrange(1, 60_000))
            await client.append(video.video_id, chunk)
            parts.append(chunk)
        assert await client.whole(video.video_id) == b"".join(parts)

    await asyncio.gather(*map(record, range(64)))
