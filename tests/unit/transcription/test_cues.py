from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.ffmpeg.transcription.cues import MAX_CHARACTERS, MAX_SECONDS, Cue, make_cues
from services.ffmpeg.transcription.words import Word, spread


def words(*texts: str, start: float = 0.0, each: float = 0.3) -> list[Word]:
    return [Word(start + i * each, start + (i + 1) * each, f" {text}") for i, text in enumerate(texts)]


def test_a_pause_ends_a_cue() -> None:
    cues = make_cues([*words("one", "two"), *words("three", start=2.0)])
    assert [cue.text for cue in cues] == ["one two", "three"]
    assert (cues[0].start, cues[1].start) == (0.0, 2.0)


def test_a_sentence_end_ends_a_cue_but_an_abbreviation_does_not() -> None:
    cues = make_cues(words("And", "Mr.", "J.", "Dashwood", 'left."', "He", "went."))
    assert [cue.text for cue in cues] == ['And Mr. J. Dashwood left."', "He went."]


def test_a_short_cue_is_held_while_there_is_room() -> None:
    alone, crowded, last = make_cues([*words("Yes."), *words("No.", start=2.0), *words("So.", start=2.4)])
    assert alone == Cue(0.0, 0.7, "Yes.")
    assert crowded.end == last.start == 2.4


def test_a_word_that_lasts_too_long_is_cut_off() -> None:
    (cue,) = make_cues([Word(1.0, 60.0, " oh")])
    assert (cue.start, cue.end) == (1.0, 8.0)


def test_a_text_without_spaces_is_divided() -> None:
    cues = make_cues(spread("吾輩は猫である" * 40, 0.0, 30.0))
    assert "".join(cue.text for cue in cues) == "吾輩は猫である" * 40
    assert len(cues) > 4


def test_blank_words_make_no_cue() -> None:
    assert make_cues([Word(0.0, 1.0, "  ")]) == []


@given(
    st.lists(
        st.tuples(
            st.floats(0, 30, allow_nan=False),
            st.floats(-1, 20, allow_nan=False),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=120),
        ),
        max_size=40,
    )
)
def test_whatever_an_engine_answers_cues_keep_their_limits(raw: list[tuple[float, float, str]]) -> None:
    given_words = [Word(start, start + length, " " + text) for start, length, text in raw]
    cues = make_cues(given_words)
    for cue in cues:
        assert 0 < len(cue.text) <= MAX_CHARACTERS
        assert "\n" not in cue.text
        assert 0 < cue.end - cue.start <= MAX_SECONDS + 1e-6
    for before, after in pairwise(cues):
        assert before.end <= after.start + 1e-6
    order = sorted(given_words, key=lambda word: word.start)
    assert "".join("".join(cue.text for cue in cues).split()) == "".join("".join(w.text for w in order).split())
