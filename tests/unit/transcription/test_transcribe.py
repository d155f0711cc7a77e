"""The use case with a fake engine in a real child process, and ffmpeg played by a function."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common.object_keys import transcript_key
from services.ffmpeg.transcription.audio import extract_arguments
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.language import Language
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import Outcome, Transcriber, Transcript
from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard
from tests.support.folder_pieces import FolderPieces
from tests.support.waiting import is_alive, until, until_ended
from tests.unit.transcription import fake_engine

SPEECH = array("h", [1000, -1000] * (5 * SAMPLE_RATE // 2))
"""Five seconds: three pieces for the fake engine."""


class FakeAudio:
    """A sound track of `samples`."""

    def __init__(self, file: Path, samples: array[int] = SPEECH) -> None:
        self.file, self.samples = file, samples
        self.there = True

    async def exists(self) -> bool:
        return self.there

    async def decode(self, max_seconds: float) -> Path:
        await asyncio.to_thread(self.file.write_bytes, self.samples.tobytes())
        return self.file


class Bench:
    """A transcriber with its folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audio = FakeAudio(folder / "audio.s16")
        self.pieces = FolderPieces(folder / "pieces")
        self.progress: list[float] = []
        self.allow_download = False

    async def hear(self, model: str = "", language: str = "", **options: Any) -> Transcript:
        config = EngineConfig(engine=fake_engine.NAME, model=model, allow_download=self.allow_download)
        transcriber = replace(Transcriber.of(TranscribeSettings()), config=config, **options)
        return await transcriber.transcribe(self.audio, self.pieces, language, self.progress.append)

    async def fails(self, reason: FailureReason, model: str = "", language: str = "", **options: Any) -> str:
        with pytest.raises(TranscriptionError) as raised:
            await self.hear(model, language, **options)
        assert raised.value.reason is reason
        return raised.value.detail


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_pieces_become_a_transcript(bench: Bench) -> None:
    transcript = await bench.hear()
    assert transcript.outcome is Outcome.SPEECH
    assert len(transcript.text.split()) == 3
    assert sum(map(float, transcript.text.split())) == pytest.approx(5, abs=0.02)
    assert transcript.language == Language("en", 0.9)
    assert transcript.audio_seconds == 5
    assert [cue.text for cue in transcript.cues] == transcript.text.split()
    assert transcript.vtt.startswith("WEBVTT\n\n00:00:00.100 --> 00:00:00.8")
    assert bench.progress[0] == 0
    assert bench.progress[-1] == 1
    assert bench.progress == sorted(bench.progress)
    assert len(bench.progress) == 4


async def test_no_audio_track_and_silence_are_successes(bench: Bench) -> None:
    bench.audio.there = False
    assert await bench.hear(model="refuse") == Transcript(Outcome.NO_AUDIO)
    bench.audio.there, bench.audio.samples = True, array("h", [0]) * (3 * SAMPLE_RATE)
    silent = await bench.hear(model="hang")
    assert silent == Transcript(Outcome.NO_SPEECH, model="fake", audio_seconds=3)
    assert (silent.text, silent.vtt) == ("", "WEBVTT\n\n")
    bench.audio.samples = array("h")
    bench.progress.clear()
    assert await bench.hear(model="hang") == Transcript(Outcome.NO_SPEECH, model="fake")
    assert bench.progress == [1]


@pytest.mark.parametrize("heard", [0, 2])
async def test_a_child_that_ends_too_early_is_not_taken_for_one_that_heard_nothing(bench: Bench, heard: int) -> None:
    assert await bench.fails(FailureReason.CRASHED, model=f"quit-{heard}") == "pieces are missing"


async def test_a_retry_goes_on_at_the_piece_where_the_child_was_killed(bench: Bench) -> None:
    assert "SIGKILL" in await bench.fails(FailureReason.CRASHED, model="die-2")
    (first,) = await bench.pieces.load()
    assert first.start == 0
    bench.progress.clear()
    # This child would die at the third piece that it hears itself: there are only two left.
    transcript = await bench.hear(model="die-3")
    assert len(transcript.text.split()) == 3
    assert bench.progress[0] == pytest.approx(first.end / len(SPEECH))
    assert transcript == await bench.hear(model="die-1")


