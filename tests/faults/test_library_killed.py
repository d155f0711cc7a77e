"""SIGKILL at every step between a file's arrival and its draft: the next attempt finishes it, once."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import redis.asyncio as redis

from tests.support.armed import arm
from tests.support.clips import Clip
from tests.support.library import LibraryUser
from tests.support.object_store import keys_of
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import is_alive, until, until_ended

STEPS_OF_WORKERS = ("look.fetched", "look.pictured", "look.moved", "look.told")
QUICK = {
    "JOB_LEASE_SECONDS": "3",
    "JOB_RENEW_SECONDS": "1",
    "JOB_STALLED_CHECK_SECONDS": "0.5",
    # The catalog is away for as long as its start takes: no job may run out of tries meanwhile.
    "JOB_BACKOFF_SECONDS": "3",
    # Every worker dies once here, and one job may meet them all.
    "JOB_LOST_WORKERS": "20",
    "INGEST_INTERVAL_SECONDS": "0.3",
}


async def outcomes(system: RunningSystem) -> Counter[str]:
    """How many jobs each video had."""
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        specs = [str(await client.hget(key, "spec")) async for key in client.scan_iter(match="{ff}:job:*")]
    return Counter(spec.partition('"video_id":"')[2][:36] for spec in specs)


async def test_a_kill_at_any_step_costs_nothing(juicefs_s3: S3Server, tmp_path: Path, clips: dict[str, Clip]) -> None:
    workers = [f"worker-{number}" for number in range(1, len(STEPS_OF_WORKERS) + 1)]
    async with (
        start_system(tmp_path, env=QUICK, s3=juicefs_s3, worker=len(workers)) as system,
        aiohttp.ClientSession() as http,
    ):
        owner = LibraryUser.new(system, http)
        signed = [await owner.sign(f"clip-{number}.mp4") for number in range(8)]
        await asyncio.gather(
            *(arm(system, name, point) for name, point in zip(workers, STEPS_OF_WORKERS, strict=True)),
            arm(system, "upload", "ingest.claimed"),
        )
        for upload in signed:
            assert await owner.post(upload, clips["clip.mp4"].data) == 204
        # The uploads are claimed, and nobody is told of them.
        await until_ended(system.process("upload").pid)
        await arm(system, "catalog", "arrival.noted")
        await arm(system, "upload", "")
        async with redis.Redis.from_url(system.redis_url) as client:
            for point in ("processing.registered", ""):
                await until_ended(system.process("catalog").pid)
                await arm(system, "catalog", point)
                # The dead one's hold on the jobs that it was about to look after would run out in half a minute, too.
                due = {upload.hash_id: 0 for upload in signed}
                await client.zadd("{catalog}:processing", due, xx=True)

        def all_workers_died() -> bool:
            return not any(is_alive(system.process(name).pid) for name in workers)

        await until(all_workers_died, 60)
        # One does for what four have left.
        await arm(system, workers[0], "")
        for upload in signed:
            draft = await owner.until_mine(upload.hash_id, 60)
            assert draft["size_in_bytes"] == len(clips["clip.mp4"].data)
            async with http.get(draft["thumbnail_url"]) as picture:
                assert picture.status == 200

        async def nothing_is_left() -> bool:
            return await keys_of(system.s3, "incoming/") == set()

        await until(nothing_is_left, 45)
        for upload in signed:
            assert await keys_of(system.s3, upload.hash_id) == {
                f"catalog/{upload.hash_id}.json",
                f"thumbnails/{upload.hash_id}.jpg",
                f"videos/{upload.hash_id}.mp4",
            }
        assert await outcomes(system) == Counter({upload.hash_id: 1 for upload in signed})
