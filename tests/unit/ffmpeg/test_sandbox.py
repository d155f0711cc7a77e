"""What the launcher is told."""

import json
import os
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
    limits = json.loads(sandbox.spec(["/ffmpeg"], Path("/job"), Limits(cpu_seconds=100)))["limits"]
    # A busy worker may come late to look.
    assert limits["CPU"] >= 100 + 3 * cores * process._POLL_SECONDS
