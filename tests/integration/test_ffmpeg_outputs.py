"""What a command may write, on the real ffmpeg."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ffmpeg.binaries import find
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.support.programs import installed

SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Iterator[WorkFolder]:
    root = WorkRoot(tmp_path / "work")
    yield root.create("job")
    root.close()


async def written(folder: WorkFolder, command: str, **outputs: str) -> list[bytes]:
    """What the command writes into each of its outputs."""
    collected, _ = await run_plan(SANDBOX, plan(command, {}, outputs), folder, lambda progress: None)
    found = [os.read(output.descriptor, output.size) for output in collected]
    for output in collected:
        os.close(output.descriptor)
    return found


@pytest.mark.parametrize(
    ("command", "name"), [("-f ffmetadata out_1", "o.txt"), ("out_1", "o.ffmeta")], ids=["option", "extension"]
)
async def test_a_file_s_metadata_is_an_output(folder: WorkFolder, command: str, name: str) -> None:
    [text] = await written(folder, f"-f lavfi -i color=d=1 -metadata title=mine {command}", out_1=name)
    assert b"title=mine" in text
