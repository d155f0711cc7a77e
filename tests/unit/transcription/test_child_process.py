"""The process in which speech is heard, seen from its parent."""

import asyncio
from typing import Any

import pytest

from services.common import tasks
from services.ffmpeg.transcription.child import Request
from services.ffmpeg.transcription.child_process import Plan, run_child
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import Heard, Piece

REQUEST = Request(parent=0, memory=0, pcm="/dev/null", language="", config=EngineConfig())


async def take(_: Plan | Piece) -> None: ...


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

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_one_that_is_slow_to_die)
    hearing = asyncio.create_task(run_child(REQUEST, (), 60, {}, take))
    process = await begun
    await tasks.end(hearing)
    assert process.returncode is not None


async def failure(monkeypatch: pytest.MonkeyPatch, script: str, known: list[Piece] | None = None) -> str:
    """How a child that is this shell script fails."""
    start = asyncio.create_subprocess_exec

    async def start_script(*_: str, **options: Any) -> asyncio.subprocess.Process:
        return await start("sh", "-c", script, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_script)
    with pytest.raises(TranscriptionError) as raised:
        await run_child(REQUEST, known or [], 60, {}, take)
    assert raised.value.reason is FailureReason.CRASHED
    return raised.value.detail


@pytest.mark.parametrize("line", ['{"piece": {"sta', "[]", "{}", '{"failed": "UNHEARD_OF"}', '{"piece": 1}'])
async def test_what_is_no_event_is_a_crash(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert (await failure(monkeypatch, f"echo '{line}'")).startswith("not an event: ")


async def test_the_end_of_what_a_child_said_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said = await failure(monkeypatch, "printf '%09000d' 0 >&2; echo the end >&2; exit 3")
    assert said.startswith("exit 3: 000")
    assert said.endswith("0the end")
    assert len(said) < 2100


async def test_a_child_that_is_dead_before_it_is_asked_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """More pieces are known than fit into a pipe that nobody reads."""
    assert await failure(monkeypatch, "exit 4", [Piece(0, 1, "x" * 1000, Heard())] * 1000) == "exit 4: "
