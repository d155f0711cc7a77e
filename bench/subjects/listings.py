"""Listings: pages of explore and of one's own videos, with a thousand videos and with a million.

The records go straight into the index, all of one owner: what is measured is how long a page takes a client.
"""

import asyncio
import http.client
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from redis.asyncio import Redis
from reelway.v1 import media_pb2

from bench.load import Load, PeerError, percentile
from bench.peers.reelway import Reelway
from bench.registry import OURS, Bound, Metric, Outcome, Row, Target, Trial
from services.catalog.redis_video_store import LEASES, RedisVideoStore
from services.common import redis_client
from services.common.clock import SystemClock
from services.common.lease import Lease
from services.common.settings import RedisSettings

FEW, MANY = 1_000, 1_000_000
# How many of each list: a page of one's own videos has 500, one of explore 30.
PAGES = {"explore": 1000, "my": 200}
WARM_PAGES = 10
BATCH = 2_000
PERSISTING = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
FIRST_NUMBER = 10_000_000
FIRST_LISTING = 1_700_000_000_000_000
OWNER = uuid.UUID(int=1)
# Of each list, what 99 of 100 pages took with few videos: one figure a repetition.
_with_few: dict[str, list[float]] = {}


def _video(index: int) -> media_pb2.Video:
    video = media_pb2.Video(
        video_id=str(uuid.UUID(int=(1 << 64) + index)),
        number=FIRST_NUMBER + index,
        owner=str(OWNER),
        state=media_pb2.VIDEO_STATE_READY,
        version=3,
        title=f"The video with the number {index}",
        description="What can be seen in it, in a sentence or two, as people write it.",
        file_name=f"holiday-{index}.mp4",
        container=media_pb2.CONTAINER_MP4,
        size_bytes=5_000_000,
        duration_seconds=61.5,
        width=1920,
        height=1080,
    )
    video.listing_time.FromMicroseconds(FIRST_LISTING + index)
    video.create_time.FromMicroseconds(FIRST_LISTING)
    video.process_time.FromMicroseconds(FIRST_LISTING)
    return video


async def _fill(redis_url: str, count: int) -> None:
    async with redis_client.connect(RedisSettings(redis_url=redis_url), text=False) as client:
        store = RedisVideoStore(client, SystemClock())
        done = await client.zcard(f"{{catalog}}:library:{OWNER}")
        lease = Lease(client, LEASES + "rebuild", 60)

        async def load() -> None:
            for start in range(done, count, BATCH):
                await store.load([_video(index) for index in range(start, min(count, start + BATCH))], lease)

        await lease.hold(load)
        await lease.release()
        # A million records at once make Redis write its files again; that is the filling's cost, and no page's.
        async with asyncio.timeout(300):
            while await _is_persisting(client):  # noqa: ASYNC110 - Redis tells nobody when it is done
                await asyncio.sleep(0.5)


async def _is_persisting(client: Redis) -> bool:
    state = await client.info("persistence")
    return any(int(state[name]) for name in PERSISTING)


def _pages(trial: Trial, name: str) -> Load:
    """Page after page from the newest on, and again from there, over one connection."""
    assert isinstance(trial.peer, Reelway)
    host, port = trial.peer.address
    connection = http.client.HTTPConnection(host, port, timeout=30)
    path = f"/video/{name}"
    headers = trial.peer.authorization(OWNER) if name == "my" else {}
    latencies, size, token = list[float](), 0, ""
    began = time.perf_counter()
    try:
        for page in range(WARM_PAGES + PAGES[name]):
            started = time.perf_counter()
            connection.request("GET", f"{path}?next={quote(token)}" if token else path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise PeerError(f"{path}: {answer.status}")
            if page >= WARM_PAGES:
                latencies.append(1000 * (time.perf_counter() - started))
                size += len(body)
            token = json.loads(body).get("next", "")
    finally:
        connection.close()
    return Load(size, time.perf_counter() - began, 0.0, latencies)


def _row(name: str, count: int) -> Row:
    def prepare(trial: Trial) -> None:
        assert isinstance(trial.peer, Reelway)
        # The bench has a loop of its own in this thread.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _fill(trial.peer.storage.redis.url, count)).result()

    def measure(trial: Trial) -> Outcome:
        load = _pages(trial, name)
        p99 = percentile(load.latency_ms, 99)
        if count == FEW:
            _with_few.setdefault(name, []).append(p99)
        few = _with_few.get(name)
        ratio = {Metric.P99_RATIO: p99 / percentile(few, 50)} if few else {}
        return Outcome(load, ratio)

    return Row(
        f"listings.{name}.{count}",
        f"pages of /video/{name} with {count:,} videos".replace(",", " "),
        (Metric.P50_MS, Metric.P99_MS, Metric.P99_RATIO),
        measure,
        prepare,
        peers=(OURS,),
    )


# All rows with few come before any with many: what is in the index stays there.
ROWS = tuple(_row(name, count) for count in (FEW, MANY) for name in PAGES)

TARGETS = tuple(Target(f"listings.{name}.{MANY}", Metric.P99_RATIO, "", Bound.AT_MOST, 1.5) for name in PAGES)
