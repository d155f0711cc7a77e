"""A part that can't live is given up after some tries; everything else is stopped then."""

import resource
from pathlib import Path

import pytest

from deploy.local.process import Process, StartError, inherited
from deploy.local.supervisor import Supervisor, sole_user
from deploy.local.system import Part
from services.common.backoff import Backoff


class Script:
    """A part that is a shell script; it counts as ready as soon as it runs."""

    def __init__(self, name: str, script: str, folder: Path) -> None:
        self.name = name
        self.starts = 0
        self.process = Process(name, ["sh", "-c", script], inherited(), folder / f"{name}.log")

    async def start(self) -> None:
        self.starts += 1
        await self.process.start()

    async def stop(self) -> None:
        await self.process.stop(grace=5)


class TwoScripts:
    def __init__(self, folder: Path) -> None:
        self.steady = Script("steady", "sleep 600", folder)
        self.dying = Script("dying", "exit 3", folder)

    @property
    def parts(self) -> list[Part]:
        return [self.steady, self.dying]

    async def start(self) -> None:
        for part in self.parts:
            await part.start()

    async def stop(self) -> None:
        for part in self.parts:
            await part.stop()

    def kill(self) -> None:
        raise AssertionError("nobody asked for it")


async def test_what_always_dies_is_given_up_and_the_rest_is_stopped(tmp_path: Path) -> None:
    system, said = TwoScripts(tmp_path), list[str]()
    supervisor = Supervisor(system, said.append, Backoff(attempts=4, first_seconds=0.01, longest_seconds=0.01))
    with pytest.raises(StartError, match="dying ended with status 3, the 4th time in a row; giving up"):
        await supervisor.run(ready=lambda: said.append("ready"))
    assert (system.dying.starts, system.steady.starts) == (4, 1)
    assert not system.steady.process.running
    assert said[0] == "ready"
    assert sum("dying ended with status 3; starting it again" in line for line in said) == 3


def test_a_disk_that_takes_no_byte_is_said_in_one_line(tmp_path: Path) -> None:
    """No disk has to be filled for it: this process may write no byte into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StartError, match=f"^DATA_DIR {tmp_path}: File too large$"), sole_user(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
