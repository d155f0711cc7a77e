"""What make sets up again: an environment that is not this folder's, or not this Python's."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from reelway.v1 import upload_pb2

ROOT = Path(__file__).parents[2]
COPIED = ("Makefile", "deploy/local", "requirements", "protos", "pyproject.toml", "hatch_build.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone that was set up: its environment takes from ours what was installed, and its stubs are its own."""
    clone = tmp_path / "clone"
    for name in COPIED:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name)
        else:
            shutil.copy(ROOT / name, clone / name)
    shutil.copytree(Path(upload_pb2.__file__).parents[1], clone / "gen" / "reelway")
    environment = clone / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3.*/site-packages")
    (packages / "reelway.pth").write_text(f"{clone}\n{clone}/gen\n{sysconfig.get_path('purelib')}\n")
    (environment / ".local").touch()
    return clone


def asked_of_make(folder: Path, *goal: str) -> str:
    """What it would run."""
    command = ["make", "--no-print-directory", "-n", *goal]
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


SET_UP = "deploy/local/bootstrap.sh local"


@pytest.mark.parametrize("goal", [("run",), ("token", "USER=x")], ids=lambda goal: goal[0])
def test_what_is_set_up_is_left_alone(folder: Path, goal: tuple[str, ...]) -> None:
    assert SET_UP not in asked_of_make(folder, *goal)


def test_a_folder_that_was_moved_is_set_up_again(folder: Path) -> None:
    moved = folder.rename(folder.with_name("moved"))
    assert SET_UP in asked_of_make(moved, "run")


def test_a_copy_does_not_run_the_code_of_the_first(folder: Path) -> None:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, symlinks=True)
    assert SET_UP in asked_of_make(copy, "run")
    assert SET_UP not in asked_of_make(folder, "run")


def test_another_python_is_set_up_again(folder: Path) -> None:
    """The system's was upgraded: python3 is another one, and finds nothing under the old one's version."""
    (packages,) = folder.glob(".venv/lib/python3.*")
    packages.rename(packages.with_name("python3.1"))
    assert SET_UP in asked_of_make(folder, "token", "USER=x")


def test_a_python_that_is_gone_is_set_up_again(folder: Path) -> None:
    for name in ("python", "python3"):
        (folder / ".venv" / "bin" / name).unlink()
    assert SET_UP in asked_of_make(folder, "run")


def test_what_setting_up_says_is_no_part_of_a_token(folder: Path) -> None:
    """A script takes what `make token` writes to standard output."""
    moved = folder.rename(folder.with_name("moved"))
    script = moved / "deploy" / "local" / "bootstrap.sh"
    script.write_text("#!/bin/sh\necho setup: installing\nexit 1\n")
    script.chmod(0o755)
    command = ["make", "--no-print-directory", "token", "USER=x"]
    made = subprocess.run(command, cwd=moved, capture_output=True, text=True, check=False)
    assert (made.stdout, made.stderr.splitlines()[0]) == ("", "setup: installing")


def test_nothing_is_left_of_an_environment_that_is_no_good(folder: Path) -> None:
    """Its scripts name the old folder's Python in their first line."""
    moved = folder.rename(folder.with_name("moved"))
    python = moved.with_name("python")
    can = f'case "$*" in -m*) exit 7;; *ensurepip*) exit 0;; *) exec {sys.executable} "$@";; esac'
    python.write_text(f"#!/bin/sh\n{can}\n")
    python.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    script = moved / "deploy" / "local" / "bootstrap.sh"
    made = subprocess.run([script, "local"], env=env, capture_output=True, text=True, check=False)
    assert made.stderr == f"setup: could not make .venv with {python}\n"
    assert made.stdout == "setup: .venv is unfinished, of another folder or of another Python; making it anew\n"
    assert not (moved / ".venv").exists()
