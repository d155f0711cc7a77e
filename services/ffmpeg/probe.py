"""What a file is: ffprobe in the same cage as ffmpeg, with the same whitelists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.ffmpeg.error_text import last_words
from services.ffmpeg.format_table import INPUT_GUARD
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder

_Found = TypeVar("_Found")

_MAX_REPORT_BYTES = 4 * 2**20
# What is asked for and nothing else: a tag can have any length, and a line that is cut is no JSON.
_ENTRIES = "format=duration:stream=codec_type,codec_name,width,height:stream_disposition=attached_pic"
_LIMITS = Limits(wall_seconds=60, cpu_seconds=60, memory_bytes=2**30, address_space_bytes=4 * 2**30, output_bytes=2**20)


class ProbeFailed(Exception):
    """The file is not media that we take; `args[0]` says why, for the client."""


class ProbeCutShort(ProbeFailed):
    """It broke a limit, of time for one, or was ended by a signal: what the file is was not found out."""


@dataclass(frozen=True)
class Stream:
    """One stream of a file."""

    kind: str
    """`video`, `audio`, `subtitle`, `data` or `attachment`."""
    codec: str
    """ffmpeg's name; empty where it is not known."""
    width: int
    height: int
    """Pixels as coded; 0 where it is not video."""
    is_picture: bool
    """A cover picture, not moving video."""


@dataclass(frozen=True)
class MediaInfo:
    """One file."""

    duration_seconds: float | None
    streams: tuple[Stream, ...]

    @property
    def video(self) -> Stream | None:
        """The first moving video."""
        return next((stream for stream in self.streams if stream.kind == "video" and not stream.is_picture), None)

    @property
    def audio(self) -> Stream | None:
        """The first sound."""
        return next((stream for stream in self.streams if stream.kind == "audio"), None)


async def probe(sandbox: Sandbox, folder: WorkFolder, path: Path) -> MediaInfo:
    """What the file at `path`, inside `folder`, is. Raises ProbeFailed; CancelledError ends ffprobe too."""
    return await described(sandbox, folder, path, _ENTRIES, _media_info)


async def described(
    sandbox: Sandbox,
    folder: WorkFolder,
    path: Path,
    entries: str,
    read: Callable[[dict[str, Any]], _Found],
    *options: str,
) -> _Found:
    """What `read` makes of ffprobe's report of these entries; ProbeFailed where there is none that it can read."""
    report = bytearray()

    def gather(line: bytes) -> None:
        if len(report) < _MAX_REPORT_BYTES:
            report.extend(line)

    await ask(sandbox, folder, path, entries, gather, "-print_format", "json", *options)
    try:
        return read(json.loads(bytes(report)))
    except (ValueError, KeyError, TypeError):
        raise ProbeFailed("the file cannot be described") from None


async def ask(
    sandbox: Sandbox, folder: WorkFolder, path: Path, entries: str, on_line: Callable[[bytes], None], *options: str
) -> None:
    """Have ffprobe tell these entries, line by line; raises ProbeFailed where it cannot read it, NoTimeError."""
    argv = [sandbox.ffprobe, "-hide_banner", "-loglevel", "level+error", "-show_entries", entries, *options]
    argv += [*INPUT_GUARD, "-i", f"file:{path}"]
    result = await run_sandboxed(sandbox, argv, folder, _LIMITS, on_line=on_line)
    result.require_conclusive()
    result.require_time()
    if result.ended is not Ended.SUCCEEDED:
        if result.ended is not Ended.FAILED or result.exit_code < 0:
            raise ProbeCutShort(result.ended.value)
        raise ProbeFailed(last_words(result.stderr, {str(path): "the file"}) or result.ended.value)


def _media_info(value: Mapping[str, Any]) -> MediaInfo:
    streams = tuple(_stream(stream) for stream in value.get("streams", []))
    duration = float(value.get("format", {}).get("duration", "nan"))
    return MediaInfo(
        duration_seconds=duration if duration >= 0 else None,
        streams=streams,
    )


def _stream(value: Mapping[str, Any]) -> Stream:
    return Stream(
        kind=str(value.get("codec_type", "data")),
        codec=str(value.get("codec_name", "")),
        width=int(value.get("width", 0)),
        height=int(value.get("height", 0)),
        is_picture=bool(value.get("disposition", {}).get("attached_pic", 0)),
    )
