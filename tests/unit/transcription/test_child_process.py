"""The process in which speech is heard, seen from its parent."""

import asyncio
from typing import Any

import pytest

from services.common import tasks
from services.ffmpeg.transcription.child import Request
from services.ffmpeg.transcription.child_process import Plan, run_child
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.words import Piece


async def test_who_is_cancelled_again_and_again_waits_for_its_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with gigabytes to free takes a while to die, and has them until then: the next must not begin beside it."""
    loop, start = asyncio.get_running_loop(), asyncio.create_subprocess_exec
    begun: asyncio.Future[asyncio.subprocess.Process] = loop.create_future()

    async def start_one_that_is_slow_to_die(*_: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start("sleep", "60", **options)
        kill = process.kill
        monkeypatch.setattr(process, "kill", lambda: loop.call_later(1.2, kill))
        begun.set_result(process)
        return process

    async def take(_: Plan | Piece) -> None: ...

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_one_that_is_slow_to_die)
    request = Request(parent=0, memory=0, pcm="/dev/null", language="", config=EngineConfig())
    hearing = asyncio.create_task(run_child(request, (), 60, {}, take))
    process = await begun
    await tasks.end(hearing)
    assert process.returncode is not None
