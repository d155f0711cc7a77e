"""What `make test` and `make run` say where a program is missing and can't be installed, and on another system."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "local"
SCRIPT = FOLDER / "install_tools.sh"


def run_as_anybody(folder: Path, *tools: str) -> subprocess.CompletedProcess[str]:
    (folder / "id").write_text("#!/bin/sh\necho 1000\n")
    (folder / "id").chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *tools],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    made = run_as_anybody(tmp_path, "sh", "no-such-tool", "other-tool:its-package", "/usr/lib/*/no-such.so.1:no-such1")
    assert made.returncode == 1
    names = "no-such-tool its-package no-such1"
    assert made.stderr == f"tools: missing: {names}; run: apt-get install {names}\n"


def test_nothing_is_said_where_all_is_there(tmp_path: Path) -> None:
    made = run_as_anybody(tmp_path, "sh", "cat:coreutils", "/usr/lib/*/libc.so.6:libc6")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")


def copy_of_script(folder: Path) -> Path:
    """What it would make, it would make here."""
    script = folder / "deploy" / "local" / "bootstrap.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / "bootstrap.sh", script)
    return script


def bootstrap(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A set-up of this folder."""
    script = copy_of_script(folder)
    path = f"{folder}:/usr/bin:/bin"
    return subprocess.run([script, "local"], env={"PATH": path, **env}, capture_output=True, text=True, check=False)


def test_another_system_than_linux_is_said_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tmp_path / "uname").chmod(0o755)
    made = bootstrap(tmp_path)
    assert made.returncode == 1
    assert made.stderr == "setup: Darwin will not do, Linux is needed; a virtual machine is one\n"


@pytest.mark.parametrize(
    ("pretend", "told"),
    [
        ("sys.version_info, sys.version = (3, 10, 4), '3.10.4 (main)'", "3.10.4 for "),
        ("sys.version_info, sys.version = (3, 14, 0), '3.14.0 (main)'", "3.14.0 for "),
        ("sysconfig.get_config_var = lambda name: 'x86_64-alpine-linux-musl'", "for x86_64-alpine-linux-musl"),
    ],
)
def test_a_python_that_has_no_wheels_is_said_before_anything_is_made(tmp_path: Path, pretend: str, told: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys, sysconfig\n{pretend}\n")
    made = bootstrap(tmp_path, PYTHONPATH=str(tmp_path))
    assert made.returncode == 1
    assert made.stderr.startswith("setup: Python 3.11, 3.12 or 3.13 on glibc is needed, and python3 is ")
    assert told in made.stderr
    assert made.stderr.endswith("; install one and name it: make run PYTHON=python3.13\n")
    assert made.stderr.count("\n") == 1
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_not_there_is_said(tmp_path: Path) -> None:
    made = bootstrap(tmp_path, PYTHON="/nowhere/python")
    assert made.returncode == 1
    assert "and /nowhere/python is missing; install one and name it: " in made.stderr
    assert made.stderr.count("\n") == 1


def test_another_python_is_taken_where_the_first_has_no_wheels(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    can = f'case "$*" in -m*) exit 7;; *ensurepip*) exit 0;; *) exec {sys.executable} "$@";; esac'
    (tmp_path / "python3.12").write_text(f"#!/bin/sh\n{can}\n")
    for program in ("python3", "python3.12"):
        (tmp_path / program).chmod(0o755)
    assert bootstrap(tmp_path).stderr == "setup: could not make .venv with python3.12\n"


def make_environment(folder: Path) -> None:
    """One that is set up as soon as there is a file `done`; installing does nothing."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *is_set_up*) [ -e done ] ;; esac\n')
    python.chmod(0o755)


def test_a_set_up_waits_for_the_one_that_is_under_way(tmp_path: Path) -> None:
    """It would remove the other's unfinished environment."""
    make_environment(tmp_path)
    script = copy_of_script(tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    env = {"PATH": "/usr/bin:/bin"}
    with subprocess.Popen([script, "local"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None and one.stderr is not None
        assert one.stdout.readline() == "setup: waiting for another one of this folder\n"
        (tmp_path / "done").touch()
        os.close(other)
        assert (one.stdout.read(), one.stderr.read()) == ("", "")
    assert one.returncode == 0
    assert (tmp_path / ".venv").exists()


def test_an_environment_that_cannot_be_removed_is_said_in_one_line(tmp_path: Path) -> None:
    make_environment(tmp_path)
    # No permission would stop root, whom CI may run as.
    (tmp_path / "rm").write_text(
        "#!/bin/sh\necho 'rm: a: Not permitted' >&2\necho 'rm: b: Not permitted' >&2\nexit 1\n"
    )
    (tmp_path / "rm").chmod(0o755)
    made = bootstrap(tmp_path)
    assert made.returncode == 1
    assert made.stderr == "setup: could not remove .venv: rm: a: Not permitted\n"
