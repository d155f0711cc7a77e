"""The cage, its limits and its ends, with the real ffmpeg."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg import sandbox as sandbox_module
from services.ffmpeg.binaries import find
from services.ffmpeg.clips import describe_clip
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.isolation import Mode, detect_layers, examine, require_ready
from services.ffmpeg.job import JobFailure, JobFault
from services.ffmpeg.limits import Limits
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.process import Ended, RunResult, run_sandboxed
from services.ffmpeg.sandbox import Layers, Sandbox
from services.ffmpeg.thumbnail import measured_seconds
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.support.programs import ffmpeg_in, installed, static, told
from tests.support.waiting import until

SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())
LIMITS = Limits(wall_seconds=20, cpu_seconds=20, memory_bytes=2**30, output_bytes=20 * 2**20, threads=2)
SLOW = "-f lavfi -i testsrc=s=640x360:r=25:d=36000 -c:v libx264 -preset veryslow out_1"


@pytest.fixture(name="root")
async def _root(tmp_path: Path) -> AsyncIterator[WorkRoot]:
    root = WorkRoot(tmp_path / "work")
    yield root
    root.close()


@pytest.fixture(name="folder")
async def _folder(root: WorkRoot) -> WorkFolder:
    return root.create("job")


async def run(folder: WorkFolder, command: str, limits: Limits, name: str = "o.mkv") -> RunResult:
    made = plan(command, {}, {"out_1": name}, limits)
    return await run_sandboxed(SANDBOX, [SANDBOX.ffmpeg, *made.argv(folder.path)], folder, limits)


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
async def test_many_files_or_much_data_end_a_run(folder: WorkFolder, ended: Ended) -> None:
    """Straight into the cage: the policy would never let a pattern through."""
    limits = (
        replace(LIMITS, output_files=20)
        if ended is Ended.FILES
        else replace(LIMITS, output_bytes=2**20, output_files=10**6)
    )
    # No single file comes near its own limit: it is the sum of many that counts.
    argv = [SANDBOX.ffmpeg, "-nostdin", "-f", "lavfi", "-i", "testsrc=s=16x16:d=3600"]
    argv += ["-s", "16x16" if ended is Ended.FILES else "320x240", f"{folder.path}/out/%d.bmp"]
    result = await run_sandboxed(SANDBOX, argv, folder, limits, guarded=False)
    assert result.ended is ended


async def test_a_file_that_was_cut_at_its_limit_is_a_failure(folder: WorkFolder) -> None:
    # 120 000 bytes: all but the last ones are written before the limit.
    command = "-f lavfi -i color=s=100x40:r=30:d=1 -pix_fmt gray -f rawvideo out_1"
    result = await run(folder, command, replace(LIMITS, output_bytes=110_000))
    assert result.ended is Ended.DISK


async def test_a_flood_of_log_lines_is_bounded(folder: WorkFolder) -> None:
    argv = [SANDBOX.ffmpeg, "-nostdin", "-loglevel", "trace", "-f", "lavfi", "-i", "testsrc=d=60", "-vf", "showinfo"]
    result = await run_sandboxed(SANDBOX, [*argv, "-f", "null", "-"], folder, LIMITS, guarded=False)
    assert result.ended is Ended.SUCCEEDED
    assert len(result.stderr) == 64 * 1024


async def test_an_input_without_the_whitelists_is_a_mistake_of_ours(folder: WorkFolder) -> None:
    with pytest.raises(ValueError, match="format_whitelist"):
        await run_sandboxed(SANDBOX, [SANDBOX.ffmpeg, "-i", "x", "y"], folder, LIMITS)


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
from tests.integration.test_ffmpeg_sandbox import LIMITS, SLOW, WorkRoot, run
asyncio.run(run(WorkRoot(Path({str(tmp_path / "work")!r})).create("job"), SLOW, LIMITS))
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[2])
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


async def test_nothing_is_to_be_read_on_standard_input(folder: WorkFolder) -> None:
    lines: list[bytes] = []
    argv = ["/usr/bin/stat", "--format=%F %t:%T", "-"]
    result = await run_sandboxed(SANDBOX, argv, folder, LIMITS, on_line=lines.append)
    assert (result.ended, lines) == (Ended.SUCCEEDED, [b"character special file 1:3"])


async def test_what_runs_has_no_capabilities_whoever_started_it(folder: WorkFolder) -> None:
    """Those of root pass over the permissions of files. Without Landlock, which keeps /proc from being read."""
    lines: list[bytes] = []
    readable = replace(SANDBOX, layers=replace(SANDBOX.layers, landlock_abi=0))
    result = await run_sandboxed(
        readable, ["/bin/grep", "Cap", "/proc/self/status"], folder, LIMITS, on_line=lines.append
    )
    assert result.ended is Ended.SUCCEEDED
    held = {name.decode(): int(mask, 16) for name, mask in (line.split(b":") for line in lines)}
    assert (held["CapPrm"], held["CapEff"], held["CapInh"], held["CapAmb"]) == (0, 0, 0, 0)


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


@pytest.mark.parametrize("binary", [installed(), static()], ids=["installed", "static"])
async def test_strict_mode_is_ready_where_every_layer_holds(root: WorkRoot, binary: str) -> None:
    isolation = await examine(replace(SANDBOX, ffmpeg=binary), Mode.STRICT, root, LIMITS)
    assert isolation.missing == ()
    assert isolation.level == "kernel"
    require_ready(isolation)
    health = isolation.health()
    assert health["ok"]
    assert health["layers"]["landlock"]["abi"] == SANDBOX.layers.landlock_abi
    assert health["ffmpeg"]["version"]
    assert re.fullmatch(r"landlock\d\+seccomp\+rlimits", isolation.sandbox.layers.label)
    assert ("ladspa" in health["ffmpeg"]["dangerous_filters_compiled_in"]) == (binary == installed())


@pytest.mark.parametrize(
    ("layers", "missing"),
    [
        (Layers(0, seccomp=True), "landlock"),
        (Layers(7, seccomp=False), "seccomp"),
        (Layers(0, seccomp=False), "landlock"),
    ],
)
async def test_a_missing_layer_is_told_and_strict_mode_refuses(root: WorkRoot, layers: Layers, missing: str) -> None:
    isolation = await examine(replace(SANDBOX, layers=layers), Mode.STRICT, root, LIMITS)
    assert missing in isolation.missing
    assert not isolation.selftest.ok
    with pytest.raises(ReelwayError) as refused:
        require_ready(isolation)
    assert refused.value.reason is ErrorReason.ISOLATION_UNAVAILABLE
    assert missing in refused.value.message
    best_effort = replace(isolation, mode=Mode.BEST_EFFORT)
    assert best_effort.ready
    assert best_effort.loopback_only == (layers == Layers(0, seccomp=False))


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6])
async def test_older_kernels_confine_files_too(root: WorkRoot, abi: int) -> None:
    isolation = await examine(replace(SANDBOX, max_abi=abi), Mode.STRICT, root, LIMITS)
    assert isolation.missing == ()


async def test_a_launcher_that_cannot_is_never_gone_round(folder: WorkFolder) -> None:
    impossible = replace(SANDBOX, max_abi=0)
    argv = [SANDBOX.ffmpeg, "-version"]
    result = await run_sandboxed(impossible, argv, folder, LIMITS)
    assert (result.ended, result.exit_code) == (Ended.SANDBOX, 125)
    assert b"SANDBOX-FAILED" in result.stderr
    made = plan("-f lavfi -i testsrc=d=1 out_1", {}, {"out_1": "o.mp4"}, LIMITS)
    with pytest.raises(JobFault) as failed:
        await run_plan(impossible, made, folder, lambda _: None)
    assert failed.value.failure == JobFailure("INTERNAL", "The command could not be isolated")
    assert list((folder.path / "out").iterdir()) == []


async def test_descriptors_and_environment_stay_outside(folder: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("CANARY")
    with (tmp_path / "secret").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        argv = [SANDBOX.ffmpeg, "-nostdin", "-f", "data", "-i", f"pipe:{file.fileno()}", "-map", "0", "-c", "copy"]
        result = await run_sandboxed(
            SANDBOX, [*argv, "-f", "data", f"{folder.path}/out/0"], folder, LIMITS, guarded=False
        )
    written = b"".join(path.read_bytes() for path in (folder.path / "out").iterdir())
    assert b"CANARY" not in written + result.stderr


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def test_it_holds_for_a_user_without_any_privilege() -> None:
    """As `nobody`, with no capability: what a pod's non-root user has."""
    python = Path(os.path.realpath(sys.executable))
    if not _open_to_all(python):
        python = Path("/usr/bin/python3")
    place = Path("/var/tmp") / f"reelway-test-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        for script in Path(sandbox_module.__file__).parent.glob("sandbox_*.py"):
            shutil.copy(script, place)
        (place / "work").mkdir()
        if os.getuid() == 0:
            os.chown(place / "work", 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", _UNPRIVILEGED, str(python), str(place)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    finally:
        shutil.rmtree(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kernel () Ended.SUCCEEDED 0000000000000000" in done.stdout


_UNPRIVILEGED = """
import asyncio, concurrent.futures.thread, os, re, sys
from dataclasses import replace
from pathlib import Path
import tests.integration.test_ffmpeg_sandbox as t
from services.ffmpeg.filter_table import table
table()  # what is read from the project's own folder, which nobody else may read here
python, place = sys.argv[1], Path(sys.argv[2])
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
async def main():
    root = t.WorkRoot(place / "work")
    t.SANDBOX = replace(t.SANDBOX, python=python, scripts=place)
    isolation = await t.examine(t.SANDBOX, t.Mode.STRICT, root, t.LIMITS)
    result = await t.run(root.create("job"), "-f lavfi -i testsrc=d=1 out_1", t.LIMITS)
    capabilities = re.search(r"CapEff:\\s+(\\w+)", Path("/proc/self/status").read_text())[1]
    print(isolation.level, isolation.missing, result.ended, capabilities)
    root.close()
asyncio.run(main())
"""
