"""The processes that stand for those of `make run` in tests."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from tests.support.forked import Forked
from tests.support.system import RunningSystem


def pipes(pid: int | str) -> set[str]:
    """The pipes that it has open beside its standard streams."""
    opened = set[str]()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # The one by which this folder is read is closed by now.
        with contextlib.suppress(FileNotFoundError):
            opened |= {os.readlink(entry)} if int(entry.name) > 2 else set()  # noqa: PTH115 - it is no path
    return {one for one in opened if one.startswith("pipe:")}


async def test_they_hold_nothing_that_keeps_what_forks_them_alive_when_pytest_is_killed(system: RunningSystem) -> None:
    ours = pipes("self")
    assert ours
    assert not [process.name for process in system.processes if pipes(process.pid) & ours]


async def test_one_that_has_hardly_begun_can_be_ended(tmp_path: Path) -> None:
    """As all others of a system are, and waited for, where one of them cannot start."""
    young = Forked("catalog", [sys.executable, "-m", "services.catalog"], {}, tmp_path / "log")
    await young.start()
    young.signal(signal.SIGSTOP)
    async with asyncio.timeout(10):
        await young.kill()
    assert not young.running
