"""The upload process is killed in the middle of an upload: the client learns of it, and nothing is left."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import redis.asyncio as redis

from services.common.s3_objects import S3Objects
from services.upload.open_uploads import LEASE
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import (
    VideosApi,
    is_under_way,
    more,
    multiparts,
    none_under_way,
    video_ids,
    videos_api,
)
from tests.support.waiting import until

QUICK = {"UPLOAD_LEASE_SECONDS": "1", "UPLOAD_SWEEP_INTERVAL_SECONDS": "0.2"}


@pytest.fixture
async def store(system: RunningSystem) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(system.s3.settings) as objects:
        yield objects


async def test_killed_in_the_middle(system: RunningSystem, store: S3Objects, mp4: bytes) -> None:
    async with (
        more(system, "upload", **QUICK) as upload,
        more(system, "gateway", UPLOAD_TARGET=upload.listen) as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        before = await video_ids(store)
        go_on = asyncio.Event()
        # The system's own process sweeps, too: not before we have looked at what the killed one left.
        async with redis.Redis.from_url(system.redis_url) as client:
            await client.set(LEASE, "this test", px=60_000)

        async def form() -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
            data = mp4_of(20 * 2**20)
            yield data[: 18 * 2**20]
            await go_on.wait()
            yield data[18 * 2**20 :] + b"\r\n--b--\r\n"

        sent = asyncio.create_task(
            api.call("POST", "/videos", {"Content-Type": "multipart/form-data; boundary=b"}, form())
        )
        await until(lambda: is_under_way(store))
        await upload.kill()
        go_on.set()
        assert await _failed(sent)
        assert await video_ids(store) == before, "no video, no object"
        assert await multiparts(store), "a killed process takes nothing with it"
        await upload.start()
        async with redis.Redis.from_url(system.redis_url) as client:
            # Whoever swept last may have been the one that was killed; its lease would hold for a minute.
            await client.delete(LEASE)
        await until(lambda: none_under_way(store))
        assert await video_ids(store) == before

        async def works_again() -> bool:
            return (await api.upload(mp4)).status == 201

        await until(works_again)


async def _failed(sent: "asyncio.Task[object]") -> bool:
    try:
        reply = await asyncio.wait_for(sent, 30)
    except aiohttp.ClientError:
        return True
    assert getattr(reply, "status", 0) == 503, reply
    return True


async def test_many_clients_that_vanish_leave_nothing(system: RunningSystem, store: S3Objects) -> None:
    """At any byte: before the file, in its first part, between two messages."""
    before = await video_ids(store)
    async with videos_api(system.base_url) as api:
        await asyncio.gather(*(_vanish(api, size) for size in (10, 100, 5000, 70_000, 1_000_000, 9_000_000)))
    await until(lambda: none_under_way(store))
    assert await video_ids(store) == before


async def _vanish(api: VideosApi, after: int) -> None:
    host, _, port = api.base_url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    lines = ["POST /videos HTTP/1.1", "Host: t", "Content-Length: 50000000"]
    lines += ["Content-Type: multipart/form-data; boundary=b", "", "--b"]
    lines += ['Content-Disposition: form-data; name="video"; filename="a.mp4"', "", ""]
    writer.write("\r\n".join(lines).encode() + mp4_of(after))
    await writer.drain()
    writer.transport.abort()
