from __future__ import annotations

import errno
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from services.ffmpeg.transcription import engines
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.engines import ENTRY_POINTS, make_engine
from services.ffmpeg.transcription.engines import faster_whisper as whisper
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.settings import TranscribeSettings
from tests.unit.transcription import fake_engine


def test_no_engine_says_so() -> None:
    with pytest.raises(TranscriptionError) as raised:
        make_engine(EngineConfig(engine="none"))
    assert raised.value.reason is FailureReason.SWITCHED_OFF


@pytest.mark.parametrize("name", ["telepathy", "no.such.module:Engine", "json:NoSuchThing"])
def test_an_engine_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(TranscriptionError) as raised:
        make_engine(EngineConfig(engine=name))
    assert raised.value.reason is FailureReason.ENGINE_MISSING


def test_a_package_can_bring_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("house-whisper", fake_engine.NAME, ENTRY_POINTS)
    monkeypatch.setattr(engines, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    assert make_engine(EngineConfig(engine="house-whisper")).name == "fake"


@pytest.mark.parametrize("step", [f"{whisper.__name__}.download_model", "faster_whisper.WhisperModel"])
def test_a_disk_without_room_for_a_model_is_not_a_model_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whisper, "download_model", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(step, full)
    engine = make_engine(EngineConfig(model="large-v3", cache_dir=str(tmp_path), allow_download=True))
    with pytest.raises(OSError, match="No space left"):
        engine.open()


def test_settings_become_an_engines_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIBE_ENGINE", "openai")
    monkeypatch.setenv("TRANSCRIBE_URL", "http://127.0.0.1:9/v1/")
    monkeypatch.setenv("TRANSCRIBE_API_KEY", "hush")
    monkeypatch.setenv("TRANSCRIBE_MEMORY", "2GiB")
    monkeypatch.setenv("TRANSCRIBE_ENV", "LD_LIBRARY_PATH=/cuda/lib, A=b=c")
    settings = TranscribeSettings()
    config = settings.engine_config()
    assert (config.engine, config.url, config.api_key) == ("openai", "http://127.0.0.1:9/v1", "hush")
    assert "hush" not in repr(settings)
    assert "hush" not in repr(config)
    assert settings.transcribe_memory == 2 << 30
    assert settings.transcribe_env == {"LD_LIBRARY_PATH": "/cuda/lib", "A": "b=c"}


def test_every_failure_has_a_message_that_names_no_path() -> None:
    for reason in FailureReason:
        assert reason.message
        assert "/" not in reason.message
