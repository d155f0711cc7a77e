"""What a file is, as ffprobe tells it from inside the cage."""

from __future__ import annotations

import os

import pytest

from services.ffmpeg.clips import describe_clip
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.thumbnail import measured_seconds
from services.ffmpeg.work_folder import WorkFolder
from tests.integration.ffmpeg_sandbox.rig import LIMITS, SANDBOX
from tests.support.programs import told


async def test_a_probe_tells_what_a_file_is(folder: WorkFolder) -> None:
    made = plan(
        "-f lavfi -i testsrc=s=320x240:r=25:d=2 -f lavfi -i sine=d=2 -c:a aac out_1", {}, {"out_1": "o.mp4"}, LIMITS
    )
    (output,), _ = await run_plan(SANDBOX, made, folder, lambda _: None)
    os.close(output.descriptor)
    info = await probe(SANDBOX, folder, folder.path / "out/0.mp4")
    assert info.duration_seconds == pytest.approx(2, abs=0.1)
    assert info.video is not None
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 320, 240)
    assert info.audio is not None
    assert info.audio.codec == "aac"


async def test_a_video_that_does_not_tell_how_long_it_is_is_measured(folder: WorkFolder) -> None:
    """As a browser's recorder writes it."""
    path = folder.path / "in" / "recording"
    source = ("-f", "lavfi", "-i", "testsrc=s=64x64:d=3")
    told(SANDBOX.ffmpeg, *source, "-c:v", "libvpx", "-live", "1", "-f", "webm", str(path))
    assert (await probe(SANDBOX, folder, path)).duration_seconds is None
    assert await measured_seconds(SANDBOX, folder, path) == pytest.approx(3, abs=0.1)
    path.write_bytes(b"no video")
    assert await measured_seconds(SANDBOX, folder, path) is None


async def test_a_file_may_say_much_about_itself(folder: WorkFolder) -> None:
    (folder.path / "in/0").write_text(f";FFMETADATA1\ncomment={'long ' * 100_000}\n")
    command = "-f lavfi -i testsrc=d=1 -f ffmetadata -i in_1 -map_metadata 1 out_1"
    made = plan(command, {"in_1": "https://h/x"}, {"out_1": "o.mkv"}, LIMITS)
    (output,), _ = await run_plan(SANDBOX, made, folder, lambda _: None)
    os.close(output.descriptor)
    info = await probe(SANDBOX, folder, folder.path / "out/0.mkv")
    assert info.duration_seconds == pytest.approx(1, abs=0.1)
    clip = await describe_clip(SANDBOX, folder, folder.path / "out/0.mkv")
    assert (clip.width, clip.height) == (320, 240)


@pytest.mark.parametrize("content", [b"", b"text", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"])
async def test_what_is_no_media_is_no_media(folder: WorkFolder, content: bytes) -> None:
    (folder.path / "in/0.mp4").write_bytes(content)
    with pytest.raises(ProbeFailed) as failed:
        await probe(SANDBOX, folder, folder.path / "in/0.mp4")
    assert str(folder.path) not in str(failed.value)
