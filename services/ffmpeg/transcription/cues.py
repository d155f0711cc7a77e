"""Captions from words: an engine's own segments are never used, because voice detection stretches them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from services.ffmpeg.transcription.words import Word, join_text

MAX_CHARACTERS = 84
"""Two lines of 42, as captions are commonly set."""
MAX_SECONDS = 7.0
MIN_SECONDS = 0.7
"""Shorter cues can't be read; they are held on screen, if the next one leaves room."""
LEAST_SECONDS = 0.01
"""A word of no length gets so much, so that no cue ends where it begins."""
MAX_GAP_SECONDS = 0.8
"""A longer pause ends a cue."""
_SENTENCE_END = (".", "?", "!", "…", "。", "？", "！")
_ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "jr.", "sr.", "vs.", "e.g.", "i.e."}
_OPENING = "\"'“‘«([「『"
_CLOSING = "\"'”’»)]」』"


@dataclass(frozen=True)
class Cue:
    """One caption."""

    start: float
    """Seconds."""
    end: float
    """Seconds, after `start` and not after the next cue's start; at most 7 s later."""
    text: str
    """One line of 1 to 84 characters, plain text."""


def make_cues(words: Iterable[Word]) -> list[Cue]:
    """Cues in time, none overlapping, split at pauses, at sentence ends and where they would get too long."""
    cues: list[Cue] = []
    line: list[Word] = []
    for word in _ordered(words):
        if line and _must_split(line, word):
            cues.append(_cue(line))
            line = []
        line.append(word)
    if line:
        cues.append(_cue(line))
    return _held(cues)


def _ordered(words: Iterable[Word]) -> Iterator[Word]:
    """Words that have text, in time, none starting before the one before it ended, none too long for a cue."""
    now = 0.0
    for word in sorted(words, key=lambda word: word.start):
        texts = _chopped(word.text)
        start = max(word.start, now)
        end = min(max(word.end, start + LEAST_SECONDS * len(texts)), start + MAX_SECONDS)
        for index, text in enumerate(texts):
            step = (end - start) / len(texts)
            yield Word(start + index * step, start + (index + 1) * step, text)
        now = end


def _chopped(text: str) -> list[str]:
    """A word's text in bits that fit a cue; scripts without spaces can come as one long word. None if blank."""
    if len(text.strip()) <= MAX_CHARACTERS:
        return [text] if text.strip() else []
    text = text.strip()
    return [text[at : at + MAX_CHARACTERS] for at in range(0, len(text), MAX_CHARACTERS)]


def _must_split(line: list[Word], word: Word) -> bool:
    return (
        word.start - line[-1].end > MAX_GAP_SECONDS
        or word.end - line[0].start > MAX_SECONDS
        or len(join_text([*line, word])) > MAX_CHARACTERS
        or _ends_sentence(line[-1].text)
    )


def _ends_sentence(text: str) -> bool:
    word = text.strip().strip(_CLOSING + _OPENING)
    initial = len(word) == 2 and word[0].isalpha() and word[1] == "."
    return word.endswith(_SENTENCE_END) and not initial and word.lower() not in _ABBREVIATIONS


def _cue(line: list[Word]) -> Cue:
    return Cue(line[0].start, line[-1].end, join_text(line))


def _held(cues: list[Cue]) -> list[Cue]:
    """Short cues stay until they can be read or the next one comes."""
    limits = [*(after.start for after in cues[1:]), float("inf")][: len(cues)]
    return [
        replace(cue, end=max(cue.end, min(cue.start + MIN_SECONDS, limit)))
        for cue, limit in zip(cues, limits, strict=True)
    ]
