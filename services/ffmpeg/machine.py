"""What this machine can run: its ffmpeg, in the cage that its kernel allows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from services.common import logs
from services.common.backoff import Backoff, retry
from services.common.settings import on_loopback, refuse
from services.ffmpeg import binaries
from services.ffmpeg.isolation import Isolation, Mode, NoVerdict, detect_layers, examine, protect_process
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.settings import JobSettings
from services.ffmpeg.work_folder import WorkRoot

log = logs.get_logger(__name__)

_AGAIN = Backoff(attempts=6, first_seconds=0.5, longest_seconds=4.0)
_AGAIN_SECONDS = 25.0
"""No try begins much later, and none takes more than 20 s: Kubernetes and deploy/local wait a minute and more for a
process that starts."""


@contextlib.contextmanager
def work_root(folder: Path) -> Iterator[WorkRoot]:
    """A place for files under WORK_DIR; exits with one line where none can be had."""
    try:
        root = WorkRoot(folder)
    except OSError as error:
        refuse(f"WORK_DIR: {error.filename or folder}: {error.strerror}")
    try:
        yield root
    finally:
        root.close()


async def examine_machine(settings: JobSettings, root: WorkRoot) -> Isolation | None:
    """The verdict, once at start, about half a second; None where there is no ffmpeg.

    Exits with one line where there is no verdict after some tries, so that whoever supervises the process starts it
    again, and where commands would run behind the arguments' policy alone, open to the network.
    """
    protect_process()
    try:
        programs = binaries.find(settings.ffmpeg_bin, settings.ffprobe_bin)
    except binaries.ProgramMissing as error:
        log.error("no ffmpeg", why=str(error))
        return None
    # Not left to the worker's reaper: a process that ends because the disk is full would never get to it.
    await asyncio.to_thread(root.sweep)
    found = await _judged(Sandbox(programs.ffmpeg, programs.ffprobe, detect_layers()), settings, root)
    tell = log.info if found.level == "kernel" else log.warning
    tell("isolation", mode=found.mode.value, isolated=found.level, missing=list(found.missing), ready=found.ready)
    if found.ready and found.loopback_only and not on_loopback(settings.grpc_listen):
        refuse(f"GRPC_LISTEN: {settings.grpc_listen}: without isolation only loopback is listened on")
    return found


async def _judged(sandbox: Sandbox, settings: JobSettings, root: WorkRoot) -> Isolation:
    last = time.monotonic() + _AGAIN_SECONDS

    def again(error: Exception) -> bool:
        log.warning("isolation: no verdict", why=str(error))
        return isinstance(error, NoVerdict) and time.monotonic() < last

    mode, limits = Mode(settings.isolation), settings.limits
    try:
        return await retry(lambda: examine(sandbox, mode, root, limits), again, _AGAIN)
    except NoVerdict as error:
        raise SystemExit(f"isolation: no verdict: the self-test {error}") from None
