"""What a process finds out about its machine before it serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ffmpeg import machine
from services.ffmpeg.machine import examine_machine
from services.ffmpeg.settings import FrontSettings
from services.ffmpeg.work_folder import WorkRoot
from tests.support.programs import installed


@pytest.fixture(name="root")
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkRoot]:
    # It would be for all tests that this process runs.
    monkeypatch.setattr(machine, "protect_process", lambda: None)
    root = WorkRoot(tmp_path / "work")
    yield root
    root.close()


def settings(**given: int) -> FrontSettings:
    return FrontSettings(S3_BUCKET="b", ffmpeg_bin=installed(), **given)  # type: ignore[arg-type]  # names in lower case


async def test_health_tells_the_limits_that_are_set(root: WorkRoot) -> None:
    isolation = await examine_machine(settings(command_cpu_seconds=99), root)
    assert isolation is not None
    assert isolation.health()["layers"]["rlimits"]["CPU"] == 99
