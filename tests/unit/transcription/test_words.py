from __future__ import annotations

from itertools import pairwise

import pytest

from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard, Piece, Word, join_text, spread

PIECE = Piece(SAMPLE_RATE, 3 * SAMPLE_RATE, "base", Heard((Word(0.5, 0.75, " ёж"),), "ru", 0.75, 1.5))


def test_a_piece_survives_its_storage() -> None:
    assert Piece.from_json(PIECE.to_json()) == PIECE


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", PIECE.to_json()[:-9], '{"start":1,"heard":{"words":3}}'])
def test_what_is_no_piece_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a piece"):
        Piece.from_json(text)


def test_words_of_a_piece_count_from_the_start_of_the_audio() -> None:
    assert PIECE.words() == [Word(1.5, 1.75, " ёж")]


def test_text_without_times_is_laid_over_its_stretch() -> None:
    placed = spread("to be or  not", 10.0, 20.0)
    assert join_text(placed) == "to be or not"
    assert (placed[0].start, placed[-1].end) == (10.0, 20.0)
    assert all(a.end == b.start for a, b in pairwise(placed))
    assert spread(" ", 0.0, 1.0) == []
