"""The OpenAI engine against a server on loopback that answers as the API's reference says."""

from __future__ import annotations

import asyncio
import io
import wave
from array import array
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.backoff import Backoff
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.engines.openai import OpenAi
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import SAMPLE_RATE, Heard, Word, join_text

SAMPLES = memoryview(array("h", [500, -500] * SAMPLE_RATE))
"""Two seconds."""
_TIMED = '{"text": "a", "words": [{"word": "a", "start": %s, "end": 1}]}'


class Stub:
    """Answers what it is told to, in order, the last one again and again; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[web.Response | dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.base = ""

    async def handle(self, request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: [v for v in form.getall(name) if isinstance(v, str)] for name in form}
        file = form["file"]
        assert isinstance(file, web.FileField)
        self.asked.append({"fields": fields, "wav": file.file.read(), "auth": request.headers.get("Authorization")})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer) if isinstance(answer, dict) else answer

    async def hear(self, model: str = "", language: str | None = None, key: str = "") -> Heard:
        config = EngineConfig(engine="openai", url=self.base, model=model, api_key=key)

        def run() -> Heard:
            engine = OpenAi(config, Backoff(3, 0.01, 0.01))
            try:
                engine.open()
                return engine.run(SAMPLES, language)
            finally:
                engine.close()

        return await asyncio.to_thread(run)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application(client_max_size=1 << 25)
    app.router.add_post("/v1/audio/transcriptions", stub.handle)
    async with TestServer(app) as server:
        stub.base = str(server.make_url("/v1"))
        yield stub


async def test_words_get_their_times_and_the_texts_punctuation(stub: Stub) -> None:
    stub.answers = [
        {
            "task": "transcribe",
            "language": "english",
            "duration": 2.0,
            "text": "Hello, world.",
            "words": [{"word": "Hello", "start": 0.1, "end": 0.5}, {"word": "world", "start": 0.6, "end": 9.0}],
        }
    ]
    heard = await stub.hear(language="en", key="hush")
    assert heard.words == (Word(0.1, 0.5, " Hello,"), Word(0.6, 2.0, " world."))
    assert (heard.language, heard.language_probability) == ("en", 1.0)
    (asked,) = stub.asked
    assert asked["auth"] == "Bearer hush"
    assert asked["fields"] == {
        "file": [],
        "model": ["whisper-1"],
        "response_format": ["verbose_json"],
        "timestamp_granularities[]": ["word", "segment"],
        "language": ["en"],
    }
    with wave.open(io.BytesIO(asked["wav"])) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, SAMPLE_RATE)
        assert wav.readframes(1 << 20) == SAMPLES.tobytes()


async def test_segments_serve_where_there_are_no_words(stub: Stub) -> None:
    stub.answers = [
        {"text": "one two three", "language": "fr", "segments": [{"text": "one two three", "start": 0.5, "end": 1.5}]}
    ]
    heard = await stub.hear()
    assert heard.language == "fr"
    assert (heard.words[0].start, heard.words[-1].end) == (0.5, 1.5)
    assert join_text(heard.words) == "one two three"


async def test_bare_text_is_spread_over_short_pieces(stub: Stub) -> None:
    stub.answers = [{"text": "one two"}]
    heard = await stub.hear(model="gpt-4o-transcribe")
    assert [word.text for word in heard.words] == [" one", " two"]
    assert (heard.words[0].start, heard.words[-1].end) == (0.0, 2.0)
    assert heard.language == ""
    assert stub.asked[0]["fields"]["response_format"] == ["json"]
    assert "timestamp_granularities[]" not in stub.asked[0]["fields"]
    assert OpenAi(EngineConfig(model="gpt-4o-transcribe")).longest_seconds == 30


async def test_nothing_said(stub: Stub) -> None:
    stub.answers = [{"text": "", "language": "english", "words": [], "segments": []}]
    assert (await stub.hear()).words == ()


async def test_a_busy_server_is_asked_again(stub: Stub) -> None:
    stub.answers = [web.Response(status=429), web.Response(status=503), {"text": "at last"}]
    assert join_text((await stub.hear()).words) == "at last"
    assert len(stub.asked) == 3


@pytest.mark.parametrize(
    ("answer", "tries", "reason"),
    [
        (web.Response(status=500, text="oops"), 3, FailureReason.ENGINE_UNREACHABLE),
        (web.Response(status=401, text="bad key"), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text="<html>"), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text='{"text": null}'), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text='{"text": "a", "words": [{"word": "a"}]}'), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text=_TIMED % "NaN"), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text=_TIMED % ("1" + "0" * 400)), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text='{"text": "half a character: \\ud83d"}'), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(text="[" * 100_000), 1, FailureReason.ENGINE_REFUSED),
        (web.Response(body=b'"' + b"x" * (9 << 20)), 1, FailureReason.ENGINE_REFUSED),
    ],
)
async def test_a_fault_is_told_and_retried_only_if_that_may_help(
    stub: Stub, answer: web.Response, tries: int, reason: FailureReason
) -> None:
    def again() -> web.Response:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    stub.answers = [again() for _ in range(5)]
    with pytest.raises(TranscriptionError) as raised:
        await stub.hear()
    assert raised.value.reason is reason
    assert len(stub.asked) == tries


async def test_a_server_that_is_not_there(stub: Stub) -> None:
    stub.base = "http://127.0.0.1:1/v1"
    with pytest.raises(TranscriptionError) as raised:
        await stub.hear()
    assert raised.value.reason is FailureReason.ENGINE_UNREACHABLE


async def test_no_address_is_configured(stub: Stub) -> None:
    stub.base = ""
    with pytest.raises(TranscriptionError, match="TRANSCRIBE_URL"):
        await stub.hear()
