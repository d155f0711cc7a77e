"""A command has as many files, filters, threads and bytes as the limits and the kernel allow."""

from __future__ import annotations

import pytest

from services.ffmpeg.command_policy import plan
from services.ffmpeg.limits import Limits
from services.ffmpeg.refusal import CommandRefused

ONE = {"in_1": "https://example.com/a.mp4"}
OUT = {"out_1": "o.mp4"}


@pytest.mark.parametrize(("asked", "given"), [("0", "3"), ("1", "1"), ("3", "3"), ("16", "3")])
def test_threads_are_cut_to_the_limit(asked: str, given: str) -> None:
    argv = plan(f"-threads {asked} -i in_1 -threads:v {asked} out_1", ONE, OUT, Limits(threads=3)).argv("/j")
    assert argv[argv.index("-threads:v") + 1] == given
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "-threads"] == ["3", given, "3"]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("x264-params", "threads"),
        ("x264opts", "lookahead_threads"),
        ("x265-params", "frame-threads"),
        ("x265-params", "pools"),
        ("svtav1-params", "lp"),
    ],
)
def test_threads_of_an_encoder_s_own_are_named_and_within_the_limit(option: str, name: str) -> None:
    """0, and what is no number, mean as many as there are cores."""

    def judged(value: str) -> str:
        try:
            argv = plan(f"-i in_1 -{option} {name}{value} out_1", ONE, OUT, Limits(threads=3)).argv("/j")
        except CommandRefused as refused:
            return refused.message
        return argv[argv.index(f"-{option}") + 1]

    assert judged("=3") == f"{name}=3"
    for value in ("=4", "=0", "=auto", "=", ""):
        assert judged(value) == f"-{option} {name}: a number from 1 to 3"


def test_as_much_as_the_limits_say_and_no_more() -> None:
    limits = Limits(max_inputs=3, max_outputs=2, max_filters=4)

    def judged(command: str, files: int = 1, outputs: int = 1) -> str:
        """Why it is refused; empty where it is not."""
        inputs = {f"in_{number}": "http://h/x.mp4" for number in range(1, files + 1)}
        try:
            plan(command, inputs, {f"out_{number}": f"{number}.mp4" for number in range(1, outputs + 1)}, limits)
        except CommandRefused as refused:
            return refused.message
        return ""

    assert judged("-i in_1 " * 3 + "out_1") == ""
    assert "more than 3 inputs" in judged("-i in_1 " * 4 + "out_1")
    movies = [";".join(f"movie={{{{in_{number}}}}}" for number in range(1, count + 1)) for count in (3, 4)]
    assert judged(f"-filter_complex '{movies[0]}' out_1", files=3) == ""
    assert "more than 3 inputs" in judged(f"-filter_complex '{movies[1]}' out_1", files=4)
    assert judged("-i in_1 out_1 out_2", outputs=2) == ""
    assert "more than 2 outputs" in judged("-i in_1 out_1 out_2 out_3", outputs=3)
    assert judged("-i in_1 -vf hflip,hflip,hflip -af volume=1 out_1") == ""
    assert "more than 4 filters" in judged("-i in_1 -vf hflip,hflip,hflip -af volume=1,volume=1 out_1")


def refusal(command: str) -> str:
    """Why it is refused; empty where it is not."""
    try:
        plan(command, ONE if "in_1" in command else {}, OUT)
    except CommandRefused as refused:
        return refused.message
    return ""


@pytest.mark.parametrize(
    "graph",
    [
        "scale={}x{}",
        "scale=width=2:w={}:height=2:h={}",
        "scale2ref={}:{}",
        "zscale=s={}x{}",
        "zscale=width={}:height={}",
        "pad=h={1}:w={0}",
        "v360=w={}:h={}",
    ],
)
def test_a_picture_has_as_many_pixels_as_there_may_be_and_no_more(graph: str) -> None:
    for wide, high in ((8192, 8192), (16384, 4096), (4096, 16384)):
        assert refusal(f"-i in_1 -vf {graph.format(wide, high)} out_1") == ""
    for wide, high in ((8192, 8193), (16385, 2), (2, 16385)):
        assert f"{wide}x{high} is more than" in refusal(f"-i in_1 -vf {graph.format(wide, high)} out_1")


@pytest.mark.parametrize(
    "graph", ["split={}", "aselect=outputs={}", "select=1:n={}", "xmedian=inputs={}", "interleave=n={}", "concat=a={}"]
)
def test_a_filter_has_as_many_pads_as_there_may_be_and_no_more(graph: str) -> None:
    assert refusal(f"-i in_1 -filter_complex {graph.format(64)} out_1") == ""
    # ffmpeg reads a number as an expression.
    for count in ("65", "1e8", "100M", "0x7f", "33*2"):
        assert "at most 64" in refusal(f"-i in_1 -filter_complex {graph.format(count)} out_1")


@pytest.mark.parametrize("graph", ["scale=threads={}", "movie={{{{in_1}}}}:dec_threads={}"])
def test_threads_of_a_filter_are_within_the_limit(graph: str) -> None:
    assert refusal(f"-f lavfi -t 1 -i color -i in_1 -filter_complex {graph.format(4)} out_1") == ""
    for count in ("5", "auto"):
        assert "threads: at most 4" in refusal(f"-i in_1 -filter_complex {graph.format(count)} out_1")


@pytest.mark.parametrize(
    ("source", "ends"),
    [
        ("sine=d=1", True),
        ("sine=duration=1", True),
        ("movie={{in_1}}", True),
        ("sine=b=2", False),
        # What others call a duration is the digits of a clock, a number of colours, or of samples in a frame.
        ("testsrc=n=2", False),
        ("gradients=n=3", False),
        ("anullsrc=nb_samples=1024", False),
        ("haldclutsrc", False),
    ],
)
def test_a_source_that_never_ends_is_known(source: str, ends: bool) -> None:
    assert ("never ends" in refusal(f"-f lavfi -i {source} out_1")) != ends


# What takes six bytes when it is written out for a graph.
_WIDE = "\u3000"


def test_no_argument_is_longer_than_the_kernel_takes() -> None:
    """Linux takes 128 KiB (MAX_ARG_STRLEN), the zero at the end included, wherever the job's folder lies."""
    files = ",".join(["lut3d=in_1"] * 190)
    fits = f"-i in_1 -vf {files},drawtext=text={_WIDE * 8000} out_1"
    limits = Limits(max_task_bytes=10**6)
    argv = plan(fits, ONE, OUT, limits).argv("/" + "x" * 255)
    assert 90 * 1024 < max(len(word.encode()) for word in argv) < 128 * 1024
    refused = f"-i in_1 -vf {files},drawtext=text={_WIDE * 8000},drawtext=text={_WIDE * 5000} out_1"
    assert len(refused) < limits.max_command_chars
    with pytest.raises(CommandRefused, match="-vf: longer than 127 KiB when it is written out in full"):
        plan(refused, ONE, OUT, limits)


def test_all_arguments_together_are_not_more_than_the_kernel_takes() -> None:
    limits = Limits(max_command_chars=10**6, max_task_bytes=10**6)
    filters = f"drawtext=text={_WIDE * 8000},drawtext=text={_WIDE * 8000}"
    command = "-i in_1" + f" -filter_complex {filters}" * 5 + " out_1"
    assert sum(len(word.encode()) for word in plan(command, ONE, OUT, limits).argv("/job")) > 128 * 1024
    command = "-i in_1" + f" -filter_complex {filters}" * 6 + " out_1"
    with pytest.raises(CommandRefused, match="longer than 512 KiB when it is written out in full"):
        plan(command, ONE, OUT, limits)
