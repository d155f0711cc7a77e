"""A part that dies is started again for as long as the system runs; what stood in its way may have gone."""

import asyncio
import os
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.local import disk, supervisor
from deploy.local.disk import Disk
from deploy.local.process import Process, StartError, inherited
from deploy.local.supervisor import Supervisor, sole_user
from deploy.local.system import Part
from services.common.backoff import Backoff
from tests.support.waiting import until


class Script:
    """A part that is a shell script; it counts as ready as soon as it runs."""

    def __init__(self, name: str, script: str, folder: Path) -> None:
        self.name = name
        self.starts = 0
        self.faults: dict[int, Exception] = {}
        self.process = Process(name, ["sh", "-c", script], inherited(), folder / f"{name}.log")

    async def start(self) -> None:
        self.starts += 1
        if self.starts in self.faults:
            raise self.faults[self.starts]
        await self.process.start()

    async def stop(self) -> None:
        await self.process.stop(grace=5)


class TwoScripts:
    """One that runs, and one that dies as long as there is a file `cause`, and serves then."""

    def __init__(self, folder: Path) -> None:
        self.steady = Script("steady", "sleep 600", folder)
        self.dying = Script("dying", f"cd {folder}; [ ! -e cause ] || exit 3; touch serving; sleep 600", folder)

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


class Refused(TwoScripts):
    async def start(self) -> None:
        raise StartError("redis ended with status 1: it said nothing")


class Counting(Backoff):
    """Never waits for long, and tells behind how many failures it was to wait."""

    def __init__(self, failures: list[int]) -> None:
        super().__init__()
        self._told = failures.append

    def pause(self, attempt: int) -> float:
        self._told(attempt)
        return 0.01


@pytest.fixture(name="full")
def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=15_900_000))


@pytest.mark.usefixtures("full")
async def test_what_dies_again_and_again_serves_once_its_cause_is_gone(tmp_path: Path) -> None:
    (tmp_path / "cause").touch()
    system, said, failures = TwoScripts(tmp_path), list[str](), list[int]()
    system.dying.faults = {3: StartError("its log is away"), 4: OSError("no process is left")}
    running = asyncio.create_task(
        Supervisor(system, Disk(tmp_path), said.append, Counting(failures)).run(lambda: said.append("ready"))
    )
    await until(lambda: system.dying.starts > 10)
    (tmp_path / "cause").unlink()
    await until((tmp_path / "serving").exists)
    # It may serve before who has started it knows.
    await until(lambda: said.count("dying is ready again") == system.dying.starts - 3)
    assert system.steady.starts == 1
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert not system.steady.process.running
    assert not system.dying.process.running
    assert said[0] == "ready"
    assert failures == list(range(1, system.dying.starts))
    short = f"(DATA_DIR {tmp_path}: 15 MB left); starting it again"
    assert sum(f"dying ended with status 3 {short}" in line for line in said) >= 8
    for fault in system.dying.faults.values():
        assert sum(f"{fault} {short}" in line for line in said) == 1


async def test_what_ran_for_long_is_soon_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it died before."""
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", 0)
    (tmp_path / "cause").touch()
    failures = list[int]()
    run = Supervisor(TwoScripts(tmp_path), Disk(tmp_path), print, Counting(failures)).run(lambda: None)
    running = asyncio.create_task(run)
    await until(lambda: len(failures) > 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert set(failures) == {1}


@pytest.mark.parametrize(
    ("hangup", "told"),
    [(signal.SIG_IGN, signal.SIGTERM), (signal.SIG_DFL, signal.SIGHUP)],
    ids=["under nohup", "without"],
)
async def test_it_outlives_its_terminal_under_nohup_alone(
    tmp_path: Path, hangup: signal.Handlers, told: signal.Signals
) -> None:
    """nohup(1) starts it with SIGHUP ignored."""
    said, system = list[str](), TwoScripts(tmp_path)
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        running = asyncio.create_task(Supervisor(system, Disk(tmp_path), said.append).run(lambda: said.append("ready")))
        await until(lambda: "ready" in said)
        assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == (hangup is signal.SIG_IGN)
        os.kill(os.getpid(), told)
        await running
        assert said == ["ready", "stopping"]
        assert not system.steady.process.running
        assert signal.getsignal(signal.SIGHUP) is hangup
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("full")
async def test_a_start_that_fails_on_a_full_disk_names_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=rf"^redis .* it said nothing \(DATA_DIR {tmp_path}: 15 MB left\)$"):
        await Supervisor(Refused(tmp_path), Disk(tmp_path), print).run(ready=lambda: None)


async def test_it_is_said_once_that_room_is_short_and_once_that_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, said, usage = list[int](), list[str](), SimpleNamespace(free=0)

    def look(_: Path) -> SimpleNamespace:
        looks.append(usage.free)
        return usage

    monkeypatch.setattr(shutil, "disk_usage", look)
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.001)
    running = asyncio.create_task(Supervisor(TwoScripts(tmp_path), Disk(tmp_path), said.append).run(lambda: None))
    for usage.free in (10**9, 99_000_000, 15_900_000, 100_000_000, 2 * 10**9, 0):
        await until(lambda: looks[-2:] == [usage.free] * 2)
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert said == [
        f"DATA_DIR {tmp_path}: 99 MB left; make room before uploads and tasks fail",
        f"DATA_DIR {tmp_path}: there is room again",
        f"DATA_DIR {tmp_path}: 0 MB left; make room before uploads and tasks fail",
        "stopping",
    ]


def test_a_disk_with_room_is_not_mentioned(tmp_path: Path) -> None:
    assert Disk(tmp_path).shortage() == ""
    assert Disk(tmp_path / "gone").shortage() == ""


def test_a_disk_that_takes_no_byte_is_said_in_one_line(tmp_path: Path) -> None:
    """No disk has to be filled for it: this process may write no byte into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StartError, match=f"^DATA_DIR {tmp_path}: File too large$"), sole_user(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_who_holds_the_data_is_told_and_nobody_who_held_it_before(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_user(tmp_path):
            second = sole_user(tmp_path)
            with pytest.raises(StartError, match=f"is in use by process {os.getpid()}$"), second:
                pass
