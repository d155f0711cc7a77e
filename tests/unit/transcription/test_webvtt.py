from __future__ import annotations

from services.ffmpeg.transcription.cues import Cue
from services.ffmpeg.transcription.webvtt import render, timestamp


def test_a_file_with_cues() -> None:
    assert render([Cue(0.0, 1.5, "a <b> & c --> d"), Cue(3661.0004, 3662.9996, "later")]) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\na &lt;b&gt; &amp; c --&gt; d\n\n"
        "01:01:01.000 --> 01:01:03.000\nlater\n\n"
    )


def test_no_cues_is_a_valid_file() -> None:
    assert render([]) == "WEBVTT\n\n"


def test_a_hundred_hours() -> None:
    assert timestamp(360_000.25) == "100:00:00.250"
