"""An engine that hears the same thing everywhere, and misbehaves when the model's name says so."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import time

from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard, Word

NAME = "tests.unit.transcription.fake_engine:FakeEngine"


class FakeEngine:
    """One word a piece, which says how long the piece is. Pieces of at most 2 s.

    Models: `die-N` kills itself at the N-th piece it is asked to hear; `quit-N` ends there as if all were done, and
    `quit-0` before there is one; `hang` never answers; `hungry` takes all memory; `refuse` fails with a reason; `full`
    finds no room on its disk; `lost` does not find its files; `noisy` prints, and hears more than fits into 64 KiB;
    `english` knows no other language; `fluent` is sure of what it hears, each time of another one; `tells` fails with
    its environment, niceness and largest core, as JSON.
    """

    name = "fake"
    longest_seconds = 2.0

    def __init__(self, config: EngineConfig) -> None:
        self._behaviour = config.model
        self.model = "fake"
        self.multilingual = config.model != "english"
        self._runs = 0

    def open(self) -> None:
        if self._behaviour == "refuse":
            raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, "no such model")
        if self._behaviour == "quit-0":
            raise SystemExit(0)
        if self._behaviour == "tells":
            core = resource.getrlimit(resource.RLIMIT_CORE)
            told = json.dumps({"environment": dict(os.environ), "niceness": os.nice(0), "core": core})
            raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, told)

    def run(self, samples: memoryview, language: str | None) -> Heard:
        self._runs += 1
        match self._behaviour.split("-"):
            case ["die", at] if int(at) == self._runs:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["quit", at] if int(at) == self._runs:
                raise SystemExit(0)
            case ["hang"]:
                time.sleep(600)
            case ["hungry"]:
                bytearray(4 << 30)
            case ["full"]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case ["lost"]:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            case ["noisy"]:
                os.write(1, b"not for the parent\n")
        seconds = len(samples) / SAMPLE_RATE
        word = Word(0.1, 0.4, f" {seconds:.2f}")
        words = (word,) * (3000 if self._behaviour == "noisy" else 1)
        if self._behaviour == "fluent":
            return Heard(words, language or ("de", "fr", "it")[self._runs - 1], 0.9, 60)
        return Heard(words, language or "en", 0.9, seconds)

    def close(self) -> None:
        pass
