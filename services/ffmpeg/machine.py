"""What this machine can run: its ffmpeg, in the cage that its kernel allows."""

from __future__ import annotations

import os
from pathlib import Path

from services.common import logs
from services.ffmpeg import binaries
from services.ffmpeg.isolation import Isolation, Mode, detect_layers, examine, protect_process
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.settings import JobSettings
from services.ffmpeg.work_folder import WorkRoot

log = logs.get_logger(__name__)


async def examine_machine(settings: JobSettings, root: WorkRoot) -> Isolation | None:
    """The verdict, once at start, about half a second; None where there is no ffmpeg.

    Exits with one line where commands would run behind the arguments' policy alone, open to the network.
    """
    protect_process()
    try:
        ffmpeg = binaries.find("ffmpeg", settings.ffmpeg_bin)
        ffprobe = binaries.find("ffprobe", settings.ffprobe_bin or _beside(settings.ffmpeg_bin))
    except binaries.ProgramMissing as error:
        log.error("no ffmpeg", why=str(error))
        return None
    sandbox = Sandbox(ffmpeg, ffprobe, detect_layers())
    found = await examine(sandbox, Mode(settings.isolation), root, settings.limits)
    tell = log.info if found.level == "kernel" else log.warning
    tell("isolation", mode=found.mode.value, isolated=found.level, missing=list(found.missing), ready=found.ready)
    if found.ready and found.loopback_only and not settings.listens_on_loopback:
        raise SystemExit(
            f"settings: GRPC_LISTEN: {settings.grpc_listen}: without isolation only loopback is listened on"
        )
    return found


def _beside(ffmpeg: str) -> str:
    """The ffprobe in the folder of a configured ffmpeg, where there is one."""
    path = Path(ffmpeg).with_name("ffprobe") if os.sep in ffmpeg else None
    return str(path) if path is not None and os.access(path, os.X_OK) else ""
