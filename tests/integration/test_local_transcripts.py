"""The engine of transcripts under `make run`: added once, left out when told so, done without where it can't be had."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local import system as local_system
from deploy.local.settings import LocalSettings
from deploy.local.system import System

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The script beside an environment whose installer writes down what it is told, and fails if `broken` is there."""
    for name in ("deploy/local/bootstrap.sh", "requirements/transcribe.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in *install*) echo "$* # PIP_USER=$PIP_USER" >>installed\n'
        "[ ! -e broken ] || { echo 'looking' >&2; echo 'error: no route to the index' >&2; exit 1; } ;; esac\n"
    )
    python.chmod(0o755)
    return tmp_path


def bootstrap(tree: Path, **env: str) -> tuple[str, str, int]:
    """What it says, and how often something was installed."""
    done = subprocess.run(
        [tree / "deploy" / "local" / "bootstrap.sh", "transcribe"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    log = tree / "installed"
    return done.stdout, done.stderr, len(log.read_text().splitlines()) if log.exists() else 0


def test_it_is_added_once(tree: Path) -> None:
    said, warned, count = bootstrap(tree)
    assert (said.count("\n"), warned, count) == (1, "", 1)
    assert "--require-hashes -r requirements/transcribe.txt" in (tree / "installed").read_text()
    assert bootstrap(tree) == ("", "", 1)


def test_it_is_added_to_this_environment_alone(tree: Path) -> None:
    """UV_SYSTEM_PYTHON and UV_PYTHON name another one, `user = true` of a pip.conf a folder beside it."""
    bootstrap(tree, UV_SYSTEM_PYTHON="1")
    assert " --python .venv/bin/python " in (tree / "installed").read_text()
    (tree / ".venv" / ".transcribe").unlink()
    bootstrap(tree, INSTALLER="pip")
    assert "PIP_USER=0" in (tree / "installed").read_text().splitlines()[-1]


@pytest.mark.parametrize("env", [{"RUN_TRANSCRIPTS": "0"}, {"TRANSCRIBE_ENGINE": "openai"}])
def test_it_is_left_out(tree: Path, env: dict[str, str]) -> None:
    assert bootstrap(tree, **env) == ("", "", 0)


def test_where_it_cannot_be_had_one_line_says_so_and_the_next_start_tries_again(tree: Path) -> None:
    (tree / "broken").touch()
    _, warned, _ = bootstrap(tree)
    assert warned == ("setup: no transcripts, their engine could not be installed: error: no route to the index\n")
    (tree / "broken").unlink()
    assert bootstrap(tree)[1:] == ("", 2)


@pytest.mark.parametrize(
    ("wanted", "asked", "installed", "engine"),
    [
        (True, "", True, "faster-whisper"),
        (True, "", False, "none"),
        (False, "", True, "none"),
        (False, "openai", False, "openai"),
    ],
)
def test_which_engine_the_processes_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wanted: bool, asked: str, installed: bool, engine: str
) -> None:
    monkeypatch.setattr(local_system, "_has_engine", lambda: installed)
    settings = LocalSettings(data_dir=tmp_path, run_transcripts=wanted)
    env = {"TRANSCRIBE_ENGINE": asked} if asked else {}
    told = System(settings, env, lambda name: tmp_path / name).transcripts_environment()
    assert told == {"TRANSCRIBE_ENGINE": engine, "TRANSCRIBE_CACHE_DIR": str(tmp_path / "models")}
