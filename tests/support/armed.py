"""Processes of a started system that die at a step of their work."""

import contextlib

import redis.asyncio as redis

from deploy.local.process import StartError
from tests.support.system import RunningSystem


async def arm(system: RunningSystem, name: str, point: str) -> None:
    """Start a process again, to die at a point; empty: to live."""
    replica = system.process(name)
    replica.env["FAULT_POINT"] = point
    await replica.kill()
    if name == "upload":
        # The dead one's lease and its marks would run out by themselves in half a minute.
        async with redis.Redis.from_url(system.redis_url) as client:
            await client.delete("{ingest}:lease", *[key async for key in client.scan_iter(match="{ingest}:told:*")])
    # What it left before leads it there perhaps before it says that it is ready.
    with contextlib.suppress(StartError) if point else contextlib.nullcontext():
        await replica.start()
