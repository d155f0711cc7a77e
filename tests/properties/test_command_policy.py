"""Whatever command passes the policy names no file but ours."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ffmpeg.command_policy import plan
from services.ffmpeg.option_table import OPTIONS
from services.ffmpeg.refusal import CommandRefused

ONE = {"in_1": "https://example.com/a.mp4"}
OUT = {"out_1": "o.mp4"}
_WORDS = st.sampled_from(
    [*(f"-{name}" for name in OPTIONS), "-i", "in_1", "out_1", "-f", "lavfi", "movie=/etc/passwd", "null",
    "5", "{{in_1}}",
     "/etc/passwd", "-report", "-vf", "[0:v]", "concat:a|b", "-filter_complex", "subtitles=in_1", "copy",
     "hls", "file:x"]
)  # fmt: skip


@given(st.lists(_WORDS, min_size=1, max_size=12))
@settings(max_examples=600)
def test_whatever_passes_names_no_file_but_ours(words: list[str]) -> None:
    command = " ".join(f"'{word}'" for word in words)
    try:
        argv = plan(command, ONE, OUT).argv("/job")
    except CommandRefused:
        return
    own = re.compile(r"/job/(in/0\.mp4|out/0\.mp4)")
    assert not [word for word in argv if "/" in own.sub("", word)]
    assert argv.count("-i") == argv.count("-format_whitelist") == argv.count("-protocol_whitelist")


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_filter_text_passes_or_is_refused_and_names_no_file(text: str) -> None:
    quoted = text.replace("'", "")
    try:
        argv = plan(f"-i in_1 -vf '{quoted}' out_1", ONE, OUT).argv("/job")
    except CommandRefused:
        return
    assert argv[-1] == "file:/job/out/0.mp4"