async def test_pieces_of_another_cut_or_a_broken_file_are_not_used(bench: Bench) -> None:
    await bench.fails(FailureReason.CRASHED, model="die-2")
    bench.audio.samples = SPEECH[: 4 * SAMPLE_RATE] + array("h", [3]) * (SAMPLE_RATE // 2) + SPEECH[:SAMPLE_RATE]
    (piece,) = (bench.folder / "pieces").iterdir()
    piece.write_text("{cut off")
    assert len((await bench.hear()).text.split()) == 3


async def test_pieces_of_another_model_are_not_used(bench: Bench) -> None:
    await bench.fails(FailureReason.CRASHED, model="die-2")
    (piece,) = await bench.pieces.load()
    await bench.pieces.save(replace(piece, model="another", heard=Heard()))
    assert len((await bench.hear()).text.split()) == 3


async def test_long_audio_has_as_long_as_it_plays(bench: Bench) -> None:
    bench.audio.samples = SPEECH * 12
    assert (await bench.hear(min_timeout=0.01)).audio_seconds == 60


async def test_what_the_engine_prints_is_no_event(bench: Bench) -> None:
    assert (await bench.hear(model="noisy")).outcome is Outcome.SPEECH


async def test_a_model_that_cannot_be_had_is_a_failure_for_good(bench: Bench) -> None:
    assert await bench.fails(FailureReason.MODEL_UNAVAILABLE, model="refuse") == "no such model"
    assert not FailureReason.MODEL_UNAVAILABLE.transient


@pytest.fixture
def cores() -> Iterator[None]:
    """What crashes leaves as much of itself as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("cores")
async def test_the_child_has_none_of_the_workers_environment_and_stands_behind_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    offline, proxy = [], {"HTTPS_PROXY": "http://proxy:3128"}
    for bench.allow_download in (False, True):
        detail = await bench.fails(FailureReason.MODEL_UNAVAILABLE, model="tells", child_environment=proxy)
        assert "CANARY" not in detail
        told = json.loads(detail)
        assert told["niceness"] == min(19, os.nice(0) + 10)
        # All that is heard, and the key of a server, would be in it.
        assert told["core"] == [0, 0]
        wanted = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **proxy}
        assert told["environment"].items() >= wanted.items()
        offline.append(told["environment"]["HF_HUB_OFFLINE"])
    assert offline == ["1", "0"]


async def test_memory_is_limited(bench: Bench) -> None:
    await bench.fails(FailureReason.OUT_OF_MEMORY, model="hungry")


async def test_a_full_disk_is_told_apart_from_a_crash(bench: Bench) -> None:
    assert "No space left" in await bench.fails(FailureReason.STORAGE_UNAVAILABLE, model="full")
    assert FailureReason.STORAGE_UNAVAILABLE.transient
    assert "Traceback" in await bench.fails(FailureReason.CRASHED, model="lost")


async def test_an_endless_engine_is_ended(bench: Bench) -> None:
    bench.audio.samples = SPEECH[:SAMPLE_RATE]
    await bench.fails(FailureReason.TIMED_OUT, model="hang", min_timeout=0.1)
    assert not children()


async def test_cancelling_kills_the_child(bench: Bench) -> None:
    task = asyncio.create_task(bench.hear(model="hang"))
    await until(lambda: bool(bench.progress))
    (child,) = children()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(child)


async def test_an_english_model_refuses_other_languages(bench: Bench) -> None:
    assert "german" not in await bench.fails(FailureReason.UNSUPPORTED_LANGUAGE, model="english", language="de")
    assert (await bench.hear(model="english", language="en-GB")).language == Language("en", 0.9)
    await bench.fails(FailureReason.UNSUPPORTED_LANGUAGE, language="german")


@pytest.mark.parametrize(("asked", "heard"), [("", "de"), ("es", "es")])
async def test_all_is_heard_in_the_language_that_was_asked_for_or_surely_heard_first(
    bench: Bench, asked: str, heard: str
) -> None:
    await bench.hear(model="fluent", language=asked)
    assert [piece.heard.language for piece in await bench.pieces.load()] == [heard] * 3


async def test_audio_beyond_the_limit_is_refused(bench: Bench) -> None:
    await bench.fails(FailureReason.AUDIO_TOO_LONG, max_seconds=4.9)


def test_the_key_tells_transcripts_apart() -> None:
    keys = {
        transcript_key("v", '"e"', "faster-whisper", "", ""),
        transcript_key("w", '"e"', "faster-whisper", "", ""),
        transcript_key("v", '"f"', "faster-whisper", "", ""),
        transcript_key("v", '"e"', "openai", "", ""),
        transcript_key("v", '"e"', "faster-whisper", "small", ""),
        transcript_key("v", '"e"', "faster-whisper", "", "de"),
    }
    assert len(keys) == 6


def test_ffmpegs_arguments() -> None:
    arguments = extract_arguments(Path("/j/in/0.webm"), Path("/j/out/a"), 3600)
    arguments[arguments.index("-format_whitelist") + 1] = "…"
    assert arguments == [
        *("-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"),
        *("-protocol_whitelist", "file", "-format_whitelist", "…", "-i", "file:/j/in/0.webm"),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-af", "aformat=s16:16000:mono,aresample=async=1:first_pts=0"),
        *("-t", "3601", "-c:a", "pcm_s16le", "-f", "s16le", "file:/j/out/a"),
    ]


ORPHAN = """
import asyncio, pathlib, sys
from tests.unit.transcription.test_transcribe import Bench
class Loud(list):
    def append(self, done):
        print("hearing", flush=True)
bench = Bench(pathlib.Path(sys.argv[1]))
bench.progress = Loud()
asyncio.run(bench.hear(model="hang"))
"""


async def test_the_child_dies_with_its_worker(tmp_path: Path) -> None:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHAN, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout
    assert await worker.stdout.readline() == b"hearing\n"
    (child,) = children(worker.pid)
    worker.kill()
    await worker.wait()
    await until_ended(child)


def children(parent: int | None = None) -> list[int]:
    """Live transcription processes of `parent` (default: this process)."""
    tasks = Path(f"/proc/{parent or os.getpid()}/task").glob("*/children")
    pids = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [
        pid for pid in pids if is_alive(pid) and b"transcription.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
