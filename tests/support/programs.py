"""The ffmpeg programs that the tests run."""

from __future__ import annotations

import functools
import subprocess

from services.ffmpeg.binaries import bundled, find


def installed() -> str:
    """The ffmpeg that the service would take."""
    return find("ffmpeg")


def static() -> str:
    """The newer, static build of the development wheels."""
    path = bundled("ffmpeg")
    assert path is not None
    return path


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
