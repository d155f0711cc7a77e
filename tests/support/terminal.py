"""A command run as a person runs it: its lines are read as they come, and keys like Ctrl-C are sent."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.system import passed_on
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


class Terminal:
    """A running command and the lines that it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    async def says(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """The first line that matches, now or later."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        try:
            await until(lambda: bool(found()) or self._reading.done(), seconds)
        except TimeoutError:
            pytest.fail(f"nothing like {pattern!r} in:\n" + "\n".join(self.lines))
        match = found()
        assert match, f"ended without {pattern!r}:\n" + "\n".join(self.lines)
        return match

    async def ends(self, number: signal.Signals | None = None) -> int:
        """Its exit status, after a signal if one is given."""
        if number:
            self.process.send_signal(number)
        status = await asyncio.wait_for(self.process.wait(), 30)
        await self._reading
        return status

    def interrupt(self) -> None:
        """Ctrl-C: every process of the terminal's foreground group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    def children(self) -> list[int]:
        """Pids of what it runs, and of what that runs."""
        found = [self.process.pid]
        for pid in found:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found[1:]


@asynccontextmanager
async def run_in_terminal(command: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """Runs a command in the project's root; with it ends what it started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**passed_on(), **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    terminal = Terminal(process)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
