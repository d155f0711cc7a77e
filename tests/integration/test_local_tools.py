"""What `make test` and `make run` say where a program is missing and can't be installed, and on another system."""

import shutil
import subprocess
from pathlib import Path

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


def test_another_system_than_linux_is_said_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tmp_path / "uname").chmod(0o755)
    script = tmp_path / "deploy" / "local" / "bootstrap.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(FOLDER / "bootstrap.sh", script)  # what it would make, it would make here
    made = subprocess.run(
        [script, "local"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 1
    assert made.stderr == "setup: Darwin will not do, Linux is needed; a virtual machine is one\n"
