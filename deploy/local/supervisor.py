"""Keeps the system running until it is told to stop."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from deploy.local.disk import Disk
from deploy.local.process import StartError, how_it_ended
from deploy.local.system import Part
from services.common.backoff import Backoff
from services.common.tasks import all_of

RESTARTS = Backoff(first_seconds=0.5, longest_seconds=10.0)
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEADY_SECONDS = 60.0  # a part that ran this long starts with a clean slate


class Runnable(Protocol):
    """What is supervised, see System."""

    @property
    def parts(self) -> list[Part]:
        """All that runs."""

    async def start(self) -> None:
        """Starts every part and returns once all are ready."""

    async def stop(self) -> None:
        """Ends every part, in order."""

    def kill(self) -> None:
        """Ends every part at once."""


class Supervisor:
    """Starts a system, says when it is ready, starts again what dies, and stops it all when told.

    Args:
        system: what is run.
        disk: where it keeps its data.
        say: gets lines for the person at the terminal.
        restarts: the pauses before a part that dies is started again.
    """

    def __init__(self, system: Runnable, disk: Disk, say: Callable[[str], None], restarts: Backoff = RESTARTS) -> None:
        self._system = system
        self._disk = disk
        self._say = say
        self._restarts = restarts
        self._told = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Runs it until SIGINT, SIGTERM or a SIGHUP that is not ignored; a second one does not wait for anything.

        Args:
            ready: called once everything is.

        Raises:
            StartError: a part can't be started.
        """
        loop = asyncio.get_running_loop()
        # nohup(1) starts us with SIGHUP ignored, so that we outlive the terminal.
        hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
        heard = [*END_SIGNALS, *hangup]
        for number in heard:
            loop.add_signal_handler(number, self._on_signal)
        told = asyncio.create_task(self._told.wait())
        work = asyncio.create_task(self._work(ready))
        try:
            await asyncio.wait([told, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (told, work):
                task.cancel()
            await asyncio.gather(told, work, return_exceptions=True)
            await self._system.stop()
            for number in heard:
                loop.remove_signal_handler(number)
        if not work.cancelled():
            work.result()

    def _on_signal(self) -> None:
        if self._told.is_set():
            self._system.kill()
            return
        self._told.set()
        self._say("stopping")

    async def _work(self, ready: Callable[[], None]) -> None:
        try:
            await self._system.start()
        except StartError as error:
            raise StartError(self._beside_the_disk(str(error))) from error
        ready()
        await all_of([self._disk.watch(self._say), *map(self._keep_alive, self._system.parts)])

    async def _keep_alive(self, part: Part) -> None:
        """Starts it again however often it dies: it was ready once, and a full disk, for one, does not stay full."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            status = await part.process.wait()
            failures = 1 if loop.time() - since > STEADY_SECONDS else failures + 1
            ended = f"{part.name} {how_it_ended(status)}"
            while True:
                pause = self._restarts.pause(failures)
                self._say(f"{self._beside_the_disk(ended)}; starting it again in {pause:.1f} s")
                await asyncio.sleep(pause)
                try:
                    await part.start()
                    break
                except (StartError, OSError) as error:
                    failures, ended = failures + 1, str(error)
            self._say(f"{part.name} is ready again")

    def _beside_the_disk(self, fault: str) -> str:
        """With what is left on the disk, where that may be the cause."""
        shortage = self._disk.shortage()
        return f"{fault} ({shortage})" if shortage else fault


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Holds a lock on DATA_DIR: two sets of servers on one set of files would spoil them.

    Raises:
        StartError: somebody else holds it, or the folder can't be written.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Unbuffered: what a full disk does not take would be written once more when it is closed.
            lock = held.enter_context((folder / "lock").open("a+b", buffering=0))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = (folder / "lock").read_text().strip() or "?"
                raise StartError(f"DATA_DIR {folder} is in use by process {holder}") from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        except OSError as error:
            raise StartError(f"DATA_DIR {folder}: {error.strerror}") from error
        yield
