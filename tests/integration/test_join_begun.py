"""A last clip that has only begun keeps nobody from what came before it: it is seen once it can be."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.ffmpeg import probe
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import JoinLimits
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.process import Ended, RunResult, run_sandboxed
from tests.support.clips import described, make_clip
from tests.support.joins import join

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
LIMITS = JoinLimits(threads=1)


def mp4(folder: Path, *flags: str, size: str = "128x96") -> bytes:
    """Ten frames."""
    movflags = ("-movflags", "+".join(flags)) if flags else ()
    return make_clip(folder / "clip.mp4", (*X264, *movflags), size=size).read_bytes()


def signature(folder: Path) -> bytes:
    return mp4(folder)[:32]


def header_alone(folder: Path) -> bytes:
    """As a recorder sends it that has just been started."""
    clip = mp4(folder, "frag_keyframe", "empty_moov")
    return clip[: clip.index(b"moof") - 4]


def part_of_a_frame(folder: Path) -> bytes:
    clip = mp4(folder, "faststart")
    return clip[: clip.index(b"mdat") + 500]


def frames_without_their_header(folder: Path) -> bytes:
    clip = mp4(folder)
    return clip[: clip.index(b"moov")]


def sound_without_its_picture(folder: Path) -> bytes:
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-map", "1", "-map", "0", "-c:a", "libopus")
    video = ("-c:v", "libvpx", "-deadline", "realtime")
    clip = make_clip(folder / "clip.webm", (*sound, *video)).read_bytes()
    return clip[: clip.index(b"\x1f\x43\xb6\x75") + 300]


def frames(path: Path) -> int:
    [video] = described(path, "-count_frames", "-select_streams", "v", "-show_streams")["streams"]
    return int(video["nb_read_frames"])


@pytest.mark.parametrize(
    "begun",
    [signature, header_alone, part_of_a_frame, frames_without_their_header, sound_without_its_picture],
)
async def test_a_single_clip_before_it_is_given_as_it_is(
    join_outputs: Outputs, join_job: Any, tmp_path: Path, begun: Callable[[Path], bytes]
) -> None:
    clip = mp4(tmp_path)
    made = await join(join_outputs, join_job, [clip, begun(tmp_path)], LIMITS)
    assert (made["clips"], made["encoded"]) == (1, False)
    assert made["key"].endswith(".mp4")
    assert await join_outputs.objects.get(made["key"]) == clip


@pytest.mark.parametrize("size", ["128x96", "64x48"], ids=["copied", "encoded"])
async def test_the_clips_before_it_are_joined(join_outputs: Outputs, join_job: Any, tmp_path: Path, size: str) -> None:
    clips = [mp4(tmp_path), mp4(tmp_path, size=size), header_alone(tmp_path)]
    made = await join(join_outputs, join_job, clips, LIMITS)
    assert (made["clips"], made["encoded"]) == (2, size == "64x48")
    joined, data = tmp_path / "joined.mp4", await join_outputs.objects.get(made["key"]) or b""
    joined.write_bytes(data)
    assert frames(joined) == 20
    assert data.index(b"moov") < data.index(b"mdat"), "it begins to play before all of it is there"


async def test_a_clip_that_can_be_seen_is_never_left_out(join_outputs: Outputs, join_job: Any, tmp_path: Path) -> None:
    small = mp4(tmp_path, "frag_every_frame", "empty_moov", size="64x48")
    # One frame and a part of the next.
    begun = small[: small.index(b"mdat", small.index(b"mdat") + 4) + 20]
    made = await join(join_outputs, join_job, [mp4(tmp_path), begun], LIMITS)
    assert (made["clips"], made["encoded"]) == (2, True)


async def test_a_clip_whose_sound_is_empty_is_not_left_out(
    join_outputs: Outputs, join_job: Any, tmp_path: Path
) -> None:
    silent = ("-f", "lavfi", "-i", "sine=d=0.4", "-af", "atrim=end=0", "-c:v", "libvpx", "-c:a", "libopus")
    clip = make_clip(tmp_path / "silent.webm", silent)
    assert [one["codec_type"] for one in described(clip, "-show_streams")["streams"]] == ["video", "audio"]
    made = await join(join_outputs, join_job, [mp4(tmp_path), clip.read_bytes()], LIMITS)
    assert (made["clips"], made["encoded"]) == (2, True)


async def test_sound_that_begins_behind_many_frames_is_not_left_out(
    join_outputs: Outputs, join_job: Any, tmp_path: Path
) -> None:
    late = ("-itsoffset", "4.4", "-f", "lavfi", "-i", "sine=d=0.2", *X264, "-c:a", "aac")
    clip = make_clip(tmp_path / "late.mkv", late, seconds=4.6, size="64x48")
    made = await join(join_outputs, join_job, [mp4(tmp_path), clip.read_bytes()], LIMITS)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(await join_outputs.objects.get(made["key"]) or b"")
    assert [one["codec_type"] for one in described(joined, "-show_streams")["streams"]] == ["video", "audio"]


@pytest.mark.parametrize("place", [0, 1], ids=["first", "in-the-middle"])
async def test_no_other_clip_is_left_out(join_outputs: Outputs, join_job: Any, tmp_path: Path, place: int) -> None:
    clips = [mp4(tmp_path)] * 2
    clips.insert(place, signature(tmp_path))
    with pytest.raises(JobFault, match="A clip is no video") as raised:
        await join(join_outputs, join_job, clips, LIMITS)
    assert raised.value.failure.reason == "FFMPEG_FAILED"


async def test_much_that_cannot_be_read_is_damaged_not_begun(
    join_outputs: Outputs, join_job: Any, tmp_path: Path
) -> None:
    large = frames_without_their_header(tmp_path) + bytes(2 * 2**20)
    with pytest.raises(JobFault, match="A clip is no video"):
        await join(join_outputs, join_job, [mp4(tmp_path), large], LIMITS)


def end_probes(
    monkeypatch: pytest.MonkeyPatch, ended: Ended, of: str, exit_code: int = 1, *, cpu_share: float = 1
) -> None:
    """Those that have an argument which ends so end in this way."""

    async def run(sandbox: Any, argv: Any, *arguments: Any, **options: Any) -> RunResult:
        result = await run_sandboxed(sandbox, argv, *arguments, **options)
        is_meant = any(argument.endswith(of) for argument in argv)
        used = cpu_share * result.seconds
        return replace(result, ended=ended, exit_code=exit_code, cpu_seconds=used) if is_meant else result

    monkeypatch.setattr(probe, "run_sandboxed", run)


@pytest.mark.parametrize("ended", [Ended.KILLED, Ended.NO_SPACE, Ended.WALL_CLOCK, Ended.FAILED])
async def test_a_clip_that_could_not_be_looked_at_is_not_left_out(
    join_outputs: Outputs, join_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended
) -> None:
    end_probes(monkeypatch, ended, "clip0001", -signal.SIGSEGV)
    with pytest.raises((RuntimeError, OSError, JobFault), match=ended.value):
        await join(join_outputs, join_job, [mp4(tmp_path), signature(tmp_path)], LIMITS)


@pytest.mark.parametrize("cpu_share", [1, 0.1], ids=["alone", "in-a-crowd"])
async def test_a_clip_whose_frames_take_too_long_is_not_left_out(
    join_outputs: Outputs, join_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_share: float
) -> None:
    end_probes(monkeypatch, Ended.WALL_CLOCK, "frame=stream_index", cpu_share=cpu_share)
    made = await join(join_outputs, join_job, [mp4(tmp_path), mp4(tmp_path, size="64x48")], LIMITS)
    assert (made["clips"], made["encoded"]) == (2, True)
