from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.ffmpeg.disk_fault import of_the_disk
from services.ffmpeg.transcription import model_files
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.model_files import Finder, PackagedModel, assemble, find_model

PARTS = (b"first half, ", b"second half")
SHA = hashlib.sha256(b"".join(PARTS)).hexdigest()
MODEL = PackagedModel(
    "small",
    (("one", "data/m.1"), ("two", "data/m.2")),
    SHA,
    (("one", "data/config.json"), ("one", "data/tokenizer.json")),
)
OTHER = PackagedModel("other", (("three", "model.bin"),), hashlib.sha256(b"other").hexdigest(), ())


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    root = tmp_path / "packages"
    for name, content in {
        "one/data/m.1": PARTS[0],
        "one/data/config.json": b"{}",
        "one/data/tokenizer.json": b"{}",
        "two/data/m.2": PARTS[1],
        "three/model.bin": b"other",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def finder(packages: Path) -> Finder:
    def find(package: str) -> Path | None:
        return packages / package if (packages / package).is_dir() else None

    return find


@pytest.fixture(autouse=True)
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "PACKAGED", (MODEL, OTHER))


def test_what_a_killed_process_was_assembling_goes_once_nobody_can_be_at_it(tmp_path: Path, finder: Finder) -> None:
    cache = tmp_path / "cache"
    folder = assemble(MODEL, cache, finder)
    left, made_now = cache / ".assembling-left", cache / ".assembling-now"
    for each in (left, made_now):
        (each / "model").mkdir(parents=True)
        (each / "model" / "model.bin").write_bytes(PARTS[0])
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    assert assemble(MODEL, cache, finder) == folder
    assert set(cache.iterdir()) == {folder, made_now}


def test_parts_become_a_folder_once(tmp_path: Path, finder: Finder) -> None:
    folder = assemble(MODEL, tmp_path / "cache", finder)
    assert (folder / "model.bin").read_bytes() == b"".join(PARTS)
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json", "tokenizer.json"}
    made = (folder / "model.bin").stat().st_mtime_ns
    assert assemble(MODEL, tmp_path / "cache", lambda _: None) == folder
    assert (folder / "model.bin").stat().st_mtime_ns == made


def test_other_bytes_than_the_published_ones_are_refused(tmp_path: Path, packages: Path, finder: Finder) -> None:
    (packages / "two/data/m.2").write_bytes(b"something else")
    with pytest.raises(TranscriptionError, match="SHA-256") as raised:
        assemble(MODEL, tmp_path / "cache", finder)
    assert raised.value.reason is FailureReason.MODEL_UNAVAILABLE
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_spoilt_cache_is_made_again(tmp_path: Path, finder: Finder) -> None:
    folder = assemble(MODEL, tmp_path / "cache", finder)
    (folder / "model.bin").write_bytes(b"cut off")
    assert (assemble(MODEL, tmp_path / "cache", finder) / "model.bin").read_bytes() == b"".join(PARTS)
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_many_at_once_all_get_a_whole_folder(tmp_path: Path, finder: Finder) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: assemble(MODEL, tmp_path / "cache", finder), range(24)))
    assert set(folders) == {folders[0]}
    assert (folders[0] / "model.bin").read_bytes() == b"".join(PARTS)
    assert list((tmp_path / "cache").iterdir()) == [folders[0]]


def test_without_a_configured_model_the_packages_are_tried_in_order(
    tmp_path: Path, packages: Path, finder: Finder
) -> None:
    def chosen() -> str:
        found = find_model("", tmp_path / "cache", finder)
        assert found
        return found[0]

    assert chosen() == "small"
    (packages / "two").rename(packages / "gone")
    # What was assembled once needs its packages no more.
    assert chosen() == "small"
    (tmp_path / "cache").rename(tmp_path / "old-cache")
    assert chosen() == "other"
    (packages / "three").rename(packages / "gone-too")
    (tmp_path / "cache").rename(tmp_path / "older-cache")
    with pytest.raises(TranscriptionError, match=r"package two is not installed.*package three is not installed"):
        chosen()


def test_a_configured_folder_is_taken_or_refused_never_replaced(tmp_path: Path, finder: Finder) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(TranscriptionError, match=r"has no model.bin, config.json, tokenizer.json"):
        find_model(str(folder), tmp_path / "cache", finder)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"x")
    found = find_model(str(folder), tmp_path / "cache", finder)
    assert found
    assert (found[0], found[1]) == (f"mine-{hashlib.sha256(b'x').hexdigest()[:12]}", folder)
    with pytest.raises(TranscriptionError, match="has no model"):
        find_model("/nowhere/model", tmp_path / "cache", finder)


def test_any_other_name_is_for_a_hub(tmp_path: Path, finder: Finder) -> None:
    assert find_model("large-v3", tmp_path / "cache", finder) is None


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, finder: Finder) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(TranscriptionError, match="cannot assemble"):
        assemble(MODEL, tmp_path / "cache", finder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_fails_costs_no_model(
    tmp_path: Path, finder: Finder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """And no reason to hear with a smaller model, which may find room."""

    def fails(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == len(b"".join(PARTS)):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        find_model("", tmp_path / "cache", finder)
    assert of_the_disk(raised.value)
    assert raised.value.filename == str(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
