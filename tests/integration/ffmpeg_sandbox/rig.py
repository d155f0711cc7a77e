"""The real ffmpeg in the cage, as a worker runs it."""

from __future__ import annotations

from services.ffmpeg.binaries import find
from services.ffmpeg.command_policy import plan
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import RunResult, run_sandboxed
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder
from tests.support.programs import installed

SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())
LIMITS = Limits(wall_seconds=20, cpu_seconds=20, memory_bytes=2**30, output_bytes=20 * 2**20, threads=2)
SLOW = "-f lavfi -i testsrc=s=640x360:r=25:d=36000 -c:v libx264 -preset veryslow out_1"


async def run(folder: WorkFolder, command: str, limits: Limits, name: str = "o.mkv") -> RunResult:
    made = plan(command, {}, {"out_1": name}, limits)
    return await run_sandboxed(SANDBOX, [SANDBOX.ffmpeg, *made.argv(folder.path)], folder, limits)
