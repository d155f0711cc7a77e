from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ffmpeg.filter_graph import RawOption, escape_value, get_token, parse_graph, parse_options
from services.ffmpeg.refusal import CommandRefused


@pytest.mark.parametrize(
    ("text", "stops", "token", "rest"),
    [
        ("abc:def", ":", "abc", ":def"),
        ("  abc  :def", ":", "abc", ":def"),
        (r"a\:b:c", ":", "a:b", ":c"),
        ("'a:b':c", ":", "a:b", ":c"),
        ("m'o'vie=x", "=,;[", "movie", "=x"),
        (r"a\ :x", ":", "a ", ":x"),
        ("' a ':x", ":", " a ", ":x"),
        ("'unclosed:x", ":", "unclosed:x", ""),
        ("tail\\", ":", "tail\\", ""),
        ("", ":", "", ""),
    ],
)
def test_tokens_are_read_as_libavutil_reads_them(text: str, stops: str, token: str, rest: str) -> None:
    value, at = get_token(text, 0, stops)
    assert (value, text[at:]) == (token, rest)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1280:720", [(None, "1280"), (None, "720")]),
        ("w=1280:h=720", [("w", "1280"), ("h", "720")]),
        ("1280:h=720", [(None, "1280"), ("h", "720")]),
        ("text=a:t\\extfile=/x", [("text", "a"), (None, "textfile=/x")]),
        ("/text=/etc/passwd", [("/text", "/etc/passwd")]),
        (" w = 3", [("w", "3")]),
        ("=5", [("", "5")]),
        ("eq(n\\,0)", [(None, "eq(n,0)")]),
        ("stereo|c0=FL", [(None, "stereo|c0=FL")]),
    ],
)
def test_options_are_split_as_libavutil_splits_them(text: str, options: list[tuple[str | None, str]]) -> None:
    assert parse_options(text) == tuple(RawOption(key, value) for key, value in options)


def test_a_graph_has_chains_labels_and_instances() -> None:
    graph = parse_graph(" sws_flags=lanczos;[0:v] scale@big=64:-1 [a]; [a][1:v]overlay,null[out]; ", "-lavfi")
    assert graph.scaler_flags == "lanczos"
    assert [[(f.name, f.instance) for f in chain] for chain in graph.chains] == [
        [("scale", "@big")],
        [("overlay", ""), ("null", "")],
    ]
    assert graph.chains[0][0].inputs == ("0:v",)
    assert graph.chains[1][1].outputs == ("out",)


@pytest.mark.parametrize(
    "text", ["", "[a", "[]null", "null]", "null,,null", "null=x]y", "a b", "null[x]y", "[a;b]null", "NULL", ";null"]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(CommandRefused):
        parse_graph(text, "-vf")


@given(st.text(max_size=60))
@settings(max_examples=400)
def test_any_text_is_a_graph_or_a_refusal(text: str) -> None:
    try:
        graph = parse_graph(text, "-vf")
    except CommandRefused:
        return
    assert all(raw.name.isidentifier() or raw.name[0].isdigit() for chain in graph.chains for raw in chain)


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=500)
def test_a_written_value_is_read_back_as_it_was(value: str) -> None:
    graph = parse_graph(f"drawtext=text={escape_value(value)}:x=1,null", "-vf")
    assert [len(chain) for chain in graph.chains] == [2]
    assert graph.chains[0][0].options == (RawOption("text", value), RawOption("x", "1"))
