"""Whisper on this machine (faster-whisper, CTranslate2), offline with the packaged weights."""

from __future__ import annotations

from pathlib import Path

import faster_whisper
import numpy as np
import numpy.typing as npt
from faster_whisper.utils import download_model

from services.ffmpeg.disk_fault import of_the_disk
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.model_files import find_model
from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard, Word

_VOICE = {"min_silence_duration_ms": 500, "speech_pad_ms": 200}
"""Settings of the Silero voice detector: without it Whisper hears words in silence."""


class FasterWhisper:
    """Five minutes at once take 490 MB with the base model; an hour at once would take 3.2 GB."""

    name = "faster-whisper"
    longest_seconds = 300.0

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.model = ""
        self.multilingual = True

    def open(self) -> None:
        """Finds and loads the model: 0.4 s from a warm page cache.

        Raises:
            TranscriptionError: MODEL_UNAVAILABLE, OUT_OF_MEMORY.
            OSError: the disk is full or fails.
        """
        config = self._config
        self.model, folder = self._find()
        try:
            self._whisper = faster_whisper.WhisperModel(
                str(folder),
                device=config.device,
                compute_type=config.compute,
                cpu_threads=config.threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            if of_the_disk(error):
                raise
            raise TranscriptionError(_reason(error, FailureReason.MODEL_UNAVAILABLE), f"{folder}: {error}") from None
        self.multilingual = self._whisper.model.is_multilingual

    def _find(self) -> tuple[str, Path]:
        config = self._config
        cache = Path(config.cache_dir)
        found = find_model(config.model, cache)
        if found:
            return found
        try:
            folder = download_model(config.model, local_files_only=not config.allow_download, cache_dir=str(cache))
        except Exception as error:  # the hub client raises its transport's own, many kinds
            if of_the_disk(error):
                raise
            hint = "" if config.allow_download else " (TRANSCRIBE_ALLOW_DOWNLOAD is not set)"
            raise TranscriptionError(
                FailureReason.MODEL_UNAVAILABLE, f"{config.model}: {type(error).__name__}: {error}{hint}"
            ) from None
        return config.model, Path(folder)

    def run(self, samples: memoryview, language: str | None) -> Heard:
        """Words with times from the model's own alignment.

        Raises:
            TranscriptionError: UNSUPPORTED_LANGUAGE.
        """
        if language and language not in self._whisper.supported_languages:
            raise TranscriptionError(FailureReason.UNSUPPORTED_LANGUAGE, f"{language} with {self.model}")
        try:
            audio = np.frombuffer(samples, dtype=np.int16).astype(np.float32) / np.float32(32768)
            return self._transcribe(audio, language)
        except RuntimeError as error:
            raise TranscriptionError(_reason(error, FailureReason.CRASHED), str(error)) from None

    def _transcribe(self, audio: npt.NDArray[np.float32], language: str | None) -> Heard:
        segments, info = self._whisper.transcribe(
            audio,
            language=language,
            beam_size=self._config.beam,
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=True,
            vad_parameters=_VOICE,
        )
        if info.duration_after_vad == 0:
            return Heard()
        end = len(audio) / SAMPLE_RATE
        words = tuple(
            Word(float(min(word.start, end)), float(min(word.end, end)), word.word)
            for segment in segments
            for word in segment.words or ()
        )
        return Heard(words, info.language, float(info.language_probability), float(info.duration_after_vad))

    def close(self) -> None:
        """Frees the model with the process."""


def _reason(error: Exception, otherwise: FailureReason) -> FailureReason:
    """The native libraries say in words that memory ran out (mkl_malloc, bad_alloc, CUDA)."""
    text = str(error).lower()
    return FailureReason.OUT_OF_MEMORY if "alloc" in text or "out of memory" in text else otherwise
