"""Runs one program in the cage, watches it, and says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from services.common import tasks
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import Limits
from services.ffmpeg.sandbox import LAUNCHER, Sandbox
from services.ffmpeg.sandbox_launcher import FAILED_MARK, FAILED_STATUS
from services.ffmpeg.work_folder import WorkFolder

_POLL_SECONDS = 0.25
_TERM_SECONDS = 0.7
_DRAIN_SECONDS = 2.0
_STDERR_BYTES = 64 * 1024
_MAX_LINE_BYTES = 64 * 1024
_LEAST_ROOM_BYTES = 64 * 1024
# What the program says: there may be room again when we look, and a quota is not seen. Lines of a file's metadata begin
# with blanks.
_NO_ROOM = re.compile(rb"^\S.*: (?:No space left on device|Disk quota exceeded)", re.MULTILINE)
# ffmpeg takes SIGTERM for a wish to finish its file early; newer ones end with EPERM's -1 as well, and say so.
_TOLD_TO_END, _REFUSED = 255, os.strerror(errno.EPERM).encode()
# Told while it opens its files, it fails as if they were broken, and says this behind.
_WAS_TOLD = re.compile(rb"^(?:\[info\] )?Exiting normally, received signal 15\.$", re.MULTILINE)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Ended(Enum):
    """How a run ended; everything but SUCCEEDED is a failure, whatever files there are."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WALL_CLOCK = "ran longer than allowed"
    CPU = "used more CPU time than allowed"
    MEMORY = "used more memory than allowed"
    DISK = "wrote more than allowed"
    FILES = "wrote more files than allowed"
    SANDBOX = "could not be isolated"
    KILLED = "was killed from outside"
    NO_SPACE = "found the disk full"
    NO_SPACE_TOLD = "told that the disk was full"
    """There is room now, and a command can make ffmpeg say whatever its author likes."""

    @property
    def conclusive(self) -> bool:
        """It says something about the program and its input; else about the machine: another try may end otherwise."""
        return self not in (Ended.SANDBOX, Ended.KILLED, Ended.NO_SPACE, Ended.NO_SPACE_TOLD)


class ToldFullError(OSError):
    """A program told that the disk was full, which may be what its input made it say."""


class NoTimeError(RuntimeError):
    """Time ran out of which the machine gave a program less than half: another try may find out more."""


@dataclass(frozen=True)
class RunResult:
    """One run."""

    ended: Ended
    exit_code: int
    """Negative: the signal."""
    stderr: bytes
    """The end of standard error, at most 64 KiB."""
    cpu_seconds: float
    """As last seen, a quarter of a second before the end at most."""
    seconds: float
    """From its start to its end."""

    def require_room(self) -> None:
        """Raise OSError ENOSPC where the disk was full, ToldFullError where nobody but the program says so."""
        if self.ended is Ended.NO_SPACE:
            raise OSError(errno.ENOSPC, self.ended.value)
        if self.ended is Ended.NO_SPACE_TOLD:
            raise ToldFullError(errno.ENOSPC, self.ended.value)

    def require_conclusive(self) -> None:
        """Raise where the machine was at fault: OSError ENOSPC for a full disk, else RuntimeError."""
        self.require_room()
        if not self.ended.conclusive:
            raise RuntimeError(f"{self.ended.value}: {self.stderr.decode(errors='replace').strip()}")

    def require_time(self) -> None:
        """Raise NoTimeError where the machine is to blame for the time that it took."""
        if self.ended is Ended.WALL_CLOCK and self.cpu_seconds < self.seconds / 2:
            raise NoTimeError(f"{self.ended.value}, with {self.cpu_seconds:.1f} s of CPU in {self.seconds:.1f} s")

    def fault(self, message: str) -> JobFault:
        """What a job fails with whose program did not succeed; `message` is for its owner."""
        if not self.ended.conclusive:
            return JobFault(TaskFailure.INTERNAL, message, may_pass=True)
        reason = TaskFailure.FFMPEG_FAILED if self.ended is Ended.FAILED else TaskFailure.LIMIT_EXCEEDED
        return JobFault(reason, message)


