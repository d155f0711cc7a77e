from __future__ import annotations

import pytest

from services.common.language_tag import primary_language
from services.ffmpeg.transcription.language import Language, decide, locked
from services.ffmpeg.transcription.language_names import CODES, code_of
from services.ffmpeg.transcription.words import Heard, Word

WORD = (Word(0, 1, " hm"),)


@pytest.mark.parametrize(
    ("given", "code"),
    [("en", "en"), ("EN-us", "en"), ("pt_BR", "pt"), ("zh-Hant-TW", "zh"), ("haw", "haw"), (" de ", "de"), ("", "")],
)
def test_tags_become_codes(given: str, code: str) -> None:
    assert primary_language(given) == code


@pytest.mark.parametrize("given", ["english", "e", "12", "e1", "../x", "-en", "_", "en-", "en us", "en-u.s"])
def test_what_is_no_tag_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="not a language"):
        primary_language(given)


def test_a_sure_language_is_kept_for_the_rest() -> None:
    unsure, short = Heard(WORD, "fr", 0.6, 60), Heard(WORD, "fr", 0.9, 4)
    sure = Heard(WORD, "de", 0.7, 5)
    assert locked([unsure, short]) is None
    assert locked([unsure, short, sure, Heard(WORD, "en", 0.99, 90)]) == "de"


def test_the_language_with_the_most_speech_is_told() -> None:
    heard = [Heard(WORD, "de", 0.9, 100), Heard(WORD, "en", 0.99, 20), Heard(WORD, "de", 0.7, 10)]
    assert decide(heard) == Language("de", 0.9)


def test_a_guess_is_not_told_and_silence_has_no_language() -> None:
    assert decide([Heard(WORD, "pl", 0.49, 100)]) == Language()
    assert decide([Heard((), "en", 0.57, 0.69)]) == Language()
    assert decide([]) == Language()


def test_servers_name_languages_in_two_ways() -> None:
    assert [code_of(x) for x in ("English", "en", "ZH", "haitian creole", "pt-br", "klingon", "")] == [
        *("en", "en", "zh", "ht", "pt", "", "")
    ]
    assert len(CODES) == 100
