"""A picture of a video, and how long it is where its file does not say."""

from __future__ import annotations

from pathlib import Path

from services.ffmpeg.format_table import INPUT_GUARD
from services.ffmpeg.job import Progress
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.progress import ProgressReader
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder

WIDTH, HEIGHT = 360, 200
_NAME = "thumbnail.jpg"
_LIMITS = Limits(
    wall_seconds=120, cpu_seconds=120, memory_bytes=2 * 2**30, address_space_bytes=6 * 2**30, output_bytes=2**24
)
# Whole in the frame, whatever its shape, on black; odd pixels stretched to square ones first.
_FIT = (
    f"scale=iw*sar:ih,scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease,"
    f"pad={WIDTH}:{HEIGHT}:(ow-iw)/2:(oh-ih)/2,setsar=1,format=yuvj420p"
)


def _input(sandbox: Sandbox, path: Path, *options: str) -> list[str]:
    argv = [sandbox.ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"]
    return [*argv, "-max_pixels", str(_LIMITS.max_pixels), *options, *INPUT_GUARD, "-i", f"file:{path}"]


async def thumbnail(
    sandbox: Sandbox, folder: WorkFolder, path: Path, at_seconds: float, *, whole: bool
) -> bytes | None:
    """A JPEG of the frame at this time, of the first one where there is none; None where nothing can be decoded.

    Of a file with holes, of the next key frame.
    """
    # However many frames of a file with holes are damaged: ffmpeg 8 would count also those behind the one it writes.
    decoding = () if whole else ("-skip_frame", "nokey", "-err_detect", "explode", "-max_error_rate", "1")
    target = folder.path / "out" / _NAME
    for second in dict.fromkeys((at_seconds, 0.0)):
        # To seek to 0 is not to begin there: of H.264 in AVI it finds nothing.
        seek = ("-ss", f"{second:.3f}") if second else ()
        argv = _input(sandbox, path, *decoding, *seek)
        argv += ["-map", "0:V:0", "-frames:v", "1", "-vf", _FIT, "-q:v", "4", "-f", "image2", "-update", "1"]
        result = await run_sandboxed(sandbox, [*argv, f"file:{target}"], folder, _LIMITS)
        result.require_conclusive()
        if result.ended is Ended.SUCCEEDED and target.is_file() and target.stat().st_size:
            return target.read_bytes()
    # A frame far into a video may take the decoder long; the first one does only on a machine that stands still.
    result.require_time()
    return None


async def measured_seconds(sandbox: Sandbox, folder: WorkFolder, path: Path) -> float | None:
    """How long the video is, by reading all of it, not decoding; None where that cannot be told.

    A browser's recorder, for one, writes WebM without a duration.
    """
    seconds = 0.0

    def note(progress: Progress) -> None:
        nonlocal seconds
        seconds = max(seconds, progress.media_seconds)

    argv = [*_input(sandbox, path), "-map", "0:V:0", "-c", "copy", "-progress", "pipe:1", "-f", "null", "-"]
    result = await run_sandboxed(sandbox, argv, folder, _LIMITS, on_line=ProgressReader(None, note).line)
    result.require_conclusive()
    # Of a damaged file what can be read is all there is; what was read until a limit is not.
    return seconds or None if result.ended in (Ended.SUCCEEDED, Ended.FAILED) else None
