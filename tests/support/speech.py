"""Real speech with its text, the model that hears it, and the measure of how well."""

from __future__ import annotations

import asyncio
import string
from pathlib import Path

import pytest

from services.ffmpeg.transcription.model_files import BASE, assemble
from tests.support.programs import installed

SPEECH = Path(__file__).parent.parent / "data" / "speech"


async def make(*arguments: str) -> None:
    """Run ffmpeg to make a test's input."""
    process = await asyncio.create_subprocess_exec(installed(), "-v", "error", "-y", *arguments)
    assert await process.wait() == 0


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model, assembled once."""
    cache = tmp_path_factory.mktemp("models")
    assemble(BASE, cache)
    return cache


def clips() -> list[tuple[Path, str]]:
    """(wav, text) of the five readings."""
    rows = (line.split("\t") for line in (SPEECH / "transcription.txt").read_text().splitlines())
    return [(SPEECH / f"{name}.wav", text) for name, text in rows]


def normal(text: str) -> list[str]:
    """Words as they are compared: no case, no punctuation, hyphens are spaces."""
    text = text.lower().replace("-", " ").replace("mr.", "mister")
    return text.translate(str.maketrans("", "", string.punctuation)).split()


def word_error_rate(truth: str, heard: str) -> float:
    """Edits from one to the other, by words, over the number of true words."""
    want, got = normal(truth), normal(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(want, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1] / len(want)
