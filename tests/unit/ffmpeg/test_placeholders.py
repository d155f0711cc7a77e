from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ffmpeg import placeholders
from services.ffmpeg.refusal import CommandRefused


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("-i in_1 out_1", ["-i", "in_1", "out_1"]),
        ("ffmpeg -i in_1", ["-i", "in_1"]),
        ("-i {{ in_1 }} {{out_1}}", ["-i", "{{in_1}}", "{{out_1}}"]),
        ("-vf 'a b' \\\n -an", ["-vf", "a b", "-an"]),
        ("-x264-params keyint=30:\\\r\nmin-keyint=30", ["-x264-params", "keyint=30:min-keyint=30"]),
        ('-vf "scale=6\\\n40:360" -an', ["-vf", "scale=640:360", "-an"]),
        ("title='a\\\nb' \"it's\\\n c\"", ["title=a\\\nb", "it's c"]),
        ('a\\\\\nb "a\\\\\nb"', ["a\\", "b", "a\\\nb"]),
        ('-metadata title="It\'s $(here) `x` *"', ["-metadata", "title=It's $(here) `x` *"]),
        ("-i in_1 ; rm -rf / && x > y", ["-i", "in_1", ";", "rm", "-rf", "/", "&&", "x", ">", "y"]),
    ],
)
def test_a_command_is_split_without_a_shell(command: str, words: list[str]) -> None:
    assert placeholders.split_command(command, 1000) == words


@pytest.mark.parametrize("command", ["'open", "a\\", "-i in_1\0", "-vf '\x1b[2J'", "a\x7f", "x" * 1001, "\udc80"])
def test_what_cannot_be_split_is_refused(command: str) -> None:
    with pytest.raises(CommandRefused):
        placeholders.split_command(command, 1000)


@given(st.text(max_size=80))
def test_any_command_is_words_or_a_refusal(command: str) -> None:
    try:
        words = placeholders.split_command(command, 1000)
    except CommandRefused:
        return
    assert "\0" not in "".join(words)


def test_a_placeholder_is_a_whole_word() -> None:
    known = {"in_1": "u", "in_10": "u"}
    assert placeholders.placeholder_of("in_1", known) == "in_1"
    assert placeholders.placeholder_of("in_10", known) == "in_10"
    assert placeholders.placeholder_of("{{in_1}}", known) == "in_1"
    assert placeholders.placeholder_of("{{missing}}", known) == "missing"
    for word in ("in_1x", "xin_1", "concat:in_1", "a{{in_1}}", "{{in_1}}{{in_10}}", "in_1 ", "IN_1"):
        assert placeholders.placeholder_of(word, known) is None


@pytest.mark.parametrize("key", ["", "-i", "a b", "a/b", "..", "in:1", "ü", "x" * 65, "{{a}}", "in_1\n"])
def test_a_key_is_plain(key: str) -> None:
    with pytest.raises(CommandRefused):
        placeholders.check_keys({key: "u"}, {"out_1": "o.mp4"})
    with pytest.raises(CommandRefused):
        placeholders.check_keys({"in_1": "u"}, {key: "o.mp4"})


def test_a_key_is_not_both() -> None:
    with pytest.raises(CommandRefused, match="both"):
        placeholders.check_keys({"x": "u"}, {"x": "o.mp4"})


@pytest.mark.parametrize("name", ["a.mp4", "A b_c-1.final.MP4", "vidéo.mp4", "clip (2).mp4", "x", "x" * 127])
def test_plain_names_pass(name: str) -> None:
    placeholders.check_output_names({"out_1": name})


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".hidden", "-y", "a/b.mp4", "/etc/x", "..\\x", "a..mp4", "file:x", "http://h/x",
        "a|b", "a?b", "a#b",
        "x\n.mp4", "x\0.mp4", "%d.jpg", "a;b", "a.mp4 ", "a.", "x" * 128, "字" * 100, "\u202egpj.mp4", "a\u2028b",
        "$(x)", "*", " a",
    ],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        placeholders.check_output_names({"out_1": name})
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("name", "extension"), [("a.MP4", "mp4"), ("a.tar.gz", "gz"), ("mp4", ""), (".mp4", ""), ("a.", ""), ("", "")]
)
def test_an_extension_stands_behind_a_name(name: str, extension: str) -> None:
    assert placeholders.extension_of(name) == extension


def test_two_outputs_of_one_name_are_refused() -> None:
    with pytest.raises(CommandRefused, match="two outputs"):
        placeholders.check_output_names({"out_1": "o.mp4", "out_2": "o.mp4"})


def test_a_body_full_of_outputs_is_judged_at_once() -> None:
    outputs = {f"out_{number}": f"{number}.mp4" for number in range(40_000)}
    started = time.process_time()
    placeholders.check_output_names(outputs)
    assert time.process_time() - started < 2
