"""A child process: it dies with its parent, ends when told, and its output goes where it is wanted."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

TETHER = Path(__file__).with_name("tether.py")
LOOK_SECONDS = 0.1  # between two questions whether it answers
MAX_LINE = 64 * 1024  # bytes of one line of output that are kept together

LineSink = Callable[[str], None]


class Child(Protocol):
    """What is asked of a started process; asyncio's are such."""

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""

    @property
    def returncode(self) -> int | None:
        """The exit status, -N for signal N; None while it runs."""

    async def wait(self) -> int:
        """The exit status, once there is one."""

    def send_signal(self, number: int, /) -> None:
        """Nothing happens where it has ended."""


class StartError(Exception):
    """A part can't be had; the message is one line for the person who started us."""


def inherited(**changes: str) -> dict[str, str]:
    """Our environment with some changes, for a child."""
    return {**os.environ, **changes}


def reach_this_machine_directly() -> None:
    """Keeps what we and our children say to each other from a proxy that the environment names."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given != "*":  # it stands alone, or for nothing
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{given},127.0.0.1".lstrip(",")


class Process:
    """One child process, in a session of its own.

    Its own session keeps the terminal's Ctrl-C from it: whoever started it decides the order of the ends.

    Args:
        name: what people call it.
        argv: the command; the first word is a path or found on PATH.
        env: the whole environment of the child.
        output: a function that gets each line of stdout and stderr, or a file that they are appended to.
            Take the file where the event loop does not always run (a synchronous test): nobody would read a
            pipe then, and the child would block on a full one.
        cwd: the directory it runs in; default: ours.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        output: LineSink | Path,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._env = dict(env)
        self._output = output
        self._cwd = cwd
        self._child: Child | None = None
        self._pump: asyncio.Task[None] | None = None
        self._last_line = ""
        self._log_begin = 0

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        return self._started.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, -N for signal N; None while it runs."""
        return self._started.returncode

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    @property
    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child

    async def start(self) -> None:
        """Starts it; returns before it has done anything.

        Raises:
            StartError: the file of its output can't be written, or the machine starts no further process.
        """
        # The interpreter's start-up files are of no use to the tether: -I -S make it quick.
        command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]
        with contextlib.ExitStack() as files:
            out: int = asyncio.subprocess.PIPE
            if isinstance(self._output, Path):
                try:
                    log = files.enter_context(self._output.open("ab"))
                except OSError as error:
                    raise StartError(f"the log of {self.name}: {self._output}: {error.strerror}") from error
                out, self._log_begin = log.fileno(), log.tell()
            try:
                child = await asyncio.create_subprocess_exec(
                    *command,
                    *self._argv,
                    env=self._env,
                    cwd=self._cwd,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, RuntimeError) as error:
                # asyncio waits for each child in a thread of its own, which may be one too many.
                why = error.strerror if isinstance(error, OSError) else error
                raise StartError(f"{self.name} could not be started: {why}") from error
        self._child = child
        if child.stdout is not None and not isinstance(self._output, Path):
            self._pump = asyncio.create_task(self._read(child.stdout, self._output))

    async def start_answering(self, answers: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Starts it, and returns once `answers` says so; it is asked again and again.

        Raises:
            StartError: it ended, or does not answer after `seconds`; then it is gone.
        """
        await self.start()
        ended = asyncio.create_task(self.wait())
        try:
            async with asyncio.timeout(seconds):
                while not await answers():
                    # The pause between two looks; it is over at once when the process is.
                    done, _ = await asyncio.wait([ended], timeout=LOOK_SECONDS)
                    if done:
                        raise StartError(f"{self.name} {how_it_ended(ended.result())}: {self.last_line()}")
        except TimeoutError as error:
            await self.kill()
            raise StartError(f"{self.name} did not answer within {seconds:g} s: {self.last_line()}") from error
        except BaseException:
            await self.kill()
            raise
        finally:
            ended.cancel()

    def last_line(self) -> str:
        """The last thing that it said since it was started."""
        if isinstance(self._output, Path) and self._output.exists():
            with self._output.open("rb") as log:
                log.seek(self._log_begin)
                lines = log.read().decode(errors="replace").strip().splitlines()
            return lines[-1][:500] if lines else "it said nothing"
        return self._last_line[:500] or "it said nothing"

    async def wait(self) -> int:
        """Waits for its end and returns the exit status."""
        status = await self._started.wait()
        if self._pump is not None:
            # A grandchild may hold the pipe open; its lines are not worth waiting for.
            await asyncio.wait([self._pump], timeout=1)
        return status

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; nothing happens where it has ended."""
        if self.running:
            self._started.send_signal(number)

    async def stop(self, grace: float) -> None:
        """Asks it to end (SIGTERM), and after `grace` seconds makes it; its children go with it."""
        if self._child is None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.kill_now()
            await self.wait()
        self.kill_now()

    async def kill(self) -> None:
        """Kills it with all that it started (SIGKILL)."""
        if self._child is not None:
            self.kill_now()
            await self.wait()

    def kill_now(self) -> None:
        """Kills it with all that it started, and does not wait."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._started.pid, signal.SIGKILL)

    async def _read(self, stream: asyncio.StreamReader, sink: LineSink) -> None:
        rest = b""
        while chunk := await stream.read(MAX_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._say(line, sink)
        if rest:
            self._say(rest, sink)

    def _say(self, line: bytes, sink: LineSink) -> None:
        text = line.decode(errors="replace")
        self._last_line = text.strip() or self._last_line
        # Whatever becomes of the line: a pipe that nobody reads blocks the process, and keeps it from ever ending.
        with contextlib.suppress(Exception):
            sink(text)


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"
