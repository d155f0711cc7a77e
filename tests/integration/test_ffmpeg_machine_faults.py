"""What goes wrong with the machine is never blamed on a client's file or command."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.common.task_failure import TaskFailure
from services.ffmpeg import probe, process, thumbnail
from services.ffmpeg.binaries import find
from services.ffmpeg.clips import describe_clip
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.format_table import FORMAT_WHITELIST
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import JoinLimits, Limits
from services.ffmpeg.process import Ended, RunResult, ToldFullError, run_sandboxed
from services.ffmpeg.sandbox import Layers, Sandbox
from services.ffmpeg.transcription.audio import CagedAudio
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from services.ffmpeg.worker.join_handler import _Ffmpeg
from tests.support.clips import make_clip
from tests.support.programs import ffmpeg_in, installed, static
from tests.support.waiting import until

SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; where this user may not mount one, a folder on the large one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False)
    yield disk
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(name="folder")
def _folder(disk: Path) -> Iterator[WorkFolder]:
    """A job's, with a clip."""
    root = WorkRoot(disk / "work")
    folder = root.create("job")
    make_clip(folder.path / "in/0.mp4", ("-c:v", "mpeg4"))
    yield folder
    root.close()


def fill(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not disk.is_mount():
        # A disk that is not ours to fill is called full as it is.
        monkeypatch.setattr(process, "_LEAST_ROOM_BYTES", shutil.disk_usage(disk).total)
    with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
        while disk.is_mount() and file.write(bytes(4096)):
            pass


async def test_a_full_disk(disk: Path, folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = await describe_clip(SANDBOX, folder, folder.path / "in/0.mp4")
    fill(disk, monkeypatch)
    with pytest.raises(OSError, match="disk full") as raised:
        await thumbnail.thumbnail(SANDBOX, folder, folder.path / "in/0.mp4", 0, whole=True)
    assert raised.value.errno == errno.ENOSPC
    # Its packets fit into ffmpeg's buffer; it ends with status 0.
    made = plan("-i in_1 -c copy out_1", {"in_1": "https://h/0.mp4"}, {"out_1": "o.mkv"})
    with pytest.raises(OSError, match="disk full") as raised:
        await run_plan(SANDBOX, made, folder, lambda _: None)
    assert raised.value.errno == errno.ENOSPC
    context: Any = SimpleNamespace(folder=folder, show=lambda _: None)
    with pytest.raises(OSError, match="disk full") as raised:
        await _Ffmpeg(SANDBOX, JoinLimits(), context, [clip]).encode(folder.path / "out/joined.mp4")
    assert raised.value.errno == errno.ENOSPC


async def test_a_disk_that_is_full_for_a_moment(tmp_path: Path) -> None:
    """Or for one user alone: there is room again when the program has ended, and it said why it did."""
    root = WorkRoot(tmp_path / "work")
    folder = root.create("job")
    clip = make_clip(folder.path / "in/0.mp4", ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg4", "-c:a", "aac"))
    (folder.path / "out/audio.s16").symlink_to("/dev/full")
    uncaged = replace(SANDBOX, layers=Layers(0, seccomp=False))
    with pytest.raises(ToldFullError):
        await CagedAudio(uncaged, folder, clip).decode(60)
    root.close()


async def test_a_title_that_speaks_of_a_full_disk_is_a_title(folder: WorkFolder) -> None:
    said = "x: No space left on device"
    argv = [SANDBOX.ffmpeg, "-nostdin", "-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST]
    argv += ["-i", f"file:{folder.path}/in/0.mp4", "-metadata", f"title={said}\n{said}", "-f", "null", "-"]
    result = await run_sandboxed(SANDBOX, argv, folder, Limits())
    assert said.encode() in result.stderr
    assert result.ended is Ended.SUCCEEDED


async def test_what_a_command_makes_ffmpeg_say_is_told_from_a_full_disk(folder: WorkFolder) -> None:
    argv = [SANDBOX.ffmpeg, "-nostdin", "-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST]
    argv += ["-i", f"file:{folder.path}/in/0.mp4", "-f", "x: No space left on device", "file:out"]
    result = await run_sandboxed(SANDBOX, argv, folder, Limits())
    assert b"x: No space left on device" in result.stderr
    assert result.ended is Ended.NO_SPACE_TOLD


# Told to end, ffmpeg finishes its file: SIGTERM goes to all processes of a machine that is shut down.
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_kill_that_was_not_ours(folder: WorkFolder, how: signal.Signals) -> None:
    clip = make_clip(folder.path / "in/long.mp4", ("-c:v", "mpeg4"), seconds=30, size="16x16")
    # No faster than it plays: it cannot end before it is killed.
    argv = [SANDBOX.ffmpeg, "-nostdin", "-re", "-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST]
    argv += ["-i", f"file:{clip}", "-progress", "pipe:1", "-f", "null", "-"]
    said: list[bytes] = []
    running = asyncio.create_task(run_sandboxed(SANDBOX, argv, folder, Limits(), on_line=said.append))
    # Before it says something, the launcher may be turning into it: /proc names no arguments then.
    await until(lambda: bool(said))
    (pid,) = ffmpeg_in(folder.path)
    os.kill(pid, how)
    with pytest.raises(RuntimeError, match="killed from outside"):
        (await running).require_conclusive()


async def test_a_kill_while_ffmpeg_opens_its_input(folder: WorkFolder) -> None:
    """It ends with another status then, as if the input were broken."""
    os.mkfifo(fifo := folder.path / "in/1.mp4")
    argv = [SANDBOX.ffmpeg, "-nostdin", "-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST]
    argv += ["-i", f"file:{fifo}", "-f", "null", "-"]
    running = asyncio.create_task(run_sandboxed(SANDBOX, argv, folder, Limits()))
    writers: list[int] = []

    async def has_a_reader() -> bool:
        with contextlib.suppress(OSError):
            writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    await until(has_a_reader)
    (pid,) = ffmpeg_in(folder.path)
    os.kill(pid, signal.SIGTERM)
    os.close(writers[0])
    assert (await running).ended is Ended.KILLED


async def test_a_command_that_ffmpeg_does_not_permit_is_no_kill(folder: WorkFolder) -> None:
    """Of a newer ffmpeg it has the same status."""
    made = plan("-i in_1 -c copy out_1", {"in_1": "https://h/0.mp4"}, {"out_1": "o.mxf"})
    sandbox = replace(SANDBOX, ffmpeg=static())
    with pytest.raises(JobFault) as raised:
        await run_plan(sandbox, made, folder, lambda _: None)
    assert raised.value.reason is TaskFailure.FFMPEG_FAILED
    assert "Operation not permitted" in raised.value.failure.message


async def test_a_disk_that_stands_still(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a machine: a program that got next to nothing of its time has found nothing out."""
    for module in (probe, thumbnail):
        monkeypatch.setattr(module, "_LIMITS", replace(module._LIMITS, wall_seconds=1))
    clip = folder.path / "in/1.mp4"
    # Nobody ever writes: to open it takes for ever.
    os.mkfifo(clip)
    looks = [
        probe.probe(SANDBOX, folder, clip),
        describe_clip(SANDBOX, folder, clip),
        thumbnail.thumbnail(SANDBOX, folder, clip, 0, whole=True),
    ]
    for found in await asyncio.gather(*looks, return_exceptions=True):
        assert isinstance(found, RuntimeError)
        assert "ran longer than allowed" in str(found)


async def test_how_far_it_came_before_its_time_ran_out_is_no_length(
    folder: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = folder.path / "in/0.mp4"
    assert await thumbnail.measured_seconds(SANDBOX, folder, clip)

    async def run(*arguments: Any, **options: Any) -> RunResult:
        return replace(await run_sandboxed(*arguments, **options), ended=Ended.WALL_CLOCK)

    monkeypatch.setattr(thumbnail, "run_sandboxed", run)
    assert await thumbnail.measured_seconds(SANDBOX, folder, clip) is None
