"""Sniffing: real files of every kind that is taken, and of kinds that are not."""

import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelway.v1 import media_pb2

from services.common.containers import KINDS, SNIFF_BYTES, goes_on_as_ogg, sniff
from services.common.object_keys import object_key
from services.ffmpeg.binaries import find
from tests.support.clips import Clip

NAMES = ["clip.mp4", "clip.webm", "clip.avi", "clip.ogv", "clip.mov", "clip.mkv", "clip.ts", "clip.mpg"]


def test_there_is_a_clip_of_every_kind(clips: dict[str, Clip]) -> None:
    assert {clip.container for clip in clips.values()} == set(KINDS)
    assert set(NAMES) == set(clips)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_file_is_told(clips: dict[str, Clip], name: str) -> None:
    assert sniff(clips[name].data[:SNIFF_BYTES]) == clips[name].container


@pytest.mark.parametrize("name", NAMES)
def test_whatever_it_is_called_it_is_told_by_its_bytes(clips: dict[str, Clip], name: str) -> None:
    """The rest of the file plays no part: only its first bytes were looked at."""
    assert sniff(clips[name].data[:SNIFF_BYTES] + b"\xff\xd8\xff\xe0JFIF") == clips[name].container


def _ffmpeg(*arguments: str) -> bytes:
    command = [find().ffmpeg, "-v", "error", "-nostdin", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("testsrc=size=64x48:duration=0.1", ["-frames:v", "1", "-c:v", "mjpeg", "-f", "image2pipe"]),
        ("testsrc=size=64x48:duration=0.1", ["-frames:v", "1", "-c:v", "png", "-f", "image2pipe"]),
        ("testsrc=size=64x48:duration=0.1", ["-f", "gif"]),
        ("sine=duration=0.2", ["-f", "wav"]),
        ("sine=duration=0.2", ["-f", "flac"]),
        ("sine=duration=0.2", ["-c:a", "aac", "-f", "adts"]),
    ],
)
def test_real_files_that_are_no_videos_are_refused(source: str, arguments: list[str]) -> None:
    data = _ffmpeg("-f", "lavfi", "-i", source, *arguments, "-")
    assert sniff(data[:SNIFF_BYTES]) == media_pb2.CONTAINER_UNSPECIFIED


def test_sound_in_an_mp4_is_refused(tmp_path: Path) -> None:
    _ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", str(tmp_path / "sound.m4a"))
    assert sniff((tmp_path / "sound.m4a").read_bytes()[:SNIFF_BYTES]) == media_pb2.CONTAINER_UNSPECIFIED


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("video.mp4", b"\0\0\0\x18ftypisom")
    return file.getvalue()


@pytest.mark.parametrize(
    "brand",
    [
        "heic",
        "heix",
        "heim",
        "heis",
        "hevc",
        "hevx",
        "mif1",
        "msf1",
        "avif",
        "avis",
        "crx",
        "M4A",
        "M4B",
        "M4P",
        "F4A",
        "F4B",
    ],
)
def test_pictures_and_sound_of_the_mp4_family_are_refused(brand: str) -> None:
    head = b"\0\0\0\x1cftyp" + brand.ljust(4).encode() + b"\0\0\0\0mif1miaf" + bytes(200)
    assert sniff(head) == media_pb2.CONTAINER_UNSPECIFIED


@pytest.mark.parametrize(
    "brand", ["isom", "iso2", "iso6", "avc1", "mp41", "mp42", "M4V ", "dash", "3gp4", "MSNV", "f4v "]
)
def test_brands_of_video_are_taken(brand: str) -> None:
    assert sniff(b"\0\0\0\x1cftyp" + brand.encode() + bytes(100)) == media_pb2.CONTAINER_MP4


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"ftyp",
        b"<!DOCTYPE html><html><body>" + b"<video src=x.mp4></video>" * 200,
        b"The free lunch is over, and so is the text that tells of it.\n" * 80,
        b"You skip this line. " * 100,
        b"How wide is it? " * 100,
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"G" + b"x" * 187 + b"G" + b"y" * 100,
        b"G" * 4096,
        b'{"json": true}',
        b"#!/bin/sh\nexec true\n",
        b"\x7fELF" + bytes(200),
        b"%PDF-1.7" + bytes(200),
        b"\0\0\0\x18ftypiso",
        b"\0\0\1\x08moov" + bytes(7),
        b"RIFF\x24\0\0\0WEBPVP8 " + bytes(100),
        b"RIFX\x24\0\0\0AVI LIST" + bytes(100),
        b"\x1a\x45\xdf\xa3" + bytes(100),
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x84mp3!" + bytes(100),
        b"\x1a\x45\xdf\xa3\x93\x42\x82",
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x00",
        bytes(5000),
        b"\xff" * 5000,
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    assert sniff(text[:SNIFF_BYTES]) == media_pb2.CONTAINER_UNSPECIFIED


