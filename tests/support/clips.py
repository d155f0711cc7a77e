"""Real clips, made by ffmpeg once a run: one of each container that the system takes."""

import json
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from reelway.v1 import media_pb2

from services.ffmpeg.binaries import find
from tests.support.programs import static

_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
_MPEG2 = ("-c:v", "mpeg2video")
# The static build starts in a fiftieth of the time of Debian's, but lacks the one and refuses odd pixels in the other.
_DEBIANS = {"libtheora", "ffv1"}

# Name of the file -> what it is, and how ffmpeg is told to make it.
_RECIPES: dict[str, tuple[media_pb2.Container.ValueType, Sequence[str]]] = {
    "clip.mp4": (media_pb2.CONTAINER_MP4, (*_X264, "-movflags", "+faststart")),
    "clip.webm": (media_pb2.CONTAINER_WEBM, ("-c:v", "libvpx", "-deadline", "realtime")),
    "clip.avi": (media_pb2.CONTAINER_AVI, ("-c:v", "mpeg4")),
    "clip.ogv": (media_pb2.CONTAINER_OGG, ("-c:v", "libtheora")),
    "clip.mov": (media_pb2.CONTAINER_MOV, _X264),
    "clip.mkv": (media_pb2.CONTAINER_MKV, _X264),
    "clip.ts": (media_pb2.CONTAINER_MPEG_TS, _MPEG2),
    "clip.mpg": (media_pb2.CONTAINER_MPEG_PS, _MPEG2),
}

WEBM = bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d42878104428581021853806701ffffffffffffff")
"""The beginning of a WebM file, as MediaRecorder writes it."""
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
"""That of an MP4."""


@dataclass(frozen=True)
class Clip:
    """One file and what it is."""

    path: Path
    container: media_pb2.Container.ValueType

    @property
    def data(self) -> bytes:
        """All of it; clips are small."""
        return self.path.read_bytes()


def make_clip(path: Path, arguments: Sequence[str], *, seconds: float = 0.4, size: str = "128x96") -> Path:
    """A moving test picture; the container follows the file's extension."""
    picture = f"testsrc=duration={seconds}:size={size}:rate=25"
    program = find().ffmpeg if _DEBIANS & {*arguments} else static()
    command = [program, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", picture, *arguments]
    subprocess.run([*command, str(path)], check=True, timeout=60)
    return path


def changing(path: Path, *clips: Path) -> Path:
    """The packets of these files in one, as of a window that is recorded while its size changes."""
    listing = path.with_suffix(".txt")
    listing.write_text("".join(f"file {clip}\n" for clip in clips))
    command = [static(), "-v", "error", "-nostdin", "-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy"]
    subprocess.run([*command, str(path)], check=True, timeout=60)
    return path


def described(path: Path, *arguments: str) -> Any:
    """What ffprobe says of a file, asked by these arguments: the static build, which starts quickly."""
    command = [static("ffprobe"), "-v", "error", "-of", "json", *arguments, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """A clip of each container, by its file name."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        name: Clip(make_clip(folder / name, arguments), container) for name, (container, arguments) in _RECIPES.items()
    }


@pytest.fixture(scope="session")
def mp4(clips: dict[str, Clip]) -> bytes:
    """The bytes of a small MP4."""
    return clips["clip.mp4"].data


def mp4_of(size: int, seed: int = 0) -> bytes:
    """`size` bytes that begin as an MP4 does and go on with what repeats at no power of two."""
    body = random.Random(seed).randbytes(2**20 + 1)
    return (MP4 + body * (size // len(body) + 1))[:size]
