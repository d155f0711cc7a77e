"""When the frames of joined clips are seen and their sound is heard."""

import itertools
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.ffmpeg.job import JobFault
from tests.support.clips import changing, described, make_clip
from tests.support.joins import PROGRAMS
from tests.support.programs import static

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
# Each frame is darker than the one before it.
DARKER = ("-vf", "geq=lum='235-8*N':cb=128:cr=128", *X264)


def shades(path: Path) -> list[int]:
    """How bright each frame is that a player shows."""
    command = [static(), "-v", "error", "-i", str(path), "-vf", "scale=1:1", "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True)
    return list(raw.stdout)


def times(path: Path) -> list[float]:
    """When each frame is shown, in seconds."""
    frames = described(path, "-select_streams", "V:0", "-show_entries", "frame=best_effort_timestamp_time")["frames"]
    return [float(frame["best_effort_timestamp_time"]) for frame in frames]


def packets(path: Path, stream: str) -> list[str]:
    """The hash of each packet of one stream."""
    found = described(path, "-select_streams", stream, "-show_packets", "-show_data_hash", "sha256")["packets"]
    return [packet["data_hash"] for packet in found]


def gaps(path: Path) -> list[float]:
    """How long each frame but the last is shown, in seconds."""
    return [later - earlier for earlier, later in itertools.pairwise(times(path))]


def without_its_beginning(path: Path) -> Path:
    """The clip from its 11th frame on, cut without encoding: the frames before it are there, and hidden."""
    target = path.with_stem("cut")
    command = [static(), "-v", "error", "-ss", "0.4", "-i", str(path), "-c", "copy", str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def without_its_end(path: Path) -> Path:
    """The clip up to its 15th frame, cut in the same way."""
    data, target = bytearray(path.read_bytes()), path.with_stem("cut")
    # The durations of the whole and of the track's only edit, in milliseconds, after the names of their boxes.
    for at in (data.index(b"mvhd") + 20, data.index(b"elst") + 12):
        assert struct.unpack_from(">I", data, at) == (1000,)
        struct.pack_into(">I", data, at, 600)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("cut", [without_its_beginning, without_its_end])
async def test_frames_that_were_cut_off_without_encoding_stay_hidden(joined: Any, tmp_path: Path, cut: Any) -> None:
    clip = cut(make_clip(tmp_path / "clip.mp4", DARKER, seconds=1))
    both = await joined(clip, clip)
    seen, wanted = shades(both.path), shades(clip) * 2
    assert (both.encoded, len(seen)) == (True, len(wanted))
    assert seen == pytest.approx(wanted, abs=3)
    assert gaps(both.path) == pytest.approx([0.04] * (len(wanted) - 1), abs=0.002)


def heard(path: Path) -> list[float]:
    """When silence ends, in seconds: where sound begins behind it, or with the file."""
    filters = "aresample=async=1:min_hard_comp=0.01:first_pts=0,silencedetect=n=-30dB:d=0.1"
    command = [static(), "-i", str(path), "-map", "0:a:0", "-af", filters, "-f", "null", "-"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr
    return [float(begin) for begin in re.findall(r"silence_end: ([\d.]+)", told)]


# Sound that begins late, and sound that is torn: its container has nothing where it is silent.
LATE = ("-itsoffset", "0.4", "-f", "lavfi", "-i", "sine=d=0.6")
TORN = ("-f", "lavfi", "-i", "sine=d=1", "-af", "aselect='not(between(t,0.2,0.4))'")


@pytest.mark.usefixtures("copies_described_once")
@pytest.mark.parametrize("pairs", [8, 9], ids=["at-once", "in-parts"])
@pytest.mark.parametrize(("sound", "begins"), [(LATE, [0.4]), (TORN, [0.0, 0.4])], ids=["late", "torn"])
async def test_sound_that_is_not_there_for_a_while_stays_with_its_picture(
    joined: Any, tmp_path: Path, sound: tuple[str, ...], begins: list[float], pairs: int
) -> None:
    silent = make_clip(tmp_path / "silent.mkv", X264, seconds=1, size="64x48")
    clip = make_clip(tmp_path / "clip.mkv", (*sound, *X264, "-c:a", "aac"), seconds=1)
    both = await joined(*[silent, clip] * pairs)
    starts = times(both.path)[25 :: 2 * 25]
    assert (both.encoded, len(starts)) == (True, pairs)
    assert heard(both.path) == pytest.approx([start + begin for start in starts for begin in begins], abs=0.05)


def sound_alone(path: Path) -> Path:
    """A second of sound and no picture."""
    return make_clip(path, ("-f", "lavfi", "-i", "sine=d=1", "-map", "1", "-c:a", "flac"))


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
async def test_a_clip_without_a_picture_is_heard_over_black(joined: Any, tmp_path: Path, is_first: bool) -> None:
    grey = make_clip(tmp_path / "grey.mp4", ("-vf", "drawbox=c=gray:t=fill", *X264), seconds=1)
    sound = sound_alone(tmp_path / "sound.mkv")
    both = await joined(*((sound, grey) if is_first else (grey, sound)))
    assert (both.encoded, both.size) == (True, (128, 96))
    assert [shade > 64 for shade in shades(both.path)] == [not is_first] * 25 + [is_first] * 25
    assert heard(both.path) == pytest.approx([2.0 if is_first else 1.0], abs=0.05)


async def test_clips_of_which_none_has_a_picture_are_no_video(joined: Any, tmp_path: Path) -> None:
    sound = sound_alone(tmp_path / "sound.mkv")
    with pytest.raises(JobFault, match="no moving picture") as raised:
        await joined(sound, sound)
    assert raised.value.failure.reason == "FFMPEG_FAILED"


@PROGRAMS
async def test_a_clip_of_one_frame_is_seen_as_long_as_alone(joined: Any, tmp_path: Path, program: Any) -> None:
    clips = [
        make_clip(tmp_path / "one.mp4", X264, seconds=0.04),
        make_clip(tmp_path / "small.mp4", X264, seconds=0.2, size="64x48"),
    ]
    both = await joined(*clips, clips[0], program=program())
    assert both.encoded
    assert gaps(both.path) == pytest.approx([0.04] * 6, abs=0.002)
    assert [stream["codec_type"] for stream in described(both.path, "-show_streams")["streams"]] == ["video"]


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "ts"])
@pytest.mark.parametrize("size", ["128x96", "64x48"], ids=["copied", "encoded"])
async def test_a_clip_whose_time_begins_late_follows_at_once(
    joined: Any, tmp_path: Path, container: str, size: str
) -> None:
    codec = ("-c:v", "libvpx", "-deadline", "realtime") if container == "webm" else X264
    clips = [
        make_clip(tmp_path / f"{index}.{container}", (*codec, "-output_ts_offset", "5"), seconds=0.4, size=shown)
        for index, shown in enumerate(["128x96", size])
    ]
    both = await joined(*clips)
    assert both.encoded == (size == "64x48")
    assert both.encoded or packets(both.path, "v:0") == [one for clip in clips for one in packets(clip, "v:0")]
    assert gaps(both.path) == pytest.approx([0.04] * 19, abs=0.002)


async def test_clips_whose_pictures_wait_for_their_order_follow_at_once(joined: Any, tmp_path: Path) -> None:
    """Without an edit list their time begins late, by what no duration counts."""
    live = (*X264, "-bf", "2", "-movflags", "frag_keyframe+empty_moov")
    clips = [make_clip(tmp_path / f"{index}.mp4", live, seconds=0.4) for index in range(3)]
    assert times(clips[0])[0] > 0
    both = await joined(*clips)
    assert not both.encoded
    assert gaps(both.path) == pytest.approx([0.04] * 29, abs=0.002)


@PROGRAMS
async def test_a_clip_whose_picture_changes_its_size_keeps_its_time(joined: Any, tmp_path: Path, program: Any) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=0.4")
    vp8 = (*sound, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
    sizes = [make_clip(tmp_path / f"{size}.webm", vp8, size=size) for size in ("64x48", "48x96")]
    clip = make_clip(tmp_path / "clip.mp4", (*sound, *X264, "-c:a", "aac"))
    both = await joined(clip, changing(tmp_path / "window.webm", *sizes), clip, program=program())
    assert both.encoded
    # Where one file ends and the next begins, its sound may last a little longer than its picture.
    assert gaps(both.path) == pytest.approx([0.04] * 39, abs=0.06)
    assert times(both.path)[30] == pytest.approx(1.2, abs=0.1)


OGG = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
WITHOUT_TIMES = [("clip.avi", ("-c:v", "mpeg4", "-c:a", "libmp3lame")), ("clip.ogg", OGG)]
# So much of it comes behind the last sound that ffprobe does not see where that ends.
LARGE = ("large.ogg", ("-vf", "scale=320:240,noise=alls=60:allf=t", "-b:v", "3M", "-minrate", "3M", *OGG))


@PROGRAMS
@pytest.mark.parametrize(("name", "codecs"), [*WITHOUT_TIMES, LARGE])
async def test_sound_that_ends_before_its_picture_is_followed_by_silence_where_a_file_has_no_times_of_sound(
    joined: Any, tmp_path: Path, program: Any, name: str, codecs: tuple[str, ...]
) -> None:
    beep = ("-f", "lavfi", "-i", "aevalsrc='if(lt(t,0.2),0,sin(2764*t))':d=0.6")
    clip = make_clip(tmp_path / name, (*beep, *codecs), seconds=1, size="64x48")
    both = await joined(*[clip] * 4, program=program())
    starts = times(both.path)[::25]
    assert (both.encoded, len(starts)) == (False, 4)
    assert heard(both.path) == pytest.approx([start + 0.2 for start in starts], abs=0.08)


@PROGRAMS
@pytest.mark.parametrize(("name", "codecs"), WITHOUT_TIMES)
async def test_sound_that_lasts_as_long_as_its_picture_is_copied_there_too(
    joined: Any, tmp_path: Path, program: Any, name: str, codecs: tuple[str, ...]
) -> None:
    clip, last = (
        make_clip(
            tmp_path / f"{beep}-{name}", ("-f", "lavfi", "-i", f"sine=d={beep}", *codecs), seconds=1, size="64x48"
        )
        for beep in (1, 0.5)
    )
    # Behind the last one there is nothing that could move.
    both = await joined(clip, clip, last, program=program())
    assert (both.encoded, packets(both.path, "a:0")) == (False, packets(clip, "a:0") * 2 + packets(last, "a:0"))
