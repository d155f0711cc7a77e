"""A job's private folder, and what a worker that died has left.

Layout: `{root}/{worker}/{job}/` with `in`, `out` and `tmp`. A worker holds a lock on `{root}/{worker}/lock` for as long
as it lives: the kernel lets go of it whatever kills the process, so a folder whose lock can be had is nobody's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.ffmpeg.paths import may_be_planted
from services.ffmpeg.plan import PlannedOutput


class OutputMissing(Exception):
    """A declared output is not there, is empty, or is no plain file. `args[0]` names the placeholder."""


@dataclass(frozen=True)
class CollectedOutput:
    """An output as it was found; `descriptor` is open for reading and owned by the holder."""

    placeholder: str
    name: str
    size: int
    descriptor: int


@dataclass(frozen=True)
class Usage:
    """What a job has written so far."""

    bytes: int
    files: int


class WorkFolder:
    """One job's folder; `remove` it when the job has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def usage(self) -> Usage:
        """Bytes and files under `out` and `tmp`."""
        total = files = 0
        for size in _sizes([self.path / "out", self.path / "tmp"]):
            total += size
            files += 1
        return Usage(total, files)

    def collect(self, outputs: Iterable[PlannedOutput]) -> list[CollectedOutput]:
        """The declared outputs, opened without following a link; raises OutputMissing for the first that is not whole.

        A symbolic link, a second hard link, a device or a pipe is never read: it could stand for any file.
        """
        collected: list[CollectedOutput] = []
        try:
            for output in outputs:
                collected.append(self._open(output))  # noqa: PERF401 - what was opened so far must be closed on a failure
        except BaseException:
            for found in collected:
                os.close(found.descriptor)
            raise
        return collected

    def _open(self, output: PlannedOutput) -> CollectedOutput:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            folder = os.open(self.path / "out", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                descriptor = os.open(Path(output.path).name, flags, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError:
            raise OutputMissing(output.placeholder) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size == 0:
            os.close(descriptor)
            raise OutputMissing(output.placeholder)
        return CollectedOutput(output.placeholder, output.name, status.st_size, descriptor)

    def remove(self) -> None:
        """Everything of the job; safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)


class WorkRoot:
    """A worker's place under the common root; held until the process ends or `close`."""

    def __init__(self, root: Path) -> None:
        """Raises OSError where `root` cannot be written or trusted; it is an absolute path of plain characters."""
        self._root = root
        self._own = root / f"worker-{secrets.token_hex(8)}"
        self._lock = self._settle()

    def _settle(self) -> int:
        """Make the own place; the descriptor of its lock."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if may_be_planted(self._root):
            raise PermissionError(errno.EPERM, "belongs to another user", str(self._root))
        self._own.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self._own / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    def create(self, job: str) -> WorkFolder:
        """A new folder for an attempt at `job`. Raises OSError; there is none then."""
        try:
            # Cleaners of temporary files go by their age.
            os.utime(self._own / "lock")
        except FileNotFoundError:
            # One of them removed our folder: make it again.
            lost, self._lock = self._lock, self._settle()
            os.close(lost)
        path = self._own / f"{''.join(c for c in job if c.isalnum() or c == '-')[:64]}-{secrets.token_hex(4)}"
        folder = WorkFolder(path)
        try:
            for made in (path, path / "in", path / "out", path / "tmp"):
                made.mkdir(mode=0o700)
        except OSError:
            # On a full disk attempts get so far again and again, and nobody else would remove it.
            folder.remove()
            raise
        return folder

    def sweep(self) -> int:
        """Remove what dead workers left; returns how many workers that were."""
        swept = 0
        for folder in self._root.glob("worker-*"):
            if folder != self._own and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        return swept

    def close(self) -> None:
        """Give the place up and remove it."""
        shutil.rmtree(self._own, ignore_errors=True)
        os.close(self._lock)


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        # Between mkdir and the lock's creation, or half removed: only an old one is abandoned.
        return _age_seconds(folder) > 60
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _age_seconds(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _sizes(folders: list[Path]) -> Iterator[int]:
    for folder in folders:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes([Path(entry.path)])
                else:
                    yield entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
