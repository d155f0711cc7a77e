"""Told to stop, every process finishes what it accepted: uploads and downloads under way lose no byte."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator

import pytest

from services.common.s3_objects import S3Objects
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import more, multiparts, several, video_ids, videos_api
from tests.support.waiting import until

DATA = mp4_of(24 * 2**20 + 5, seed=11)
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture
async def store(system: RunningSystem) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(system.s3.settings) as objects:
        yield objects


def form_in_two(data: bytes, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        yield data[: len(data) // 2]
        await go_on.wait()
        yield data[len(data) // 2 :] + b"\r\n--b--\r\n"

    return pieces()


async def test_an_upload_and_a_download_outlive_the_stop_of_every_process(
    system: RunningSystem, store: S3Objects
) -> None:
    async with several(
        more(system, "upload", DRAIN_SECONDS="30"), more(system, "stream", DRAIN_SECONDS="30"), more(system, "stream")
    ) as (upload, stream, other):
        target = f"{stream.listen},{other.listen}"
        environment = {"UPLOAD_TARGET": upload.listen, "STREAM_TARGET": target, "DRAIN_SECONDS": "30"}
        async with (
            more(system, "gateway", BLOCK_CACHE_BYTES="0", **environment) as gateway,
            videos_api(f"http://{gateway.listen}") as api,
        ):
            video_id = await api.new_video(DATA)
            go_on = asyncio.Event()
            posted = asyncio.create_task(api.call("POST", "/videos", FORM, form_in_two(DATA, go_on)))
            await until(lambda: _under_way(store))
            async with api.session.get(f"{api.base_url}/videos/{video_id}/download") as answer:
                got = await answer.content.readexactly(3_000_000)
                for process in (gateway, upload, stream):
                    process.process.signal(signal.SIGTERM)
                ended = asyncio.create_task(stream.process.wait())
                # So slowly that the process ends in the middle; whom nobody reads from would wait out its drain.
                while not (await asyncio.wait([ended], timeout=0.05))[0]:
                    got += await answer.content.readexactly(100_000)
                got += await answer.content.read()
            assert hashlib.sha256(got).digest() == hashlib.sha256(DATA).digest()
            go_on.set()
            reply = await asyncio.wait_for(posted, 30)
            assert reply.status == 201
            assert await asyncio.wait_for(gateway.process.wait(), 20) == 0
            assert await asyncio.wait_for(upload.process.wait(), 20) == 0
        stored = await store.get(f"videos/{reply.json['id']}.mp4")
        assert stored is not None
        assert hashlib.sha256(stored).digest() == hashlib.sha256(DATA).digest()


async def _under_way(store: S3Objects) -> bool:
    return bool(await multiparts(store))


async def test_an_upload_that_outlasts_the_drain_is_undone_before_the_process_ends(
    system: RunningSystem, store: S3Objects
) -> None:
    """Nothing is left for the sweep: the process goes last."""
    async with (
        more(system, "upload", DRAIN_SECONDS="0.3") as upload,
        more(system, "gateway", UPLOAD_TARGET=upload.listen) as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        before = await video_ids(store)
        never = asyncio.Event()
        posted = asyncio.create_task(api.call("POST", "/videos", FORM, form_in_two(DATA, never)))
        await until(lambda: _under_way(store))
        upload.process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(upload.process.wait(), 20) == 0
        assert await multiparts(store) == []
        assert await video_ids(store) == before
        reply = await asyncio.wait_for(posted, 30)
        assert reply.status == 503
