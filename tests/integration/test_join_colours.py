"""What colours are seen of clips that are joined."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import make_clip
from tests.support.joins import PROGRAMS
from tests.support.programs import static

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def shades(path: Path) -> list[tuple[int, ...]]:
    """Red, green and blue in the middle of each frame, as a player shows it."""
    command = [static(), "-v", "error", "-i", str(path), "-vf", "crop=2:2,scale=1:1", "-fps_mode", "passthrough"]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True, timeout=60
    ).stdout
    return [tuple(raw[start : start + 3]) for start in range(0, len(raw), 3)]


def plain(path: Path, colour: str, matrix: str, *codec: str, size: str = "128x96", tag: str = "") -> Path:
    """Five frames of one colour, in numbers by this matrix, which the file tells unless it tells another."""
    paint = f"drawbox=c={colour}:t=fill,scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"
    told = f"setparams=colorspace={tag or matrix}"
    return make_clip(path, ("-vf", f"{paint},{told}", *(codec or X264)), seconds=0.2, size=size)


def is_near(found: Sequence[tuple[int, ...]], wanted: tuple[int, ...]) -> bool:
    """Whether all are what was painted, but for what an encoder takes."""
    return all(abs(one - other) <= 8 for shade in found for one, other in zip(shade, wanted, strict=True))


@PROGRAMS
@pytest.mark.parametrize("order", [("bt709", "smpte170m"), ("bt709", "bt2020nc")])
async def test_a_colour_is_the_same_in_clips_that_count_it_otherwise(
    joined: Any, tmp_path: Path, program: Any, order: tuple[str, str]
) -> None:
    names = {"bt2020nc": "bt2020"}
    clips = [
        plain(tmp_path / f"{matrix}.mp4", "red", names.get(matrix, matrix), tag=matrix, size=size)
        for matrix, size in zip(order, ("128x96", "64x48"), strict=True)
    ]
    both = await joined(*clips, program=program())
    assert (both.encoded, both.video["color_space"]) == (True, order[0])
    found = shades(both.path)
    assert (len(found), is_near(found, (254, 0, 0))) == (10, True), found


@PROGRAMS
async def test_a_clip_that_does_not_tell_its_colours_is_taken_by_its_size(
    joined: Any, tmp_path: Path, program: Any
) -> None:
    small = plain(tmp_path / "small.mp4", "red", "smpte170m", tag="unknown")
    large = plain(tmp_path / "large.mp4", "red", "bt709", size="1280x720", tag="unknown")
    both = await joined(small, large, program=program())
    assert (both.encoded, both.video["color_space"]) == (True, "smpte170m")
    found = shades(both.path)
    assert (len(found), is_near(found, (254, 0, 0))) == (10, True), found


@PROGRAMS
@pytest.mark.parametrize("first", ["pc", "tv"])
async def test_clips_that_use_more_or_fewer_shades_are_equally_dark(
    joined: Any, tmp_path: Path, program: Any, first: str
) -> None:
    vp9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-colorspace", "bt709")
    grey = "drawbox=c=0x202020:t=fill,scale=out_color_matrix=bt709:out_range={0},format=yuv420p,setparams=range={0}"
    clips = {
        name: make_clip(tmp_path / f"{name}.webm", ("-vf", grey.format(name), *vp9, "-color_range", name), seconds=0.2)
        for name in ("tv", "pc")
    }
    both = await joined(*(clips[name] for name in sorted(clips, key=lambda name: name != first)), program=program())
    found = shades(both.path)
    assert (both.encoded, len(found), is_near(found, (32, 32, 32))) == (True, 10, True), found


@PROGRAMS
@pytest.mark.parametrize("first", ["screen", "camera"])
async def test_clips_of_red_green_and_blue_keep_them(joined: Any, tmp_path: Path, program: Any, first: str) -> None:
    rgb = ("-vf", "drawbox=c=red:t=fill", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    screen = make_clip(tmp_path / "screen.mkv", rgb, seconds=0.2)
    camera = plain(tmp_path / "camera.mp4", "red", "bt709")
    both = await joined(*((screen, camera) if first == "screen" else (camera, screen)), program=program())
    found = shades(both.path)
    assert (len(found), is_near(found, (254, 0, 0))) == (10, True), found


async def test_clips_whose_headers_alone_tell_other_colours_are_not_copied(joined: Any, tmp_path: Path) -> None:
    vp9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime")
    clips = [plain(tmp_path / f"{matrix}.webm", "red", matrix, *vp9) for matrix in ("smpte170m", "bt709")]
    both = await joined(*clips)
    found = shades(both.path)
    assert (both.encoded, len(found), is_near(found, (254, 0, 0))) == (True, 10, True), found
