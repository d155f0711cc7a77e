from __future__ import annotations

import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ffmpeg.transcription.pcm import SILENCE_PEAK, PcmFile, cut, is_silent
from services.ffmpeg.transcription.words import SAMPLE_RATE


def write(path: Path, samples: array[int]) -> Path:
    path.write_bytes(samples.tobytes())
    return path


def noise(seconds: float) -> array[int]:
    return array("h", [1000, -1000] * int(seconds * SAMPLE_RATE / 2))


def test_a_cut_is_made_where_it_is_quiet(tmp_path: Path) -> None:
    samples = noise(15.0)
    quiet_from, quiet_to = int(9.2 * SAMPLE_RATE), int(9.6 * SAMPLE_RATE)
    samples[quiet_from:quiet_to] = array("h", [3] * (quiet_to - quiet_from))
    with PcmFile(write(tmp_path / "a", samples)) as pcm:
        (first, second) = cut(pcm, 10.0)
    assert quiet_from < first[1] < quiet_to
    assert second == (first[1], len(samples))


@settings(max_examples=25)
@given(st.integers(0, 200_000), st.sampled_from([1.0, 2.5]))
def test_pieces_cover_everything_and_none_is_too_long(length: int, longest: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", array("h", [7] * length))
        with PcmFile(path) as pcm:
            spans = list(cut(pcm, longest))
            assert spans == list(cut(pcm, longest))
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == length
    assert all(0 < end - start <= longest * SAMPLE_RATE for start, end in spans)


def test_silence_is_what_stays_below_minus_60_dbfs() -> None:
    quiet = array("h", [SILENCE_PEAK, -SILENCE_PEAK] * 300_000)
    assert is_silent(memoryview(quiet))
    quiet[-1] = -SILENCE_PEAK - 1
    assert not is_silent(memoryview(quiet))
    assert is_silent(memoryview(array("h")))


def test_an_odd_last_byte_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x01\x00\x02\x00\x03")
    with PcmFile(tmp_path / "a") as pcm:
        assert pcm.length == 2
        assert pcm.read(0, 9).tolist() == [1, 2]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "audio.s16").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        PcmFile(tmp_path / "audio.s16")
