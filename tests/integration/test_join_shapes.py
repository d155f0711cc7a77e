"""What is seen of clips that are joined: each upright and in its own proportions, whatever came first."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import changing, described, make_clip
from tests.support.joins import PROGRAMS
from tests.support.programs import installed, static

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
# Red on the left, blue on the right; turned a quarter to the left, blue is above red.
HALVES = "drawbox=c=blue:t=fill,drawbox=w=iw/2:c=red:t=fill"
COLOURS = {"red": (254, 0, 0), "blue": (0, 0, 254), "black": (0, 0, 0)}


def painted(path: Path, *filters: str, size: str = "128x96", codec: Sequence[str] = X264) -> Path:
    """Five frames of the two halves."""
    return make_clip(path, (*codec, "-vf", ",".join((HALVES, *filters))), seconds=0.2, size=size)


def turned(path: Path, degrees: int = 90) -> Path:
    """The same packets in a file whose header turns them, to the left; of 128x96, 96x128 is shown."""
    target = path.with_stem(f"{path.stem}{degrees}")
    command = [static(), "-v", "error", "-display_rotation", str(degrees), "-i", str(path), "-c", "copy", str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def pixel(frame: bytes, at: int) -> str:
    """The colour that is nearest to one pixel's."""
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(frame[at:], COLOURS[name], strict=False)))


def seen(path: Path, *places: tuple[float, float]) -> list[list[str]]:
    """The colours at these places (0 to 1 of width and height) of each frame, as a player shows it."""
    command = [static(), "-v", "error", "-i", str(path), "-vf", "scale=96:96:flags=area"]
    raw = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    spots = [3 * (96 * int(96 * y) + int(96 * x)) for x, y in places]
    whole = range(0, len(raw), 3 * 96 * 96)
    return [[pixel(raw[start:], spot) for spot in spots] for start in whole]


LEFT, RIGHT, ABOVE, BELOW = (0.2, 0.5), (0.8, 0.5), (0.5, 0.2), (0.5, 0.8)


@PROGRAMS
@pytest.mark.parametrize("container", ["mp4", "mov"])
async def test_clips_that_are_turned_alike_are_copied_and_stay_turned(
    joined: Any, tmp_path: Path, program: Any, container: str
) -> None:
    clip = turned(painted(tmp_path / f"clip.{container}"))
    both = await joined(clip, clip, program=program())
    assert (both.encoded, both.rotation) == (False, 90)
    assert seen(both.path, ABOVE, BELOW) == [["blue", "red"]] * 10


@PROGRAMS
async def test_clips_are_upright_where_ffmpeg_may_not_write_that_they_are_turned(
    joined: Any, tmp_path: Path, program: Any
) -> None:
    clip = turned(painted(tmp_path / "clip.mkv"))
    both = await joined(clip, clip, program=program())
    assert (both.encoded, both.size) == (True, (96, 128))
    assert seen(both.path, ABOVE, BELOW) == [["blue", "red"]] * 10


@PROGRAMS
async def test_a_portrait_after_a_landscape_is_upright_in_it(joined: Any, tmp_path: Path, program: Any) -> None:
    landscape = painted(tmp_path / "clip.mp4")
    both = await joined(landscape, turned(landscape), program=program())
    assert (both.encoded, both.size) == (True, (128, 96))
    frames = seen(both.path, LEFT, RIGHT, ABOVE, BELOW, (0.02, 0.5))
    assert [frame[:2] for frame in frames[:5]] == [["red", "blue"]] * 5
    assert [frame[2:] for frame in frames[5:]] == [["blue", "red", "black"]] * 5


@PROGRAMS
async def test_a_landscape_after_a_portrait_is_upright_in_it(joined: Any, tmp_path: Path, program: Any) -> None:
    landscape = painted(tmp_path / "clip.mp4")
    both = await joined(turned(landscape, -90), landscape, program=program())
    assert (both.encoded, both.size) == (True, (96, 128))
    frames = seen(both.path, ABOVE, BELOW, LEFT, RIGHT, (0.5, 0.02))
    assert [frame[:2] for frame in frames[:5]] == [["red", "blue"]] * 5
    assert [frame[2:] for frame in frames[5:]] == [["red", "blue", "black"]] * 5