@pytest.mark.parametrize(
    ("length", "name", "container"),
    [
        (b"\x84", b"webm", media_pb2.CONTAINER_WEBM),
        (b"\x40\x04", b"webm", media_pb2.CONTAINER_WEBM),
        (b"\x01\0\0\0\0\0\0\x08", b"matroska", media_pb2.CONTAINER_MKV),
        (b"\x41\x04", b"webm" + bytes(256), media_pb2.CONTAINER_WEBM),
    ],
)
def test_the_length_of_an_ebml_name_may_be_written_longer(
    length: bytes, name: bytes, container: media_pb2.Container.ValueType
) -> None:
    """In one to eight bytes, and padded with zeros (RFC 8794, 4 and 13)."""
    assert sniff(b"\x1a\x45\xdf\xa3\x93\x42\x82" + length + name + b"\x42\x87\x81\4") == container


def test_a_zip_is_refused() -> None:
    assert sniff(_zip()) == media_pb2.CONTAINER_UNSPECIFIED


@pytest.mark.parametrize("atom", [b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"])
def test_quicktime_older_than_ftyp_is_taken(atom: bytes) -> None:
    assert sniff(b"\0\0\1\x08" + atom + bytes(300)) == media_pb2.CONTAINER_MOV


def test_a_large_movie_data_atom_comes_first_too() -> None:
    """Cameras write `mdat` of any 32-bit size, or size 1 with the true one behind (ISO/IEC 14496-12, 4.2)."""
    for size in (b"\x7f\0\0\0", b"\0\0\0\1", b"\0\0\0\0"):
        assert sniff(size + b"mdat" + bytes(300)) == media_pb2.CONTAINER_MOV


def test_a_transport_stream_with_time_stamps_is_taken(clips: dict[str, Clip]) -> None:
    packets = clips["clip.ts"].data[: 188 * 20]
    stamped = b"".join(b"\0\1\2\3" + packets[at : at + 188] for at in range(0, len(packets), 188))
    assert sniff(stamped[:SNIFF_BYTES]) == media_pb2.CONTAINER_MPEG_TS


@given(st.binary(max_size=SNIFF_BYTES))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    assert sniff(head) in {media_pb2.CONTAINER_UNSPECIFIED, *KINDS}


@given(st.sampled_from([b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp", b"RIFF\0\0\0\0AVI "]), st.binary(max_size=64))
def test_a_signature_that_goes_on_as_it_likes_has_an_answer(signature: bytes, rest: bytes) -> None:
    assert sniff(signature + rest) in {media_pb2.CONTAINER_UNSPECIFIED, *KINDS}


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=1000))
def test_plain_text_is_no_video(text: str) -> None:
    signatures = ("RIFF", "OggS")
    if text[4:8] not in {"ftyp", "mdat"} and not text.startswith(signatures):
        assert sniff(text.encode()) == media_pb2.CONTAINER_UNSPECIFIED


def _page(flags: int, body: bytes) -> bytes:
    lacing = [255] * (len(body) // 255) + [len(body) % 255]
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(lacing), *lacing]) + body


PICTURE, SOUND = _page(2, b"\x80theora" + bytes(73)), _page(2, b"OpusHead" + bytes(592))
GOES_ON = _page(0, b"\x80theora" + bytes(30))


def test_an_ogg_file_goes_on_where_another_stream_of_it_begins() -> None:
    assert goes_on_as_ogg(PICTURE, SOUND)
    assert goes_on_as_ogg(PICTURE + SOUND, _page(2, b"\x01vorbis" + bytes(20)) + GOES_ON)
    for before in (
        b"",
        GOES_ON,
        PICTURE + GOES_ON,
        PICTURE[:-1],
        PICTURE[:27],
        PICTURE + b"\0",
        b"\x1a\x45\xdf\xa3" * 20,
    ):
        assert not goes_on_as_ogg(before, SOUND)


def test_a_recorder_that_began_anew_is_another_ogg_file() -> None:
    other_picture = _page(2, b"\x80theora" + b"\7" * 300)
    mp4 = b"\0\0\0\x18ftypisom" + bytes(100)
    for head in (PICTURE, other_picture, SOUND[:27], SOUND[:36], GOES_ON, b"", b"\x1a\x45\xdf\xa3" * 20, mp4):
        assert not goes_on_as_ogg(PICTURE, head)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_an_ogg_page_that_goes_on_as_it_likes_has_an_answer(before: bytes, head: bytes) -> None:
    assert not goes_on_as_ogg(b"OggS\0\0" + before, SOUND)
    assert goes_on_as_ogg(b"OggS\0\2" + before, b"OggS\0\2" + head) in (True, False)


def test_keys_and_types_follow_the_container() -> None:
    video_id = "00000000-0000-4000-8000-000000000000"
    assert object_key(video_id, media_pb2.CONTAINER_MPEG_TS) == f"videos/{video_id}.ts"
    assert {kind.extension: kind.content_type for kind in KINDS.values()} == {
        "mp4": "video/mp4",
        "webm": "video/webm",
        "avi": "video/x-msvideo",
        "ogg": "video/ogg",
        "mov": "video/quicktime",
        "mkv": "video/x-matroska",
        "ts": "video/mp2t",
        "mpg": "video/mpeg",
    }
