"""`python -m module` without its imports: forked from a process that has made them, which saves a second a start."""

import asyncio
import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from deploy.local.process import Process
from deploy.local.services import SERVICES
from deploy.local.tether import tie_to
from services.common.aws_session import LOADER

_context = multiprocessing.get_context("forkserver")
# pytest is what this process runs as its main module, and so does every one that is forked.
_context.set_forkserver_preload([*(f"{one.module}.__main__" for one in SERVICES), "uvloop", "pytest", __name__])
# What each of them would read again.
LOADER.load_data_with_path("endpoints")
for _part in ("service-2", "endpoint-rule-set-1"):
    LOADER.load_service_model("s3", _part, api_version=None)


class Forked(Process):
    """Runs the `main` of a module; for the rest it is the process that it stands for."""

    async def start(self) -> None:
        """Forks it; returns before it has done anything."""
        assert isinstance(self._output, Path)
        _, option, module = self._argv
        assert option == "-m"
        self._child = _Child(module, self._env, self._output)

    def kill_now(self) -> None:
        """As any; it may not have come so far as to lead the group that is killed."""
        super().kill_now()
        self.signal(signal.SIGKILL)


class _Child:
    """As much of asyncio.subprocess.Process as Process uses."""

    def __init__(self, module: str, environment: Mapping[str, str], output: Path) -> None:
        self._process: ForkServerProcess = _context.Process(
            target=_main, args=(module, dict(environment), str(output)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        loop, ended = asyncio.get_running_loop(), self._process.sentinel
        self._end: asyncio.Future[int] = loop.create_future()

        def end() -> None:
            loop.remove_reader(ended)
            status = self._process.exitcode
            assert status is not None
            self._end.set_result(status)

        loop.add_reader(ended, end)

    @property
    def returncode(self) -> int | None:
        """As asyncio has it."""
        return self._end.result() if self._end.done() else None

    async def wait(self) -> int:
        """As asyncio has it."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """As asyncio has it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _main(module: str, environment: Mapping[str, str], output: str) -> None:
    # As any process that is started. With one of these it would keep the process that it is forked from alive, which
    # else ends with pytest, however that ends.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    tie_to(os.getppid())
    # pytest's interrupt is for pytest; what it started it stops.
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.argv[1:] = []
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    found.main()
