"""A recorder of dialect 002 on a running system, and what becomes of its transcripts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio as redis

from tests.support.library import LibraryUser
from tests.support.system import RunningSystem
from tests.support.waiting import until

RECORD = "/api/record/videos"
_ORDER = ("pending", "running", "completed")


FINALIZE = f"{RECORD}/finalize_video_upload"


async def record(user: LibraryUser, media: Path) -> int:
    """All three phases, the last one twice; the video's number."""
    number = await send(user, media)
    for _ in range(2):
        done = await user.ask("POST", FINALIZE, json={"video_id": number})
        assert done == {"message": "Transcription task initiated"}
    return number


async def send(user: LibraryUser, media: Path, chunks: int = 5) -> int:
    """All but the last phase; the video's number."""
    number: int = (await user.ask("POST", RECORD, 201, json={"title": media.stem, "description": ""}))["video_id"]
    data = await asyncio.to_thread(media.read_bytes)
    step = len(data) // chunks + 1
    for start in range(0, len(data), step):
        form = aiohttp.FormData()
        form.add_field("video_id", str(number))
        form.add_field("video_chunck", data[start : start + step], filename="blob", content_type="video/webm")
        await user.ask("PATCH", f"{RECORD}/update_video_chunck", data=form)
    return number


async def ended(user: LibraryUser, number: int, seconds: float = 90) -> Any:
    """The video once its transcript is completed or failed; it never goes a step back."""
    seen = ["pending"]
    video: Any = None

    async def has_ended() -> bool:
        nonlocal video
        video = await user.ask("GET", f"{RECORD}/{number}")
        seen.append(video["transcription_status"])
        return seen[-1] in {"completed", "failed"}

    await until(has_ended, seconds)
    steps = [_ORDER.index(state) for state in seen if state in _ORDER]
    assert steps == sorted(steps)
    return video


async def uuid_of(system: RunningSystem, number: int) -> str:
    """A video's uuid by its number."""
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        return str(await client.hget("{catalog}:numbers", str(number)))


async def transcriptions(system: RunningSystem, video_id: str) -> int:
    """How many jobs a video's transcript had."""
    async with redis.Redis.from_url(system.redis_url, decode_responses=True) as client:
        jobs = [await client.hgetall(key) async for key in client.scan_iter(match="{ff}:job:*")]
    return sum(job.get("kind") == "transcribe" and video_id in job["spec"] for job in jobs)
