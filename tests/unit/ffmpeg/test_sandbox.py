"""What the launcher is told."""

import marshal
import os
import subprocess
from pathlib import Path

import pytest

from services.ffmpeg import process
from services.ffmpeg.limits import Limits
from services.ffmpeg.sandbox import Layers, Sandbox


@pytest.mark.parametrize("cores", [1, 20, 256])
def test_a_program_on_all_cores_cannot_reach_the_kernel_s_limit_between_two_looks(
    monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    sandbox = Sandbox("/ffmpeg", "/ffprobe", Layers(7, seccomp=True))
    limits = marshal.loads(sandbox.spec(["/ffmpeg"], Path("/job"), Limits(cpu_seconds=100)))["limits"]
    # A busy worker may come late to look.
    assert limits["CPU"] >= 100 + 3 * cores * process._POLL_SECONDS


def test_the_launcher_imports_nothing_that_is_slow_to_start() -> None:
    python, *launcher = Sandbox("/ffmpeg", "/ffprobe", Layers(7, seccomp=True)).command()
    command = [python, "-X", "importtime", *launcher]
    done = subprocess.run(command, check=False, input="", capture_output=True, text=True, timeout=60)
    assert "SANDBOX-FAILED" in done.stderr, "it was told nothing"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ctypes" in imported
    assert not imported & {"enum", "json", "re", "typing"}
