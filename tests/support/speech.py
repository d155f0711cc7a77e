"""Real speech with its text, the model that hears it, and the measure of how well."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ffmpeg.transcription.model_files import BASE, assemble
from tests.support.programs import installed
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system

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


@pytest.fixture(scope="module")
async def hearing_system(
    model_cache: Path, juicefs_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """A system that makes transcripts, one at a time."""
    env = {
        "TRANSCRIBE_ENGINE": "faster-whisper",
        "TRANSCRIBE_CACHE_DIR": str(model_cache),
        "SLOTS_TRANSCRIBE": "1",
        # A test that kills the worker does not wait a minute for its lease to end.
        "JOB_LEASE_SECONDS": "6",
        "JOB_RENEW_SECONDS": "2",
        "JOB_STALLED_CHECK_SECONDS": "1",
    }
    s3 = juicefs_server.with_new_bucket()
    async with start_system(tmp_path_factory.mktemp("hearing"), env=env, s3=s3) as running:
        yield running


async def make_reading(media: Path) -> list[float]:
    """A webm of 40 s with the five readings, and when each of them begins; it begins with a pause of 2 s."""
    begins = [2.0, 12.0, 18.0, 26.0, 35.0]
    inputs = [word for wav, _ in clips() for word in ("-i", str(wav))]
    delays = [f"[{i + 1}]adelay={int(at * 1000)}[a{i}]" for i, at in enumerate(begins)]
    mix = "".join(f"[a{i}]" for i in range(5)) + "amix=inputs=5:normalize=0[speech]"
    await make(
        *("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=40"),
        *inputs,
        *("-filter_complex", ";".join(delays) + ";" + mix),
        *("-map", "0:v", "-map", "[speech]", "-c:v", "libvpx", "-c:a", "libopus", str(media)),
    )
    return begins


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
