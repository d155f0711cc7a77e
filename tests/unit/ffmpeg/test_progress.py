from __future__ import annotations

import pytest

from services.ffmpeg.job import Progress
from services.ffmpeg.option_values import seconds_of
from services.ffmpeg.progress import ProgressReader

HEAD = b"Input #0, mov\n  Duration: 00:00:10.00, start: 0\nInput #1\n  Duration: 00:01:00.00, start\nOutput #0, mp4\n"


def reports(stop: float | None, head: bytes, *lines: bytes) -> list[Progress]:
    seen: list[Progress] = []
    reader = ProgressReader(stop, seen.append)
    for byte in range(0, len(head), 7):
        reader.log(head[byte : byte + 7])
    for line in lines:
        reader.line(line)
    return seen


def test_a_report_tells_the_fraction_of_the_longest_input() -> None:
    (report,) = reports(None, HEAD, b"fps=25.00", b"out_time_us=6000000", b"speed=2.5x", b"progress=continue")
    assert report == Progress(0.1, fps=25.0, speed=2.5, media_seconds=6.0)


def test_a_command_that_stops_earlier_is_done_earlier() -> None:
    (report,) = reports(5.0, HEAD, b"out_time_us=2500000", b"progress=continue")
    assert report.fraction == 0.5
    (report,) = reports(500.0, HEAD, b"out_time_us=121000000", b"progress=continue")
    assert report.fraction == 1.0


def test_a_title_that_looks_like_a_duration_breaks_nothing() -> None:
    head = b"Input #0\n  title : Duration: " + b"9" * 5000 + b":00:00." + b"1" * 5000 + b"\n" + HEAD
    (report,) = reports(None, head, b"out_time_us=6000000", b"progress=continue")
    assert report.fraction == 0.1


def test_nothing_is_claimed_where_the_length_is_not_known() -> None:
    (report,) = reports(None, b"Duration: N/A\nOutput #0", b"out_time_us=N/A", b"speed=N/A", b"progress=continue")
    assert report == Progress()


def test_the_end_is_the_end() -> None:
    assert reports(None, HEAD, b"out_time_us=1", b"progress=end")[0].fraction == 1.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("1:30", 90), ("01:00:01.5", 3601.5), ("500ms", 0.5), ("x", None), ("", None), ("-5", None)],
)
def test_times_are_read_as_ffmpeg_reads_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds
