from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.ffmpeg.error_text import last_words, redacted
from services.ffmpeg.format_table import INPUT_GUARD
from tests.support.programs import installed, static, told

NAMES = {"/work/j-1/in/0.mp4": "in_1", "/work/j-1/out/0.mp4": "out_1"}


def test_only_errors_are_told_and_files_have_the_client_s_names() -> None:
    log = (
        b"[info] Input #0\n[warning] deprecated\n"
        b"[mov,mp4,m4a,3gp,3g2,mj2 @ 0x5581f0] [error] moov atom not found\n"
        b"[error] file:/work/j-1/in/0.mp4: Invalid data found when processing input\n[info] bye\n"
    )
    assert last_words(log, NAMES) == (
        "[mov,mp4,m4a,3gp,3g2,mj2] moov atom not found\nin_1: Invalid data found when processing input"
    )


def test_the_last_lines_are_told_when_nothing_is_called_an_error() -> None:
    assert last_words(b"one\ntwo\r\nthree\n", {}) == "one\ntwo\nthree"
    assert last_words(b"", {}) == ""


def test_it_is_bounded_and_says_nothing_twice() -> None:
    words = last_words(b"[error] same\n" * 1000 + b"".join(b"[error] line %d\n" % n for n in range(100)), {})
    assert words == "line 96\nline 97\nline 98\nline 99"
    assert len(last_words(b"[error] " + b"x" * 100_000, {})) <= 600


@pytest.mark.parametrize("program", [installed, static])
@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("-vf crop=1000:1000", "Invalid too big or non positive size for width '1000'"),
        ("-vf pad=16:16", "Padded dimensions cannot be smaller than input dimensions."),
        ("-vf format=nope", "Invalid pixel format 'nope'"),
        ("-vf eq=brightness=abc", "Error when parsing the expression 'abc' for brightness"),
        ("-vf scale=-5:nope", "Cannot parse expression for height: 'nope'"),
        ("-vf rotate=foo", "Error occurred parsing angle expression 'foo'"),
        ("-t -1", "Value -1000000.000000 for parameter 'durationi' out of range"),
        ("-c:v libx264 -preset nope", "invalid preset 'nope'"),
    ],
)
def test_the_cause_is_told_and_not_what_echoes_it(program: Callable[[], str], arguments: str, cause: str) -> None:
    source = ("-loglevel", "level+info", "-f", "lavfi", "-i", "testsrc=size=64x64:duration=0.1")
    log = told(program(), *source, "-c:v", "mpeg4", *arguments.split(), "-f", "null", "-")
    assert cause in last_words(log.encode(), {})


@pytest.mark.parametrize("program", [installed, static])
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.ts\n",
        "ffconcat version 1.0\nfile a.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
    ids=["hls", "ffconcat", "sdp"],
)
def test_a_format_that_is_not_allowed_is_told_in_a_few_words(
    program: Callable[[], str], content: str, tmp_path: Path
) -> None:
    path = tmp_path / "input.m3u8"
    path.write_text(content)
    log = told(program(), "-loglevel", "level+error", *INPUT_GUARD, "-i", str(path), "-f", "null", "-")
    words = last_words(log.encode(), {str(path): "in_1"})
    assert "] this format is not allowed here\n" in words
    assert "matroska" not in words


def test_an_echo_is_told_where_there_is_nothing_else() -> None:
    log = b"[vf#0:0 @ 0x5581f0] [error] Task finished with error code: -12 (Out of memory)\n"
    assert last_words(log, {}) == "[vf#0:0] Task finished with error code: -12 (Out of memory)"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/etc/passwd: Permission denied", "…: Permission denied"),
        ("cannot open 'file:/srv/app/secret.txt'", "cannot open '…'"),
        ("https://user:pw@h.example/a/b.mp4?sig=SECRET#x failed", "https://h.example/a/b.mp4 failed"),
        ("a/b ratio 30000/1001", "a/b ratio 30000/1001"),
        ("tab\there\x1b[2J", "tab here [2J"),
        ("file:/work/j-1/out/0.mp4: No space", "out_1: No space"),
    ],
)
def test_paths_queries_and_control_characters_go(text: str, clean: str) -> None:
    assert redacted(text, NAMES) == clean


def test_a_hostile_log_is_read_quickly() -> None:
    started = time.process_time()
    for pattern in (b"/-", b"a://", b"/a", b"//", b"[error]"):
        last_words(b"[error] " + pattern * 30_000, NAMES)
        last_words((b"[error] " + pattern * 300 + b"\n") * 100, NAMES)
    assert time.process_time() - started < 2
