"""Commands in the cage: their limits and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import Ended, NoTimeError, RunResult, run_sandboxed
from services.ffmpeg.sandbox_launcher import FAILED_MARK
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.integration.ffmpeg_sandbox.rig import LIMITS, SANDBOX, SLOW, run
from tests.support.programs import ffmpeg_in
from tests.support.terminal import ROOT
from tests.support.waiting import until


async def until_running(folder: WorkFolder) -> None:
    """The encoder has begun to write."""
    await until(lambda: any((folder.path / "out").iterdir()))


@pytest.mark.parametrize(
    ("ended", "command", "limits"),
    [
        (Ended.WALL_CLOCK, SLOW, replace(LIMITS, wall_seconds=1)),
        (Ended.CPU, SLOW, replace(LIMITS, cpu_seconds=1)),
        (
            Ended.MEMORY,
            "-f lavfi -i testsrc=s=1280x720:r=25:d=600 -vf reverse out_1",
            replace(LIMITS, memory_bytes=200 * 2**20),
        ),
        (
            Ended.FAILED,
            "-f lavfi -i testsrc=s=640x360:d=600 -c:v rawvideo out_1",
            replace(LIMITS, output_bytes=5 * 2**20),
        ),
        (
            Ended.FAILED,
            "-f lavfi -i testsrc=s=8000x8000:d=9 -vf tile=8x1 -c:v rawvideo out_1",
            replace(LIMITS, address_space_bytes=500 * 2**20),
        ),
    ],
    ids=["wall clock", "cpu", "memory", "file size", "address space"],
)
async def test_a_broken_limit_is_a_failure(folder: WorkFolder, ended: Ended, command: str, limits: Limits) -> None:
    started = time.monotonic()
    result = await run(folder, command, limits)
    # A file that is full may be seen by the watchdog before ffmpeg has told about it.
    assert result.ended in ({ended, Ended.DISK} if "rawvideo" in command else {ended})
    assert time.monotonic() - started < 30
    assert ffmpeg_in(folder.path) == []


@pytest.mark.parametrize("ended", [Ended.FILES, Ended.DISK])
async def test_many_files_or_much_data_end_a_run(
    folder: WorkFolder, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Straight into the cage: the policy would never let a pattern through."""
    limits = (
        replace(LIMITS, output_files=20)
        if ended is Ended.FILES
        else replace(LIMITS, output_bytes=2**20, output_files=10**6)
    )
    monkeypatch.setattr("services.ffmpeg.process._require_whitelists", lambda argv: None)
    # No single file comes near its own limit: it is the sum of many that counts.
    argv = [SANDBOX.ffmpeg, "-nostdin", "-f", "lavfi", "-i", "testsrc=s=16x16:d=3600"]
    argv += ["-s", "16x16" if ended is Ended.FILES else "320x240", f"{folder.path}/out/%d.bmp"]
    result = await run_sandboxed(SANDBOX, argv, folder, limits)
    assert result.ended is ended


async def test_a_file_that_was_cut_at_its_limit_is_a_failure(folder: WorkFolder) -> None:
    # 120 000 bytes: all but the last ones are written before the limit.
    command = "-f lavfi -i color=s=100x40:r=30:d=1 -pix_fmt gray -f rawvideo out_1"
    result = await run(folder, command, replace(LIMITS, output_bytes=110_000))
    assert result.ended is Ended.DISK


