"""Any server with OpenAI's `POST /v1/audio/transcriptions`: OpenAI, vLLM, whisper.cpp, Speaches.

Shapes: developers.openai.com, "Speech to text" and the API reference. Servers differ in what they leave out of
`verbose_json`; here words are taken where there are any, else segments, else the bare text.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import wave
from typing import Any

import aiohttp

from services.common.backoff import Backoff, retry
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.language_names import code_of
from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard, Word, spread

_MAX_ANSWER = 8 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=10)
_BACKOFF = Backoff(attempts=5, first_seconds=1.0, longest_seconds=20.0)
_UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}
"""Languages written without spaces between words."""


class OpenAi:
    """One request a piece. 5 minutes are 9.6 MB of wav, below OpenAI's limit of 25 MB."""

    name = "openai"
    multilingual = True

    def __init__(self, config: EngineConfig, backoff: Backoff = _BACKOFF) -> None:
        self._config, self._backoff = config, backoff
        self.model = config.model or "whisper-1"
        # Only Whisper itself gives times; the gpt-4o transcribers give bare text, placed by its piece alone.
        self._timed = not self.model.startswith("gpt-")
        self.longest_seconds = 300.0 if self._timed else 30.0
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession

    def open(self) -> None:
        """Prepares a connection; the server is first asked by `run`.

        Raises:
            TranscriptionError: MODEL_UNAVAILABLE: no URL is configured.
        """
        if not self._config.url:
            raise TranscriptionError(FailureReason.MODEL_UNAVAILABLE, "TRANSCRIBE_URL is not set")
        self._session = self._runner.run(self._connect())

    async def _connect(self) -> aiohttp.ClientSession:
        key = self._config.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())

    def run(self, samples: memoryview, language: str | None) -> Heard:
        """Ask the server; 429, 5xx and a lost connection are tried again, a little later each time.

        Raises:
            TranscriptionError: ENGINE_UNREACHABLE after the last try; ENGINE_REFUSED for any other 4xx or an
                answer that is not one.
        """
        wav = _wav(samples)
        answer = self._runner.run(retry(lambda: self._ask(wav, language), _again, self._backoff))
        return _heard(answer, language, len(samples) / SAMPLE_RATE)

    async def _ask(self, wav: bytes, language: str | None) -> dict[str, Any]:
        form = aiohttp.FormData()
        form.add_field("file", wav, filename="audio.wav", content_type="audio/wav")
        form.add_field("model", self.model)
        form.add_field("response_format", "verbose_json" if self._timed else "json")
        if self._timed:
            form.add_field("timestamp_granularities[]", "word")
            form.add_field("timestamp_granularities[]", "segment")
        if language:
            form.add_field("language", language)
        url = f"{self._config.url}/audio/transcriptions"
        try:
            async with self._session.post(url, data=form, allow_redirects=False) as response:
                body = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TranscriptionError(FailureReason.ENGINE_UNREACHABLE, f"{type(error).__name__}: {error}") from None
        if response.status == 429 or response.status >= 500:
            raise TranscriptionError(FailureReason.ENGINE_UNREACHABLE, f"HTTP {response.status}: {body[:300]!r}")
        if response.status != 200:
            raise TranscriptionError(FailureReason.ENGINE_REFUSED, f"HTTP {response.status}: {body[:300]!r}")
        return _parse(body)

    def close(self) -> None:
        """Ends the connection."""
        if hasattr(self, "_session"):
            self._runner.run(self._session.close())
        self._runner.close()


def _again(error: Exception) -> bool:
    return isinstance(error, TranscriptionError) and error.reason is FailureReason.ENGINE_UNREACHABLE


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_chunked(1 << 16):
        body += block
        if len(body) > _MAX_ANSWER:
            raise TranscriptionError(FailureReason.ENGINE_REFUSED, "the answer is too long")
    return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
        # JSON can write half a character (RFC 8259, 8.2), which could not be stored.
        json.dumps(answer, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        raise TranscriptionError(FailureReason.ENGINE_REFUSED, f"not a transcription: {body[:300]!r}")
    return answer


def _wav(samples: memoryview) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples)
    return buffer.getvalue()


def _heard(answer: dict[str, Any], language: str | None, seconds: float) -> Heard:
    """An answer as words inside [0, seconds].

    The API gives no probability of the language it detected; a server that names one is believed.
    """
    found = language or code_of(str(answer.get("language") or ""))
    try:
        words = _words(answer, found, seconds)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TranscriptionError(FailureReason.ENGINE_REFUSED, f"not a transcription: {error!r}") from None
    speech = sum(word.end - word.start for word in words)
    return Heard(tuple(words), found, 1.0 if found else 0.0, speech)


def _words(answer: dict[str, Any], language: str, seconds: float) -> list[Word]:
    def within(value: Any) -> float:
        if math.isnan(moment := float(value)):
            raise ValueError("not a time")
        return min(max(moment, 0.0), seconds)

    if timed := answer.get("words"):
        texts = [str(word["word"]) for word in timed]
        # whisper-1's words come without punctuation; its text has it.
        punctuated = answer["text"].split()
        if len(punctuated) == len(texts):
            texts = punctuated
        space = "" if language in _UNSPACED else " "
        return [
            Word(within(word["start"]), max(within(word["start"]), within(word["end"])), space + text.strip())
            for word, text in zip(timed, texts, strict=True)
        ]
    if segments := answer.get("segments"):
        return [word for s in segments for word in spread(str(s["text"]), within(s["start"]), within(s["end"]))]
    return spread(answer["text"], 0.0, seconds)
