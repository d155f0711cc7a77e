"""The parent's side of `child.py`: starts it, follows it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common import tasks
from services.ffmpeg.transcription.child import Request
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import Piece

_MAX_LINE = 16 << 20
"""Bytes of one event; five minutes of fast speech are 100 kB."""
_LAST_WORDS = 2000
"""Bytes of standard error that are kept."""


@dataclass(frozen=True)
class Plan:
    """The first event: how the audio is cut, and by which model it is heard."""

    model: str
    spans: tuple[tuple[int, int], ...]
    """[start, end) in samples, in order."""


def environment(request: Request, extra: Mapping[str, str]) -> dict[str, str]:
    """All of the child's environment: none of the worker's secrets are in it."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "HF_HOME": f"{request.config.cache_dir}/hub",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0" if request.config.allow_download else "1",
        "OMP_NUM_THREADS": str(request.config.threads),
        "OPENBLAS_NUM_THREADS": str(request.config.threads),
        **extra,
    }


async def run_child(
    request: Request,
    known: Sequence[Piece],
    timeout: float,
    extra_environment: Mapping[str, str],
    take: Callable[[Plan | Piece], Awaitable[None]],
) -> None:
    """Give `take` the plan, then the pieces that were not known, as they come; the child is dead on return.

    Raises:
        TranscriptionError: what the child failed with; TIMED_OUT after `timeout` seconds in all; CRASHED if it
            ended in any other way than it should.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ffmpeg.transcription.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(request, extra_environment),
        limit=_MAX_LINE,
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise RuntimeError("a child without its pipes")
    last_words = asyncio.create_task(_last_words(stderr))
    try:
        async with asyncio.timeout(timeout):
            await _ask(stdin, request, known)
            async for line in stdout:
                await take(_event(line))
            returncode = await process.wait()
    except TimeoutError:
        raise TranscriptionError(FailureReason.TIMED_OUT, f"after {timeout:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Whoever is cancelled again meanwhile waits, too: until it is dead it has its memory.
        words = await tasks.undisturbed(_end_of(process, last_words))
    if returncode != 0:
        raise TranscriptionError(FailureReason.CRASHED, f"{_ending(returncode)}: {words}")


async def _end_of(process: asyncio.subprocess.Process, last_words: asyncio.Task[str]) -> str:
    await process.wait()
    return await last_words


async def _ask(stdin: asyncio.StreamWriter, request: Request, known: Sequence[Piece]) -> None:
    """Write the request; a child that is dead already is noticed at its output."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(request.to_json().encode() + b"\n")
        for piece in known:
            stdin.write(piece.to_json().encode() + b"\n")
            await stdin.drain()
        stdin.close()


async def _last_words(stderr: asyncio.StreamReader) -> str:
    """The end of what a process says, until it is dead."""
    tail = b""
    while block := await stderr.read(4096):
        tail = (tail + block)[-_LAST_WORDS:]
    return tail.decode(errors="replace").strip()


def _event(line: bytes) -> Plan | Piece:
    try:
        event: dict[str, Any] = json.loads(line)
        failed = FailureReason[event["failed"]] if "failed" in event else None
        if failed is None:
            if "piece" in event:
                return Piece.from_json(json.dumps(event["piece"]))
            return Plan(str(event["model"]), tuple((int(a), int(b)) for a, b in event["spans"]))
    except (ValueError, KeyError, TypeError) as error:
        # A child that is killed can leave half a line.
        raise TranscriptionError(FailureReason.CRASHED, f"not an event: {error!r}") from None
    raise TranscriptionError(failed, str(event.get("detail", "")))


def _ending(returncode: int) -> str:
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit {returncode}"