async def test_a_flood_of_log_lines_is_bounded(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ffmpeg.process._require_whitelists", lambda argv: None)
    argv = [SANDBOX.ffmpeg, "-nostdin", "-loglevel", "trace", "-f", "lavfi", "-i", "testsrc=d=60", "-vf", "showinfo"]
    result = await run_sandboxed(SANDBOX, [*argv, "-f", "null", "-"], folder, LIMITS)
    assert result.ended is Ended.SUCCEEDED
    assert len(result.stderr) == 64 * 1024


async def test_a_line_without_an_end_is_bounded(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ffmpeg.process._require_whitelists", lambda argv: None)
    argv = [SANDBOX.ffmpeg, "-nostdin", "-f", "lavfi", "-i", "color=s=640x640:d=0.1", "-f", "rawvideo", "pipe:1"]
    lines: list[bytes] = []
    result = await run_sandboxed(SANDBOX, argv, folder, LIMITS, on_line=lines.append)
    assert result.ended is Ended.SUCCEEDED
    assert max(map(len, lines)) <= 2 * 64 * 1024


@pytest.mark.parametrize("given", [(), ("-protocol_whitelist", "file"), ("-format_whitelist", "mov")])
async def test_an_input_without_the_whitelists_is_a_mistake_of_ours(folder: WorkFolder, given: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="format_whitelist"):
        await run_sandboxed(SANDBOX, [SANDBOX.ffmpeg, *given, "-i", "x", "y"], folder, LIMITS)


async def test_a_command_cannot_say_that_it_was_not_isolated(folder: WorkFolder) -> None:
    """It would be tried again and again."""
    result = await run(folder, f"-f lavfi -i testsrc=d=1 -metadata title={FAILED_MARK} out_1", LIMITS)
    assert FAILED_MARK.encode() in result.stderr
    assert result.ended is Ended.SUCCEEDED


@pytest.mark.parametrize(("cpu_seconds", "blamed"), [(0.9, True), (1.1, False)])
def test_a_program_that_had_its_time_is_to_blame_for_using_it_up(cpu_seconds: float, blamed: bool) -> None:
    result = RunResult(Ended.WALL_CLOCK, -9, b"", cpu_seconds, 2.0)
    with pytest.raises(NoTimeError) if blamed else contextlib.nullcontext():
        result.require_time()


async def test_cancelling_kills_the_encoder_within_a_second(root: WorkRoot) -> None:
    took = []
    # Of several: a busy machine may have no time for one.
    for name in ("first", "second", "third"):
        folder = root.create(name)
        task = asyncio.create_task(run(folder, SLOW, LIMITS))
        await until_running(folder)
        assert ffmpeg_in(folder.path)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took.append(time.monotonic() - started)
        assert ffmpeg_in(folder.path) == []
    assert min(took) < 1


async def test_a_frozen_encoder_is_killed_and_waited_for(root: WorkRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def noting(*argv: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await create(*argv, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    folder = root.create("job")
    task = asyncio.create_task(run(folder, SLOW, LIMITS))
    await until_running(folder)
    started[0].send_signal(signal.SIGSTOP)
    # Told again and again: a lease can be lost, and the worker drain, while a cancelled job ends.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
    assert task.cancelled()
    assert started[0].returncode == -signal.SIGKILL
    assert ffmpeg_in(folder.path) == []


async def test_an_encoder_dies_with_its_worker(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from services.ffmpeg.work_folder import WorkRoot
from tests.integration.ffmpeg_sandbox.rig import LIMITS, SLOW, run
asyncio.run(run(WorkRoot(Path({str(tmp_path / "work")!r})).create("job"), SLOW, LIMITS))
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    try:
        await until(lambda: any(tmp_path.glob("work/*/job-*/out/*")))
        assert ffmpeg_in(tmp_path)
    finally:
        worker.kill()
        await worker.wait()
    await until(lambda: not ffmpeg_in(tmp_path))
    root = WorkRoot(tmp_path / "work")
    assert root.sweep() == 1
    root.close()


async def test_a_failure_is_told_in_ffmpeg_s_words_without_paths(folder: WorkFolder) -> None:
    (folder.path / "in/0.mp4").write_bytes(b"no video" * 100)
    made = plan("-i in_1 out_1", {"in_1": "https://h/x.mp4"}, {"out_1": "o.mp4"}, LIMITS)
    with pytest.raises(JobFault) as failed:
        await run_plan(SANDBOX, made, folder, lambda _: None)
    assert "in_1: Invalid data found" in str(failed.value)
    assert str(folder.path) not in str(failed.value)
    assert not failed.value.may_pass


async def test_an_output_without_a_frame_is_a_failure(folder: WorkFolder) -> None:
    made = plan("-f lavfi -i testsrc=d=1 -vf select=0 out_1", {}, {"out_1": "o.mp4"}, LIMITS)
    with pytest.raises(JobFault):
        await run_plan(SANDBOX, made, folder, lambda _: None)


async def test_a_playlist_for_a_filter_never_gets_to_it(folder: WorkFolder) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    (folder.path / "in/0.srt").write_text(playlist)
    command = "-f lavfi -i testsrc=d=1 -vf subtitles={{in_1}} out_1"
    made = plan(command, {"in_1": "https://h/x.srt"}, {"out_1": "o.mp4"}, LIMITS)
    with pytest.raises(JobFault, match="in_1"):
        await run_plan(SANDBOX, made, folder, lambda _: None)


async def test_the_longest_command_runs(folder: WorkFolder) -> None:
    """However many bytes a character may take."""
    texts = " ".join(f"-metadata k{n}={chr(0x1F3AC) * 4000}" for n in range(4))
    command = f"-f lavfi -i testsrc=d=1 {texts} out_1"
    assert Limits().max_command_chars - len(command) < 512
    # As a record such a text would be too long: here it is as long as the launcher could ever get.
    limits = replace(LIMITS, max_task_bytes=2**20)
    (output,), _ = await run_plan(SANDBOX, plan(command, {}, {"out_1": "o.mkv"}, limits), folder, lambda _: None)
    os.close(output.descriptor)
    assert chr(0x1F3AC).encode() * 4000 in (folder.path / "out/0.mkv").read_bytes()


async def test_a_command_runs_that_is_written_out_longer_than_an_argument_may_be(folder: WorkFolder) -> None:
    """Linux takes 128 KiB in one argument; ffmpeg's own stay below, all that the launcher is told does not."""
    filters = ",".join(["metadata=mode=add:key=k:value=" + 7500 * "\u3000"] * 2)
    inputs = " ".join(["-f lavfi -i testsrc=s=16x16:d=0.1"] * 32)
    limits = replace(LIMITS, max_task_bytes=10**6)
    made = plan(f"{inputs} -vf {filters} out_1", {}, {"out_1": "o.mkv"}, limits)
    argv = made.argv(folder.path)
    assert max(len(word.encode()) for word in argv) < 128 * 1024 < len(json.dumps(argv, ensure_ascii=False).encode())
    (output,), _ = await run_plan(SANDBOX, made, folder, lambda _: None)
    os.close(output.descriptor)
