"""What a process finds out about its machine before it serves."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services.common.backoff import Backoff
from services.ffmpeg import isolation, machine, process, sandbox_launcher
from services.ffmpeg.isolation import Isolation
from services.ffmpeg.sandbox import LAUNCHER, Sandbox
from services.ffmpeg.settings import FrontSettings
from services.ffmpeg.work_folder import WorkRoot
from tests.support.programs import installed

KILLED, OUT_OF_TIME = "os.kill(os.getpid(), 9)", "import time; time.sleep(600)"
TRIES = 3


@pytest.fixture(name="root")
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkRoot]:
    # It would be for all tests that this process runs.
    monkeypatch.setattr(machine, "protect_process", lambda: None)
    monkeypatch.setattr(machine, "_AGAIN", Backoff(TRIES, first_seconds=0.01))
    root = WorkRoot(tmp_path / "work")
    yield root
    root.close()


@pytest.fixture(name="tried")
def _tried(monkeypatch: pytest.MonkeyPatch) -> list[WorkRoot]:
    """Gets longer with each try."""
    tried: list[WorkRoot] = []
    create = WorkRoot.create

    def noting(root: WorkRoot, job: str) -> object:
        if job == "selftest":
            tried.append(root)
        return create(root, job)

    monkeypatch.setattr(WorkRoot, "create", noting)
    return tried


async def examine(root: WorkRoot, **given: int) -> Isolation:
    settings = FrontSettings(S3_BUCKET="b", ffmpeg_bin=installed(), **given)  # type: ignore[arg-type]  # lower case
    found = await machine.examine_machine(settings, root)
    assert found is not None
    return found


def spoil(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, *, once: bool) -> None:
    """Let launchers, or the first of them alone, meet a fault before they become what they are to."""
    scripts = folder / "scripts"
    scripts.mkdir()
    launcher = Path(sandbox_launcher.__file__)
    (scripts / "sandbox_selftest.py").symlink_to(launcher.with_name("sandbox_selftest.py"))
    (scripts / LAUNCHER).write_text(f"""
import os
def first():
    try:
        os.mkdir({str(folder / "met")!r})
    except FileExistsError:
        return False
    return True
if first() or not {once}:
    {fault}
exec(open({str(launcher)!r}).read())
""")
    monkeypatch.setattr(machine, "Sandbox", partial(Sandbox, scripts=scripts))


async def test_health_tells_the_limits_that_are_set(root: WorkRoot, tmp_path: Path) -> None:
    found = await examine(root, command_cpu_seconds=99)
    assert found.health()["layers"]["rlimits"]["CPU"] == 99
    # Nothing is left of the self-test.
    assert [path.name for path in tmp_path.glob("work/*/*")] == ["lock"]


@pytest.mark.parametrize("fault", [KILLED, OUT_OF_TIME])
async def test_a_self_test_that_is_cut_short_is_no_verdict(
    root: WorkRoot, tried: list[WorkRoot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == OUT_OF_TIME:
        monkeypatch.setattr(isolation, "_LIMITS", replace(isolation._LIMITS, wall_seconds=4))
    spoil(tmp_path, monkeypatch, fault, once=True)
    found = await examine(root)
    assert (found.missing, found.level, found.ready) == ((), "kernel", True)
    assert found.ffmpeg_version
    assert found.dangerous_filters
    assert len(tried) > 1


@pytest.mark.parametrize(("fault", "said"), [(KILLED, "was killed from outside"), ("", "found the disk full")])
async def test_a_process_that_comes_to_no_verdict_ends_and_says_why(
    root: WorkRoot, tried: list[WorkRoot], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fault: str, said: str
) -> None:
    if fault:
        spoil(tmp_path, monkeypatch, fault, once=False)
    else:
        # A disk that is not ours to fill is called full as it is.
        monkeypatch.setattr(process, "_LEAST_ROOM_BYTES", shutil.disk_usage(tmp_path).total)
    with pytest.raises(SystemExit, match=f"^isolation: no verdict: the self-test {said}$"):
        await examine(root)
    assert len(tried) == TRIES


async def test_a_folder_that_cannot_be_made_is_told_in_one_line(root: WorkRoot, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "work")
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(SystemExit, match=r"^isolation: no verdict: the self-test could not be run: .*Not a directory"):
        await examine(root)


async def test_what_is_seen_to_fail_is_final(
    root: WorkRoot, tried: list[WorkRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "Sandbox", partial(Sandbox, max_abi=0))
    found = await examine(root)
    assert not found.ready
    assert found.missing == ("selftest:works_inside", "selftest:cage_stands")
    assert len(tried) == 1
    # What runs nothing is not ready to, however little it may do with.
    assert not replace(found, mode=isolation.Mode.BEST_EFFORT).ready


def test_nobody_else_of_its_user_can_look_into_the_process(tmp_path: Path) -> None:
    """A command's ffmpeg is of the same user, and the environment has the keys of the stores. Says prctl(2):
    PR_GET_DUMPABLE is 3."""
    done = subprocess.run(
        [sys.executable, "-c", _EXAMINED, str(tmp_path / "work")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "dumpable: 0"


_EXAMINED = """
import asyncio, ctypes, sys
from pathlib import Path
from services.ffmpeg.machine import examine_machine
from services.ffmpeg.settings import FrontSettings
from services.ffmpeg.work_folder import WorkRoot
# What is found out about the machine does not matter here: without an ffmpeg there is nothing to find out.
settings = FrontSettings(S3_BUCKET="b", ffmpeg_bin="/nonexistent/ffmpeg")
asyncio.run(examine_machine(settings, WorkRoot(Path(sys.argv[1]))))
print("dumpable:", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


async def test_what_dead_processes_left_is_no_reason_for_a_full_disk(root: WorkRoot, tmp_path: Path) -> None:
    """One that ends for a full disk would never come to its own sweeping."""
    left = tmp_path / "work" / "worker-dead"
    left.mkdir()
    (left / "lock").touch()
    await examine(root)
    assert not left.exists()