async def run_sandboxed(
    sandbox: Sandbox,
    argv: Sequence[str],
    folder: WorkFolder,
    limits: Limits,
    *,
    on_line: Callable[[bytes], None] | None = None,
    on_log: Callable[[bytes], None] | None = None,
    script: str = LAUNCHER,
    extra: Mapping[str, str] | None = None,
) -> RunResult:
    """Run `argv` (absolute program first) caged in `folder` until it ends or breaks a limit.

    `on_line` gets each line of standard output, `on_log` each piece of standard error. When the calling task is
    cancelled, the program gets SIGTERM, then SIGKILL within a second, and is dead before CancelledError goes on,
    however often it is cancelled; when this process dies, the program dies with it. `script` and `extra` (more of its
    SPEC) are for the self-test.
    """
    _require_whitelists(argv)
    started = time.monotonic()
    with _in_memory(sandbox.spec(argv, folder.path, limits, extra)) as spec:
        process = await asyncio.create_subprocess_exec(
            *sandbox.command(script),
            stdin=spec,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            limit=_MAX_LINE_BYTES,
        )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("a pipe is missing")
    stderr = bytearray()
    watch = _Watch(process, folder, limits, started)
    readers = [
        asyncio.create_task(_read_lines(process.stdout, on_line)),
        asyncio.create_task(_keep_end(process.stderr, stderr, on_log)),
    ]
    watching = asyncio.create_task(watch.until_broken())
    try:
        code = await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await asyncio.gather(*readers)
    except asyncio.CancelledError:
        # A second cancellation must not free the folder of a program that still writes into it.
        await tasks.undisturbed(_stop(process))
        raise
    finally:
        if process.returncode is None:
            process.kill()
        for task in (*readers, watching):
            task.cancel()
        await asyncio.gather(*readers, watching, return_exceptions=True)
    return RunResult(
        ended=watch.broken or watch.look_at_files() or _verdict(code, folder, stderr),
        exit_code=code,
        stderr=bytes(stderr),
        cpu_seconds=watch.cpu_seconds,
        seconds=time.monotonic() - started,
    )


def _in_memory(content: bytes) -> BinaryIO:
    """A file of this content, in memory alone, at its beginning.

    An argument may have 128 KiB at most, and a pipe would have to be filled while the process reads it.
    """
    file = open(os.memfd_create("spec"), "w+b")  # noqa: PTH123, SIM115 - a descriptor; the caller closes
    file.write(content)
    file.seek(0)
    return file


def _require_whitelists(argv: Sequence[str]) -> None:
    """Each input of ffmpeg carries the forced whitelists; a command without them is a mistake of ours."""
    inputs = argv.count("-i")
    if argv.count("-format_whitelist") < inputs or argv.count("-protocol_whitelist") < inputs:
        raise ValueError("every input needs -protocol_whitelist and -format_whitelist")


def _verdict(code: int, folder: WorkFolder, stderr: bytearray) -> Ended:
    if code == FAILED_STATUS and FAILED_MARK.encode() in stderr:
        return Ended.SANDBOX
    was_told = (code == _TOLD_TO_END and _REFUSED not in stderr) or (code and _WAS_TOLD.search(stderr))
    if was_told or code in (-signal.SIGKILL, -signal.SIGTERM):
        # The kernel's memory killer, an operator, or whoever shuts the machine down.
        return Ended.KILLED
    disk = os.statvfs(folder.path)
    # Status 0 proves nothing then: ffmpeg 5.1 does not notice when its last write fails.
    if disk.f_bavail * disk.f_frsize < _LEAST_ROOM_BYTES:
        return Ended.NO_SPACE
    if _NO_ROOM.search(stderr):
        return Ended.NO_SPACE_TOLD
    return Ended.SUCCEEDED if code == 0 else Ended.FAILED


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_TERM_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _read_lines(stream: asyncio.StreamReader, on_line: Callable[[bytes], None] | None) -> None:
    rest = b""
    while data := await stream.read(_MAX_LINE_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-_MAX_LINE_BYTES:]
        for line in lines:
            if on_line is not None:
                on_line(line)
    if rest and on_line is not None:
        on_line(rest)


async def _keep_end(stream: asyncio.StreamReader, end: bytearray, on_log: Callable[[bytes], None] | None) -> None:
    while data := await stream.read(_STDERR_BYTES):
        end += data
        del end[:-_STDERR_BYTES]
        if on_log is not None:
            on_log(data)


class _Watch:
    """Looks at a running program four times a second, and kills it when it breaks a limit."""

    def __init__(self, process: asyncio.subprocess.Process, folder: WorkFolder, limits: Limits, started: float) -> None:
        self._process = process
        self._folder = folder
        self._limits = limits
        self._started = started
        self.broken: Ended | None = None
        self.cpu_seconds = 0.0

    async def until_broken(self) -> None:
        """Ends with the first broken limit; the program is dead then."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if broken := self._look():
                self.broken = broken
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                return

    def _look(self) -> Ended | None:
        limits = self._limits
        if time.monotonic() - self._started > limits.wall_seconds:
            return Ended.WALL_CLOCK
        memory, self.cpu_seconds = _memory_and_cpu(self._process.pid)
        if memory > limits.memory_bytes:
            return Ended.MEMORY
        if self.cpu_seconds > limits.cpu_seconds:
            return Ended.CPU
        return self.look_at_files()

    def look_at_files(self) -> Ended | None:
        """The limit that the written files break.

        A file as large as there may be was cut there; where little was left to write, ffmpeg 5.1 calls that a success.
        """
        usage = self._folder.usage()
        if usage.bytes >= self._limits.output_bytes:
            return Ended.DISK
        return Ended.FILES if usage.files > self._limits.output_files else None


def _memory_and_cpu(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process (proc(5)); zeros once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0, 0.0
    # The name in brackets may hold anything, brackets too.
    fields = stat.rpartition(")")[2].split()
    return int(fields[21]) * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS
