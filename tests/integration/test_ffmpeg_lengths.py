"""The length that is expected of a command's output, held against what ffmpeg writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ffmpeg.binaries import find
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import Progress
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.support.clips import make_clip
from tests.support.programs import installed

SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())
SECONDS = {"in_1": 2.0, "in_2": 3.0, "in_3": 4.0}


@pytest.fixture(scope="module", name="files")
def _files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip with sound for each placeholder."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        key: make_clip(
            folder / f"{key}.mp4",
            ("-f", "lavfi", "-i", f"sine=d={seconds}", "-c:v", "libx264", "-preset", "ultrafast"),
            seconds=seconds,
            size="64x64",
        )
        for key, seconds in SECONDS.items()
    }


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Iterator[WorkFolder]:
    root = WorkRoot(tmp_path / "work")
    yield root.create("job")
    root.close()


@pytest.mark.parametrize(
    "command",
    [
        "-ss 1 -t 2 -i in_3 out_1",
        "-ss 1 -to 2 -i in_3 out_1",
        "-ss 1 -to 3 -t 1 -i in_3 out_1",
        "-sseof -1 -i in_3 out_1",
        "-i in_3 -ss 1 -to 3 out_1",
        "-stream_loop 2 -i in_1 out_1",
        "-stream_loop 2 -ss 1 -t 4 -i in_1 out_1",
        "-stream_loop -1 -t 5 -i in_1 out_1",
        "-i in_1 -i in_2 -map 0:v -map 1:a -shortest out_1",
        "-i in_1 -i in_2 -i in_3 -filter_complex concat=n=3:v=1:a=1 out_1",
        "-i in_1 -i in_2 -i in_3 -filter_complex [0:v][0:a][1:v][1:a][2:v][2:a]concat=3:1:1[v][a]"
        " -map [v] -map [a] out_1",
        "-i in_3 -filter_complex '[0:v]split[x][y];[x]trim=0:1[p];[y]trim=2:4,setpts=PTS-STARTPTS[q];[p][q]concat[v]'"
        " -map [v] out_1",
        "-f lavfi -i testsrc=s=64x64:d=1 -i in_2 -filter_complex '[1:v]format=rgb24[b];[0][b]concat[v]' -map [v] out_1",
        "-i in_2 -i in_3 -filter_complex [0:v][1:v]xfade=duration=1:offset=2[v] -map [v] out_1",
        "-i in_2 -i in_3 -filter_complex [0:a][1:a]acrossfade=d=1[a] -map [a] out_1",
        "-i in_2 -i in_3 -filter_complex xfade=duration=1:offset=2 -an out_1",
        "-i in_2 -i in_3 -filter_complex acrossfade=d=1 -vn out_1",
    ],
)
async def test_an_output_becomes_as_long_as_expected(folder: WorkFolder, files: dict[str, Path], command: str) -> None:
    made = plan(command, {key: f"https://h/{key}.mp4" for key in files if key in command}, {"out_1": "o.mkv"})
    for file in made.inputs:
        os.link(files[file.placeholder], folder.path / file.path)
    seen: list[Progress] = []
    (output,), _ = await run_plan(SANDBOX, made, folder, seen.append)
    os.close(output.descriptor)
    inputs = enumerate(re.findall(r"-i (\S+)", command))
    expected = made.timeline.seconds({number: SECONDS[name] for number, name in inputs if name in SECONDS})
    assert seen[-1].media_seconds == pytest.approx(expected, abs=0.2)
    assert [report.fraction for report in seen[:-1] if report.fraction > 0.99] == []
    assert seen[-1].fraction == 1
