"""Many appends to one upload, and many uploads at once, through two replicas of each service."""

import asyncio
import hashlib
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import redis.asyncio

from services.common.s3_bytes import S3Bytes
from services.upload.journal import Chunk, Committed, Limits
from services.upload.redis_journal_store import RedisJournalStore
from tests.support.fleet import Fleet, start_fleet
from tests.support.journal_client import JournalClient, connect
from tests.support.servers import S3Server

KIB = 2**10
APPENDS = 10_000
SAMPLE = 200


@pytest.fixture(scope="module")
async def fleet(redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with start_fleet(redis_url, juicefs_s3, tmp_path_factory.mktemp("scale"), replicas=2, gateways=2) as running:
        yield running


@pytest.fixture(scope="module")
async def client(fleet: Fleet) -> AsyncIterator[JournalClient]:
    async with connect(fleet) as found:
        yield found


async def append_directly(fleet: Fleet, video_id: str, chunks: list[bytes], offset: int) -> None:
    """The steps of Append without its calls: objects many at once, then the commits in their order."""
    gate = asyncio.Semaphore(16)
    async with (
        S3Bytes.open(fleet.s3.settings) as data,
        redis.asyncio.Redis.from_url(fleet.redis_url, decode_responses=True) as client,
    ):
        store = RedisJournalStore(client)

        async def put(chunk: Chunk, piece: bytes) -> Chunk:
            async with gate:
                etag = await data.put(chunk.key, "application/octet-stream", len(piece), piece)
            return replace(chunk, length=len(piece), etag=etag)

        planned = [Chunk.new(video_id, offset + index * KIB, begins_clip=False) for index in range(len(chunks))]
        for chunk in await asyncio.gather(*map(put, planned, chunks)):
            answer = await store.commit(
                chunk, "", Limits(APPENDS, 2**40, 1, 0), now=time.time(), swept=float("inf"), container=0
            )
            assert isinstance(answer, Committed)


async def test_the_last_of_10_000_appends_costs_what_the_first_did(client: JournalClient, fleet: Fleet) -> None:
    video_id = (await client.create()).video_id
    whole = random.Random(1).randbytes(APPENDS * KIB)
    chunks = [whole[start : start + KIB] for start in range(0, len(whole), KIB)]

    async def timed(to: str, chunk: bytes, offset: int) -> float:
        started = time.perf_counter()
        answer = await client.append(to, chunk)
        assert answer.offset_bytes == offset
        return time.perf_counter() - started

    for index in range(SAMPLE):
        await timed(video_id, chunks[index], index * KIB)
    await append_directly(fleet, video_id, chunks[SAMPLE:-SAMPLE], SAMPLE * KIB)
    # A first append to another video between any two of the last ones: both see the same machine.
    fresh = [(await client.create()).video_id for _ in range(SAMPLE)]
    first: list[float] = []
    last: list[float] = []
    for index, other in enumerate(fresh, APPENDS - SAMPLE):
        first.append(await timed(other, chunks[index], 0))
        last.append(await timed(video_id, chunks[index], index * KIB))
    assert statistics.median(last) / statistics.median(first) <= 1.5
    assert (await client.upload(video_id)).chunk_count == APPENDS
    read = await client.whole(video_id)
    assert hashlib.sha256(read).digest() == hashlib.sha256(whole).digest()


async def test_64_uploads_at_once_do_not_mix(fleet: Fleet) -> None:
    """Over HTTP: the chunks of each come through both gateways, which know both replicas of every service."""
    gateways = [f"http://{gateway.listen}" for gateway in fleet.of("gateway")]

    async def record(http: aiohttp.ClientSession, seed: int) -> None:
        source, turns = random.Random(seed), itertools.cycle(gateways)
        async with http.post(f"{next(turns)}/create_video/") as answer:
            number = (await answer.json())["video_id"]
        whole = b""
        for _ in range(8):
            chunk = source.randbytes(source.randrange(1, 60_000))
            async with http.post(f"{next(turns)}/append_video/{number}/", data=chunk) as answer:
                assert answer.status == 200, await answer.text()
            whole += chunk
        for gateway in gateways:
            async with http.get(f"{gateway}/get_video/{number}/") as answer:
                assert (answer.status, await answer.read()) == (200, whole)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(record(http, seed) for seed in range(64)))
