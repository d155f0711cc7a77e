"""What an engine hears, and a piece of it as it is kept for a retry."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

SAMPLE_RATE = 16_000
"""Samples a second of all audio here: mono, signed 16 bit, little endian. Whisper knows no other rate."""
_SLICE = 20
"""Characters; what is longer without a space is taken for a script that has none, and is divided."""


@dataclass(frozen=True)
class Word:
    """One word. `text` carries the space before it, in languages that put one."""

    start: float
    """Seconds."""
    end: float
    """Seconds, not before `start`."""
    text: str


@dataclass(frozen=True)
class Heard:
    """An engine's answer for one piece; times count from the piece's first sample."""

    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1, as asked for or as detected; empty: not known."""
    language_probability: float = 0.0
    """0 to 1; 1 where the language was asked for."""
    speech_seconds: float = 0.0
    """How much of the piece was speech."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the audio and what was heard in it. Same audio, model and language: same piece."""

    start: int
    """First sample."""
    end: int
    """One past the last sample."""
    model: str
    """Identity of the model that heard it (`Engine.model`)."""
    heard: Heard

    @property
    def span(self) -> tuple[int, int]:
        """Where it is, [start, end)."""
        return self.start, self.end

    @property
    def name(self) -> str:
        """Unique within one transcript; sorts in time."""
        return f"{self.start:012d}-{self.end:012d}"

    def words(self) -> list[Word]:
        """Words in time from the start of the audio."""
        offset = self.start / SAMPLE_RATE
        return [Word(word.start + offset, word.end + offset, word.text) for word in self.heard.words]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Piece:
        """Inverse of `to_json`.

        Raises:
            ValueError: not a piece (another version's, or cut off).
        """
        try:
            fields = json.loads(text)
            heard = fields["heard"]
            words = tuple(Word(float(w["start"]), float(w["end"]), str(w["text"])) for w in heard["words"])
            return cls(
                int(fields["start"]),
                int(fields["end"]),
                str(fields["model"]),
                Heard(
                    words,
                    str(heard["language"]),
                    float(heard["language_probability"]),
                    float(heard["speech_seconds"]),
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a piece: {error}") from None


def spread(text: str, start: float, end: float) -> list[Word]:
    """Words of a text whose own times are unknown, laid over [start, end] in proportion to their lengths."""
    texts = [
        (" " if at == 0 else "") + token[at : at + _SLICE]
        for token in text.split()
        for at in range(0, len(token), _SLICE)
    ]
    total = sum(map(len, texts)) or 1
    edges = [start + (end - start) * done / total for done in itertools.accumulate(map(len, texts), initial=0)]
    return [Word(a, b, text) for text, (a, b) in zip(texts, itertools.pairwise(edges), strict=True)]


def join_text(words: Iterable[Word]) -> str:
    """The words as running text, single spaces, none at the ends."""
    return " ".join("".join(word.text for word in words).split())
