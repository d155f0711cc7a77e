"""A stream process that dies while it is read from: another one goes on, and no viewer notices."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from deploy.local.replica import Replica
from tests.support.chaos_proxy import ChaosProxy, chaos_proxy
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, more, several, videos_api

SIZE = 48 * 2**20 + 777
DATA = mp4_of(SIZE, seed=3)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
async def video_id(system: RunningSystem) -> str:
    """Of a video with these bytes."""
    async with videos_api(system.base_url) as api:
        return await api.new_video(DATA)


@pytest.fixture
async def streams(system: RunningSystem) -> AsyncIterator[tuple[VideosApi, list[Replica]]]:
    """A gateway without a cache over two replicas of its own."""
    async with several(more(system, "stream"), more(system, "stream")) as replicas:
        target = ",".join(replica.listen for replica in replicas)
        async with (
            more(system, "gateway", STREAM_TARGET=target, BLOCK_CACHE_BYTES="0") as gateway,
            videos_api(f"http://{gateway.listen}") as api,
        ):
            yield api, replicas


@pytest.fixture
async def brittle(system: RunningSystem) -> AsyncIterator[tuple[VideosApi, ChaosProxy]]:
    """A gateway without a cache over a replica whose way to the store can break."""
    async with (
        chaos_proxy(system.s3.endpoint_url) as proxy,
        more(system, "stream", S3_ENDPOINT_URL=proxy.url) as stream,
        more(system, "gateway", STREAM_TARGET=stream.listen, BLOCK_CACHE_BYTES="0") as gateway,
        videos_api(f"http://{gateway.listen}") as api,
    ):
        yield api, proxy


async def download(api: VideosApi, path: str, at: dict[int, asyncio.Event], go_on: dict[int, asyncio.Event]) -> str:
    """The digest of all that came; at each of these offsets it tells, and waits."""
    digest, size = hashlib.sha256(), 0
    stops = sorted(at)
    async with api.session.get(api.base_url + path) as answer:
        assert answer.status == 200
        while chunk := await answer.content.read(65_536):
            digest.update(chunk)
            size += len(chunk)
            if stops and size >= stops[0]:
                stop = stops.pop(0)
                at[stop].set()
                await go_on[stop].wait()
    assert size == SIZE
    return digest.hexdigest()


async def test_downloads_complete_though_a_replica_is_killed(
    streams: tuple[VideosApi, list[Replica]], video_id: str
) -> None:
    """Four downloads stand in the middle; both replicas are killed in turn, the first one having come back."""
    api, (first, second) = streams
    places = (4 * 2**20, 20 * 2**20)
    viewers = []
    for _ in range(4):
        at = {place: asyncio.Event() for place in places}
        go_on = {place: asyncio.Event() for place in places}
        task = asyncio.create_task(download(api, f"/videos/{video_id}/download", at, go_on))
        viewers.append((task, at, go_on))
    for place, victim in zip(places, (first, second), strict=True):
        for _, at, _ in viewers:
            await asyncio.wait_for(at[place].wait(), 60)
        await victim.kill()
        for _, _, go_on in viewers:
            go_on[place].set()
        if victim is first:
            await victim.start()
    digests = [await asyncio.wait_for(task, 60) for task, _, _ in viewers]
    assert digests == [DIGEST] * 4


async def test_downloads_outlive_a_moment_without_any_replica(
    streams: tuple[VideosApi, list[Replica]], video_id: str
) -> None:
    api, replicas = streams
    place = 4 * 2**20
    stands, go_on = asyncio.Event(), asyncio.Event()
    viewer = asyncio.create_task(download(api, f"/videos/{video_id}/download", {place: stands}, {place: go_on}))
    await asyncio.wait_for(stands.wait(), 60)
    await asyncio.gather(*(replica.kill() for replica in replicas))
    go_on.set()
    await replicas[0].start()
    assert await asyncio.wait_for(viewer, 60) == DIGEST


async def test_short_reads_do_not_notice_a_dead_replica(
    streams: tuple[VideosApi, list[Replica]], video_id: str
) -> None:
    api, (first, _) = streams
    await first.kill()
    for number in range(20):
        begin = number * 2_000_003
        reply = await api.get(f"/videos/{video_id}/stream", Range=f"bytes={begin}-{begin + 9}")
        assert (reply.status, reply.body) == (206, DATA[begin : begin + 10])


async def test_a_replica_that_hangs_costs_viewers_seconds_and_no_answer(
    streams: tuple[VideosApi, list[Replica]], video_id: str
) -> None:
    """It takes connections and calls, and answers nothing: no error tells anybody to look elsewhere."""
    api, (hung, _) = streams

    async def view(viewer: int) -> None:
        for number in range(10):
            begin = viewer * 5_000_007 + number * 400_003
            reply = await api.get(f"/videos/{video_id}/stream", Range=f"bytes={begin}-{begin + 9}")
            assert (reply.status, reply.body) == (206, DATA[begin : begin + 10])

    await view(0)
    hung.process.signal(signal.SIGSTOP)
    await asyncio.gather(*map(view, range(8)))


async def test_with_no_replica_left_a_viewer_is_told_when_to_come_back(
    streams: tuple[VideosApi, list[Replica]],
) -> None:
    api, replicas = streams
    video_id = await api.new_video(mp4_of(10_000))
    await asyncio.gather(*(replica.kill() for replica in replicas))
    reply = await api.get(f"/videos/{video_id}/stream")
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) >= 1
    assert set(reply.json) == {"detail"}
    assert all(replica.listen not in reply.body.decode() for replica in replicas)


async def test_a_store_that_breaks_connections_is_not_noticed(
    brittle: tuple[VideosApi, ChaosProxy], video_id: str
) -> None:
    api, proxy = brittle
    proxy.break_downloads(700_000, 1_500_000, 300_000)
    reply = await api.get(f"/videos/{video_id}/download")
    assert hashlib.sha256(reply.body).hexdigest() == DIGEST
    assert proxy.unused == 0


async def test_bytes_that_never_come_break_the_connection_off(
    brittle: tuple[VideosApi, ChaosProxy], video_id: str
) -> None:
    """The status is out already: a shorter body must never look whole."""
    api, proxy = brittle
    proxy.go_down_after(20 * 2**20)
    got = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with api.session.get(f"{api.base_url}/videos/{video_id}/download") as answer:
            async for chunk in answer.content.iter_any():
                got += chunk
    assert 0 < len(got) < SIZE
    assert DATA.startswith(got)