async def test_clips_that_are_turned_upside_down_keep_their_size(joined: Any, tmp_path: Path) -> None:
    clip = painted(tmp_path / "clip.mp4")
    both = await joined(turned(clip, 180), clip)
    assert (both.encoded, both.size) == (True, (128, 96))
    assert seen(both.path, LEFT, RIGHT) == [["blue", "red"]] * 5 + [["red", "blue"]] * 5


def stretched(path: Path, aspect: str) -> Path:
    """The same packets in a file whose header gives the picture other proportions."""
    target = path.with_stem(f"{path.stem}-stretched")
    command = [static(), "-v", "error", "-i", str(path), "-c", "copy", "-aspect", aspect, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


@PROGRAMS
async def test_the_pixels_of_the_first_clip_become_square(joined: Any, tmp_path: Path, program: Any) -> None:
    wide = painted(tmp_path / "wide.mp4", "setsar=2", size="64x48")
    both = await joined(wide, painted(tmp_path / "other.mp4", size="96x48"), program=program())
    assert (both.encoded, both.size) == (True, (128, 48))
    frames = seen(both.path, (0.02, 0.5), (0.98, 0.5), LEFT, RIGHT)
    assert frames == [["red", "blue", "red", "blue"]] * 5 + [["black", "black", "red", "blue"]] * 5


@PROGRAMS
async def test_a_later_clip_keeps_its_proportions(joined: Any, tmp_path: Path, program: Any) -> None:
    clips = [painted(tmp_path / "square.mp4"), painted(tmp_path / "wide.mp4", "setsar=2", size="64x48")]
    both = await joined(*clips, program=program())
    assert (both.encoded, both.size) == (True, (128, 96))
    # As high as half of the first.
    bars = [["black", "red", "red", "black"]] * 5
    assert seen(both.path, (0.2, 0.2), (0.2, 0.3), (0.2, 0.7), (0.2, 0.8))[5:] == bars


async def test_odd_pixels_that_are_turned_are_square_and_upright(joined: Any, tmp_path: Path) -> None:
    wide = painted(tmp_path / "wide.mp4", "setsar=2", size="64x48")
    both = await joined(turned(wide), wide)
    assert (both.encoded, both.size) == (True, (48, 128))
    frames = seen(both.path, ABOVE, BELOW, LEFT, RIGHT)
    assert [frame[:2] for frame in frames[:5]] == [["blue", "red"]] * 5
    assert [frame[2:] for frame in frames[5:]] == [["red", "blue"]] * 5
    assert {colour for frame in frames[5:] for colour in frame[:2]} == {"black"}


async def test_clips_of_other_proportions_are_not_copied(joined: Any, tmp_path: Path) -> None:
    square = painted(tmp_path / "clip.mp4")
    both = await joined(square, stretched(square, "8:3"))
    assert (both.encoded, both.size) == (True, (128, 96))
    assert [frame[0] for frame in seen(both.path, (0.2, 0.1))] == ["red"] * 5 + ["black"] * 5


@pytest.mark.parametrize(
    ("size", "pixels", "canvas"),
    [
        ("65x49", "1/1", (64, 48)),
        ("60x48", "16/15", (64, 48)),
        ("72x58", "16/11", (104, 58)),
        ("1x1", "1/1", (2, 2)),
        # Nothing that is shown so is meant; still it must cost no more than other pictures.
        ("64x48", "32767/1", (16384, 2)),
        ("64x48", "1/32767", (2, 48)),
    ],
)
async def test_every_picture_has_a_size_that_can_be_encoded(
    joined: Any, tmp_path: Path, size: str, pixels: str, canvas: tuple[int, int]
) -> None:
    clip = painted(tmp_path / "clip.mkv", f"setsar={pixels}:max=32767", size=size, codec=("-c:v", "ffv1"))
    both = await joined(clip, painted(tmp_path / "other.mp4"))
    assert (both.encoded, both.size) == (True, canvas)
    assert len(seen(both.path)) == 10


def with_its_cover_first(path: Path) -> Path:
    """The same clip with a picture for its cover, described before the tracks."""
    cover, covered = path.with_name("cover.png"), path.with_stem(f"{path.stem}-covered")
    green = ("-f", "lavfi", "-i", "color=lime:s=320x200", "-frames:v", "1", str(cover))
    inputs = ("-i", str(path), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy")
    for arguments in (green, (*inputs, "-disposition:v:1", "attached_pic", str(covered))):
        subprocess.run([installed(), "-v", "error", "-y", *arguments], check=True, timeout=60)
    data = covered.read_bytes()
    # Inside moov, which is the last box: mvhd, trak, udta.
    moov, track, more = data.index(b"moov") - 4, data.index(b"trak") - 4, data.rindex(b"udta") - 4
    assert int.from_bytes(data[moov : moov + 4], "big") == len(data) - moov
    assert int.from_bytes(data[more : more + 4], "big") == len(data) - more
    covered.write_bytes(data[:track] + data[more:] + data[track:more])
    kinds = described(covered, "-show_entries", "stream_disposition=attached_pic")["streams"]
    assert kinds[0]["disposition"]["attached_pic"] == 1
    return covered


@pytest.mark.parametrize("size", ["128x96", "64x48"], ids=["copied", "encoded"])
async def test_a_cover_is_no_part_of_the_picture(joined: Any, tmp_path: Path, size: str) -> None:
    clips = [painted(tmp_path / "one.mp4"), painted(tmp_path / "two.mp4", size=size)]
    both = await joined(*map(with_its_cover_first, clips))
    assert (both.encoded, both.size) == (size == "64x48", (128, 96))
    assert seen(both.path, LEFT, RIGHT) == [["red", "blue"]] * 10


async def test_clips_whose_streams_have_another_order_are_not_mixed_up(joined: Any, tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=0.2", *X264, "-c:a", "aac")
    orders = [("-map", "0", "-map", "1"), ("-map", "1", "-map", "0")]
    clips = [painted(tmp_path / f"{index}.mp4", codec=(*sound, *order)) for index, order in enumerate(orders)]
    assert seen((await joined(*clips)).path, LEFT, RIGHT) == [["red", "blue"]] * 10


def with_words(path: Path) -> Path:
    """The same packets in a file that has a track of subtitles, too."""
    target, words = path.with_stem("words"), path.with_suffix(".srt")
    words.write_text("1\n00:00:00,000 --> 00:00:00,200\nwords\n")
    command = [static(), "-v", "error", "-i", str(path), "-i", str(words), "-map", "0", "-map", "1", "-c", "copy"]
    codec = "mov_text" if path.suffix == ".mov" else "srt"
    subprocess.run([*command, "-c:s", codec, str(target)], check=True, timeout=60)
    return target


@PROGRAMS
@pytest.mark.parametrize("container", ["mov", "mkv"])
async def test_what_no_join_keeps_need_not_match(joined: Any, tmp_path: Path, program: Any, container: str) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=0.2", *X264, "-c:a", "aac")
    clip = painted(tmp_path / f"clip.{container}", codec=sound)
    both = await joined(clip, with_words(clip), clip, program=program())
    assert not both.encoded
    assert seen(both.path, LEFT, RIGHT) == [["red", "blue"]] * 15


@PROGRAMS
async def test_a_picture_that_changes_its_size_keeps_its_proportions(joined: Any, tmp_path: Path, program: Any) -> None:
    vp8 = ("-c:v", "libvpx", "-deadline", "realtime")
    sizes = [painted(tmp_path / f"{size}.webm", size=size, codec=vp8) for size in ("64x48", "48x96")]
    both = await joined(painted(tmp_path / "clip.mp4"), changing(tmp_path / "window.webm", *sizes), program=program())
    assert (both.encoded, both.size) == (True, (128, 96))
    frames = seen(both.path, (0.4, 0.5), (0.6, 0.5), (0.02, 0.5))
    assert frames == [["red", "blue", "red"]] * 10 + [["red", "blue", "black"]] * 5
