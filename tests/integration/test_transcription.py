"""Real speech through real ffmpeg and the packaged Whisper model."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.transcription.audio import CagedAudio
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import OnProgress, Transcriber, Transcript
from services.ffmpeg.work_folder import WorkRoot
from tests.support.folder_pieces import FolderPieces
from tests.support.programs import installed
from tests.support.speech import clips, make, word_error_rate

MIB = 1 << 20


SANDBOX = Sandbox(installed(), find().ffprobe, detect_layers())


class Hearing:
    """A transcriber with folders of its own."""

    def __init__(self, cache: Path, root: WorkRoot, folder: Path) -> None:
        self.transcriber = Transcriber.of(TranscribeSettings(transcribe_cache_dir=cache))
        self.pieces = FolderPieces(folder / "pieces")
        self._root = root

    async def __call__(self, media: Path, language: str = "", progress: OnProgress = lambda _: None) -> Transcript:
        folder = self._root.create("hearing")
        try:
            inside = folder.path / "in" / "video"
            await asyncio.to_thread(os.link, media, inside)
            audio = CagedAudio(SANDBOX, folder, inside)
            return await self.transcriber.transcribe(audio, self.pieces, language, progress)
        finally:
            await asyncio.to_thread(folder.remove)


@pytest.fixture
def hear(model_cache: Path, tmp_path: Path) -> Iterator[Hearing]:
    root = WorkRoot(tmp_path / "work")
    yield Hearing(model_cache, root, tmp_path)
    root.close()


def copy(file: Path, folder: Path) -> Path:
    """A copy on the file system that work folders are on."""
    return Path(shutil.copy(file, folder))


def test_the_measure_counts_errors() -> None:
    assert word_error_rate("Mister Smith is ill-disposed.", "mr. smith is ill disposed") == 0
    assert word_error_rate("a b c d", "a x c") == 0.5
    assert word_error_rate("a", "a b c") == 2


async def test_a_synthetic_voice_that_begins_late(hear: Hearing, tmp_path: Path) -> None:
    """Only the picture is there for the first three seconds: times are the video's, not the sound track's."""
    media = tmp_path / "late.webm"
    text = "The quick brown fox jumps over the lazy dog"
    await make(
        *("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=8"),
        *("-itsoffset", "3", "-f", "lavfi", "-i", f"flite=text='{text}':voice=slt"),
        *("-c:v", "libvpx", "-c:a", "libopus", str(media)),
    )
    transcript = await hear(media, "en")
    assert word_error_rate(text, transcript.text) <= 0.25
    assert transcript.cues[0].start == pytest.approx(3.0, abs=1.0)


async def test_what_is_no_media_is_a_failure_that_says_so(hear: Hearing, tmp_path: Path) -> None:
    (tmp_path / "junk.webm").write_bytes(b"\x1a\x45\xdf\xa3" + b"junk" * 1000)
    with pytest.raises(TranscriptionError) as raised:
        await hear(tmp_path / "junk.webm")
    assert raised.value.reason is FailureReason.AUDIO_UNREADABLE


@pytest.mark.parametrize("end", [b"trak", b"mdia"])
async def test_a_file_that_is_cut_in_its_index_is_a_failure_too(hear: Hearing, tmp_path: Path, end: bytes) -> None:
    """ffprobe takes it for media without a stream, or with one of which nothing is known."""
    media = tmp_path / "cut.mp4"
    source = ("-f", "lavfi", "-i", "testsrc=size=64x36:duration=0.2", "-f", "lavfi", "-i", "sine=duration=0.2")
    await make(*source, "-movflags", "+faststart", str(media))
    whole = media.read_bytes()
    media.write_bytes(whole[: whole.index(end) - 4])
    with pytest.raises(TranscriptionError) as raised:
        await hear(media)
    assert raised.value.reason is FailureReason.AUDIO_UNREADABLE


async def test_a_model_from_a_hub_needs_permission(hear: Hearing, tmp_path: Path) -> None:
    hear.transcriber = Transcriber.of(
        TranscribeSettings(transcribe_model="large-v3", transcribe_cache_dir=tmp_path / "hub")
    )
    with pytest.raises(TranscriptionError, match="TRANSCRIBE_ALLOW_DOWNLOAD") as raised:
        await hear(copy(clips()[1][0], tmp_path))
    assert raised.value.reason is FailureReason.MODEL_UNAVAILABLE


async def test_whisper_refuses_a_language_that_is_none(hear: Hearing, tmp_path: Path) -> None:
    with pytest.raises(TranscriptionError) as raised:
        await hear(copy(clips()[1][0], tmp_path), "qq")
    assert raised.value.reason is FailureReason.UNSUPPORTED_LANGUAGE


# Half a minute's work, of a process that gives way to all others: beside them it waits for most of its time.
@pytest.mark.timeout(1200)
async def test_twenty_minutes_in_bounded_memory_with_a_kill_in_the_middle(hear: Hearing, tmp_path: Path) -> None:
    """One of the pieces is speech throughout, which costs the most memory that a piece can cost."""
    media = tmp_path / "long.wav"
    once, reading = tmp_path / "once.wav", clips()
    shortest, its_text = reading[1]
    await make(
        *(word for wav, _ in reading for word in ("-i", str(wav))),
        *("-filter_complex", "concat=n=5:v=0:a=1", str(once)),
    )
    # A sentence, then silence to 310 s; 300 s of speech; silence, and the sentence once more near the end.
    await make(
        *("-i", str(shortest), "-stream_loop", "11", "-i", str(once), "-i", str(shortest)),
        "-filter_complex",
        "[0]apad=whole_dur=310[a];[1]apad=whole_dur=830[b];[2]apad=whole_dur=60[c];[a][b][c]concat=n=3:v=0:a=1",
        str(media),
    )
    peak = 0
    killed = False
    notes: list[float] = []

    def watch(done: float) -> None:
        nonlocal peak, killed
        (child,) = children()
        status = Path(f"/proc/{child}/status").read_text().split("VmHWM:")[1]
        peak = max(peak, int(status.split()[0]) * 1024)
        notes.append(done)
        if done > 0 and not killed:
            killed = True
            os.kill(child, signal.SIGKILL)

    with pytest.raises(TranscriptionError, match="SIGKILL") as raised:
        await hear(media, progress=watch)
    assert raised.value.reason.transient
    (first,) = await hear.pieces.load()
    notes.clear()
    transcript = await hear(media, progress=watch)

    assert transcript.audio_seconds == pytest.approx(1200, abs=1)
    pieces = sorted(await hear.pieces.load(), key=lambda piece: piece.start)
    assert len(pieces) == 5
    speech = [piece.heard.speech_seconds for piece in pieces]
    assert (max(speech) > 250, min(speech) < 30) == (True, True), "silence is no speech"
    assert notes[0] == pytest.approx(first.end / 16_000 / transcript.audio_seconds)
    assert len(notes) == 5, "the first piece was heard again"
    truth = " ".join(text for _, text in reading)
    assert word_error_rate(" ".join([its_text, *[truth] * 12, its_text]), transcript.text) <= 0.15
    assert transcript.cues[-1].start == pytest.approx(1140, abs=1.0)
    assert 100 * MIB < peak <= 1000 * MIB, f"{peak / MIB:.0f} MiB"


def children() -> list[int]:
    """Transcription processes of this one."""
    tasks = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in pids if re.search(b"transcription.child", Path(f"/proc/{pid}/cmdline").read_bytes())]


async def test_an_hour_without_sound_is_silence(tmp_path: Path) -> None:
    """As of a recorder whose machine slept: what is not there takes no memory beyond that of what is heard."""
    media, root = tmp_path / "slept.mkv", WorkRoot(tmp_path / "work")
    sound = ("-f", "lavfi", "-i", "sine=d=1:r=48000", "-af", "asetpts='PTS+gte(T,0.5)*3600/TB'", "-ac", "2")
    await make(*sound, "-c:a", "pcm_f32le", str(media))
    folder = root.create("hearing")
    inside = folder.path / "in" / "video"
    await asyncio.to_thread(os.link, media, inside)
    samples = await CagedAudio(SANDBOX, folder, inside).decode(2 * 3600)
    assert samples.stat().st_size == pytest.approx(3601 * 2 * 16000, rel=0.001)
    root.close()
