"""How long an output is expected to become; the same commands are held against ffmpeg in test_ffmpeg_lengths.py."""

from __future__ import annotations

import pytest

from services.ffmpeg.command_policy import plan
from services.ffmpeg.job import Progress
from services.ffmpeg.progress import ProgressReader

OUT = {"out_1": "o.mp4", "out_2": "p.mp4"}


def expected(command: str, *durations: float | None) -> float | None:
    """`durations`: of each input, None where ffmpeg told none."""
    inputs = {key: f"https://h/{key}" for key in ("in_1", "in_2", "in_3") if key in command}
    outputs = {key: name for key, name in OUT.items() if key in command}
    known = {number: seconds for number, seconds in enumerate(durations) if seconds is not None}
    return plan(command, inputs, outputs).timeline.seconds(known)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("", 60),
        ("-ss 10", 50),
        ("-t 6", 6),
        ("-t 90", 60),
        ("-to 6", 6),
        ("-ss 10 -t 6", 6),
        ("-ss 0:10 -to 00:00:16", 6),
        ("-ss 10 -to 6", 0),
        ("-ss 57 -t 6", 3),
        ("-ss 10 -t 5 -to 30", 5),
        ("-sseof -10", 10),
        ("-sseof -10 -t 4", 4),
        ("-sseof -90", 60),
        ("-stream_loop 0", 60),
        ("-stream_loop 2", 180),
        ("-stream_loop 2 -ss 10 -t 100", 100),
        ("-stream_loop -1 -t 100", 100),
        ("-stream_loop 1+1", None),
    ],
)
def test_what_is_read_of_an_input(options: str, seconds: float | None) -> None:
    assert expected(f"{options} -i in_1 out_1", 60) == seconds


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("-ss 10", 50),
        ("-ss 10 -t 6", 6),
        ("-ss 10 -to 16", 6),
        ("-to 16", 16),
        ("-ss 55 -t 60", 5),
        ("-ss 90", 0),
    ],
)
def test_what_is_written_to_an_output(options: str, seconds: float) -> None:
    assert expected(f"-i in_1 {options} out_1", 60) == seconds


def test_an_input_s_stop_and_an_output_s_go_together() -> None:
    assert expected("-ss 10 -t 20 -i in_1 -ss 5 out_1", 60) == 15
    assert expected("-ss 10 -i in_1 -to 16 out_1", 60) == 16


def test_the_longest_output_counts_and_one_that_is_not_known_leaves_all_unknown() -> None:
    assert expected("-i in_1 -t 5 out_1 -t 7 out_2", 60) == 7
    assert expected("-i in_1 -t 5 out_1 out_2", 60) == 60
    assert expected("-i in_1 -t 5 out_1 out_2", None) is None
    assert expected("-i in_1 -t 5 out_1 -t 7 out_2", None) == 7


@pytest.mark.parametrize(
    ("outputs", "seconds"),
    [
        ("out_1", 60),
        ("-shortest out_1", 10),
        ("-map 0:v -map 1:a out_1", 60),
        ("-map 0:v -map 1:a? -shortest out_1", 10),
        ("-map 1 -map -1:s out_1", 10),
        ("-map -1:s out_1", 60),
        ("-map 7 out_1", None),
    ],
)
def test_of_several_inputs_those_that_are_mapped_count(outputs: str, seconds: float | None) -> None:
    assert expected(f"-i in_1 -i in_2 {outputs}", 60, 10) == seconds


def test_a_picture_or_sound_without_an_end_leaves_the_others_to_count() -> None:
    assert expected("-loop 1 -i in_1 -i in_2 -shortest out_1", 0.04, 10) == 10
    assert expected("-i in_1 -f lavfi -i anullsrc -shortest out_1", 10, None) == 10
    assert expected("-loop 1 -t 5 -i in_1 out_1", 0.04) == 5
    assert expected("-f lavfi -i testsrc=d=4 out_1", None) == 4
    assert expected("-f lavfi -i testsrc=64x64:25:4,hue=s=0 out_1", None) == 4


@pytest.mark.parametrize(
    ("graph", "seconds"),
    [
        ("concat=n=3:v=1:a=1", 90),
        ("[0:v][0:a][1:v][1:a][2:v][2:a]concat=3:1:1[v][a]", 90),
        ("[0][1]concat", 50),  # the sound of the longest input goes with it
        ("[0][1]concat[v]", 40),
        ("[1:v]scale=64:64[b];[b]fps=25[c];[0:v]null[a];[a][c][2:v]concat=n=3[v]", 90),
        ("[late][0]concat[v];[1]null,hue=s=0[late]", 40),
        ("[0][1]concat[v];[0:a][1:a]concat=v=0:a=1[a]", 40),
        ("[0]split[x][y];[x]trim=0:5[p];[y]trim=start=7:duration=2[q];[p][q]concat[v]", 7),
        ("[2]atrim=end=55:start=10[v]", 40),
        ("color=d=3[c];[0]null[n];[c][n]concat[v]", 13),
        ("[0]null[n];[2]hue=s=0,[n]concat[v]", 60),
        ("[0][1]xfade=duration=2:offset=8[v]", 38),
        ("[0][1]xfade=fade:2:8[x];[x][2]xfade=duration=2:offset=36[v]", 86),
        ("[0][1]xfade[v]", 30),
        ("[0][1]acrossfade=d=2[v]", 38),
        ("[0][1]acrossfade[v]", 39),
        ("[0][1]overlay[v]", 30),
        ("[0][1]concat=n=3[v]", None),
        ("[0][7]concat[v]", None),
        ("movie={{in_1}}[m];[0][m]concat[v]", None),
        ("[x]null[y];[y]null[x];[0]null[v]", None),
        (";".join(f"[l{n}]null[l{n + 1}]" for n in range(198)) + ";[0]null[l0];[l198]null[v]", 10),
    ],
)
def test_what_a_graph_joins_and_cuts(graph: str, seconds: float | None) -> None:
    chosen = "-map [v]" if "[v]" in graph else ""
    assert expected(f"-i in_1 -i in_2 -i in_3 -filter_complex {graph} {chosen} out_1", 10, 30, 50) == seconds


def test_a_graph_of_its_own_for_sound_counts_too() -> None:
    graphs = "-filter_complex [0:v]trim=0:5[v] -filter_complex [0:a][1:a]concat=v=0:a=1[a]"
    assert expected(f"-i in_1 -i in_2 {graphs} -map [v] -map [a] out_1", 10, 30) == 40


@pytest.mark.parametrize(
    ("command", "fraction"),
    [
        ("-ss 10 -t 6 -i in_1 out_1", 0.5),
        ("-i in_1 -ss 10 -to 16 out_1", 0.5),
        ("-i in_1 -i in_2 -i in_3 -filter_complex concat=n=3:v=1:a=1 out_1", 3 / 180),
    ],
)
def test_progress_is_told_of_what_is_expected(command: str, fraction: float) -> None:
    seen: list[Progress] = []
    inputs = {key: f"https://h/{key}" for key in ("in_1", "in_2", "in_3") if key in command}
    reader = ProgressReader(plan(command, inputs, {"out_1": "o.mp4"}).timeline, seen.append)
    for number in range(len(inputs)):
        reader.log(b"[info] Input #%d, mov, from 'x':\n[info]   Duration: 00:01:00.00, start: 0\n" % number)
    reader.line(b"out_time_us=3000000")
    reader.line(b"progress=continue")
    assert seen[0].fraction == pytest.approx(fraction)
