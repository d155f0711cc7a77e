from __future__ import annotations

from collections.abc import Mapping

import pytest

from services.ffmpeg.job import Progress
from services.ffmpeg.option_values import seconds_of
from services.ffmpeg.progress import ProgressReader
from services.ffmpeg.timeline import InputSpan, OutputSpan, Timeline

HEAD = b"Input #0, mov\n  Duration: 00:00:10.00, start: 0\nInput #1\n  Duration: 00:01:00.00, start\nOutput #0, mp4\n"


BOTH = Timeline(inputs=(InputSpan(), InputSpan()), outputs=(OutputSpan(),))


def reports(timeline: Timeline, head: bytes, *lines: bytes) -> list[Progress]:
    seen: list[Progress] = []
    reader = ProgressReader(timeline, seen.append)
    for byte in range(0, len(head), 7):
        reader.log(head[byte : byte + 7])
    for line in lines:
        reader.line(line)
    return seen


def stopped(seconds: float) -> Timeline:
    return Timeline(BOTH.inputs, (OutputSpan(stop=seconds),))


def test_a_report_tells_the_fraction_of_the_longest_input() -> None:
    (report,) = reports(BOTH, HEAD, b"fps=25.00\r", b"out_time_us=6000000", b"speed= 2.5x\r", b"progress=continue\r")
    assert report == Progress(0.1, fps=25.0, speed=2.5, media_seconds=6.0)


def test_a_command_that_stops_earlier_is_done_earlier() -> None:
    (report,) = reports(stopped(5.0), HEAD, b"out_time_us=2500000", b"progress=continue")
    assert report.fraction == 0.5
    (report,) = reports(stopped(500.0), HEAD, b"out_time_us=6000000", b"progress=continue")
    assert report.fraction == 0.1


def test_nothing_is_done_before_its_end_however_wrong_the_estimate() -> None:
    seen = reports(
        BOTH, HEAD, b"out_time_us=121000000", b"progress=continue", b"out_time_us=122000000", b"progress=end"
    )
    assert [report.fraction for report in seen] == [0.99, 1.0]


def test_each_input_has_its_own_duration() -> None:
    """Whatever a file says about itself, and however much."""
    head = (
        b"[info] Input #0, mov, from 'file:0':\n[info]   Metadata:\n"
        b"[info]     title           : Input #1, mov\n"
        b"[info]                     :   Duration: 09:00:00.00\n"
        b"[info]     comment         : " + 10_000 * b"long " + b"\n"
        b"[info]   Duration: 00:00:10.00, start: 0.000000, bitrate: 1 kb/s\n"
        b"[info] Input #1, h264, from 'file:1':\n[info]   Duration: N/A, bitrate: N/A\n"
        b"[info] Input #2, mov, from 'file:2':\n[info]   Duration: 00:01:00.00, start: 0.000000\n"
        b"[info] Output #0, mp4, to 'file:0':\n[info]   Duration: 00:02:00.00, start: 0.000000\n"
    )
    durations: list[Mapping[int, float]] = []

    class Noting(Timeline):
        def seconds(self, durations_: Mapping[int, float]) -> float | None:
            durations.append(dict(durations_))
            return super().seconds(durations_)

    reports(Noting(), head)
    assert durations[-1] == {0: 10.0, 2: 60.0}


def test_a_title_that_looks_like_a_duration_breaks_nothing() -> None:
    head = b"Input #0\n  title : Duration: " + b"9" * 5000 + b":00:00." + b"1" * 5000 + b"\n" + HEAD
    (report,) = reports(BOTH, head, b"out_time_us=6000000", b"progress=continue")
    assert report.fraction == 0.1


def test_nothing_is_claimed_where_the_length_is_not_known() -> None:
    (report,) = reports(BOTH, b"  Duration: N/A\nOutput #0", b"out_time_us=N/A", b"speed=N/A", b"progress=continue")
    assert report == Progress()


def test_the_end_is_the_end() -> None:
    assert reports(BOTH, HEAD, b"out_time_us=1", b"progress=end")[0].fraction == 1.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("1:30", 90), ("01:00:01.5", 3601.5), ("500ms", 0.5), ("x", None), ("", None), ("-5", None)],
)
def test_times_are_read_as_ffmpeg_reads_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds
