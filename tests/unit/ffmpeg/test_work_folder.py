from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.ffmpeg.machine import work_root
from services.ffmpeg.plan import PlannedOutput
from services.ffmpeg.work_folder import OutputMissing, WorkFolder, WorkRoot

OUTPUT = PlannedOutput("out_1", "film.mp4", "out/0.mp4")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> WorkFolder:
    return WorkRoot(tmp_path / "work").create("job/../1")


def test_a_folder_is_private_and_its_name_plain(folder: WorkFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.path.name.startswith("job1-")
    assert sorted(path.name for path in folder.path.iterdir()) == ["in", "out", "tmp"]


def test_an_output_is_collected_open(folder: WorkFolder) -> None:
    (folder.path / "out/0.mp4").write_bytes(b"film")
    (found,) = folder.collect([OUTPUT])
    assert (found.placeholder, found.name, found.size) == ("out_1", "film.mp4", 4)
    with os.fdopen(found.descriptor, "rb") as file:
        assert file.read() == b"film"


@pytest.mark.parametrize("kind", ["missing", "empty", "symlink", "hard link", "pipe", "folder", "linked folder"])
def test_what_is_no_plain_whole_file_is_never_read(folder: WorkFolder, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    target = folder.path / "out/0.mp4"
    match kind:
        case "empty":
            target.touch()
        case "symlink":
            target.symlink_to(secret)
        case "hard link":
            target.hardlink_to(secret)
        case "pipe":
            os.mkfifo(target)
        case "folder":
            target.mkdir()
        case "linked folder":
            (tmp_path / "0.mp4").write_bytes(b"secret")
            (folder.path / "out").rmdir()
            (folder.path / "out").symlink_to(tmp_path)
    whole = PlannedOutput("out_2", "whole.mp4", "out/1.mp4")
    (folder.path / whole.path).write_bytes(b"film")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OutputMissing):
        folder.collect([whole, OUTPUT])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_usage_counts_what_was_written(folder: WorkFolder) -> None:
    (folder.path / "in/0").write_bytes(b"x" * 1000)
    (folder.path / "out/0").write_bytes(b"x" * 10)
    (folder.path / "tmp/deep").mkdir()
    (folder.path / "tmp/deep/1").write_bytes(b"x" * 5)
    assert (folder.usage().bytes, folder.usage().files) == (15, 2)
    folder.remove()
    assert (folder.usage().bytes, folder.usage().files) == (0, 0)


def test_files_that_go_while_they_are_counted_do_not_count(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def gone_since(path: Path) -> list[os.DirEntry[str]]:
        found = list(scandir(path))
        for entry in found:
            Path(entry).unlink()
        return found

    (folder.path / "tmp/0").write_bytes(b"x")
    monkeypatch.setattr(os, "scandir", gone_since)
    assert (folder.usage().bytes, folder.usage().files) == (0, 0)


def test_what_dead_workers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "work"
    code = (
        "import os,sys; from pathlib import Path; from services.ffmpeg.work_folder import WorkRoot\n"
        f"f = WorkRoot(Path({str(root)!r})).create('dead')\n"
        "(f.path / 'out/0').write_bytes(b'x'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    alive, me = WorkRoot(root), WorkRoot(root)
    kept = alive.create("alive")
    assert len(list(root.iterdir())) == 3
    assert me.sweep() == 1
    assert me.sweep() == 0
    assert kept.path.exists()
    alive.close()
    me.close()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("gone", ["", "worker-*", "worker-*/lock"])
def test_a_cleaner_of_temporary_files_costs_no_job_that_comes_later(tmp_path: Path, gone: str) -> None:
    root = tmp_path / "work"
    alive = WorkRoot(root)
    for path in [*root.glob(gone)] if gone else [root]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = alive.create("job")
    me = WorkRoot(root)
    assert me.sweep() == 0
    assert (kept.path / "in").is_dir()
    alive.close()
    me.close()
    assert list(root.iterdir()) == []


@pytest.fixture(name="of_another")
def _of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of another user in one that anybody writes into, like /tmp."""
    folder = tmp_path / "public" / "work"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o1777)
    if os.geteuid() == 0:
        os.chown(folder, 1, 1)  # what is root's is trusted
    monkeypatch.setattr(os, "geteuid", lambda: 2)
    return folder


def test_a_root_is_its_maker_s_alone(tmp_path: Path) -> None:
    root = WorkRoot(tmp_path / "work")
    assert (tmp_path / "work").stat().st_mode & 0o777 == 0o700
    root.close()


def test_a_root_of_another_user_is_refused_in_one_line(of_another: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever owns it could put another folder in the place of a job's."""
    with pytest.raises(SystemExit), work_root(of_another):
        pass
    assert capsys.readouterr().err == f"settings: WORK_DIR: {of_another}: belongs to another user\n"
    assert list(of_another.iterdir()) == []


def test_a_root_where_no_other_user_can_have_put_it_is_taken_whoever_owns_it(of_another: Path) -> None:
    """A volume, for example."""
    of_another.parent.chmod(0o755)
    WorkRoot(of_another).close()


def test_a_root_that_cannot_be_made_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit), work_root(tmp_path / "file"):
        pass
    assert capsys.readouterr().err == f"settings: WORK_DIR: {tmp_path}/file: File exists\n"


def test_a_worker_that_works_has_a_lock_of_no_age(tmp_path: Path) -> None:
    root = WorkRoot(tmp_path / "work")
    [lock] = tmp_path.glob("work/*/lock")
    os.utime(lock, (0, 0))
    root.create("job")
    assert lock.stat().st_mtime > time.time() - 60
    root.close()


def test_a_disk_that_fills_up_meanwhile_leaves_no_part_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, mkdir = WorkRoot(tmp_path), Path.mkdir

    def no_room_for_outputs(path: Path, mode: int) -> None:
        if path.name == "out":
            raise OSError(errno.ENOSPC, "no room")
        mkdir(path, mode)

    monkeypatch.setattr(Path, "mkdir", no_room_for_outputs)
    with pytest.raises(OSError, match="no room"):
        root.create("job")
    assert [path.name for path in tmp_path.glob("*/*")] == ["lock"]
