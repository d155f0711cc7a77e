"""AppendRequest by hand is AppendRequest by protobuf; and which chunks begin a clip."""

import pytest
from reelway.v1 import upload_pb2

from services.common.byte_messages import AppendMessage, Buffer, decode_append_request, encode_append_request
from services.common.containers import begins_clip
from tests.support.clips import Clip


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000])
@pytest.mark.parametrize("finish", [False, True])
@pytest.mark.parametrize("with_header", [False, True])
def test_the_wire_is_protobufs_own(size: int, finish: bool, with_header: bool) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    pieces: list[Buffer] = [data[:size][: size // 3], memoryview(data[:size])[size // 3 :]]
    header = upload_pb2.AppendHeader(video_id="v", expected_offset_bytes=0, crc32c=7) if with_header else None
    wire = encode_append_request(AppendMessage(pieces, header, finish))
    parsed = upload_pb2.AppendRequest.FromString(wire)
    assert (parsed.data, parsed.finish, parsed.HasField("header")) == (data[:size], finish, with_header)
    for same in (wire, parsed.SerializeToString()):
        message = decode_append_request(same)
        assert b"".join(message.data) == data[:size]
        assert (message.header, message.finish) == (header, finish)


def test_a_file_begins_a_clip_and_its_slices_do_not(clips: dict[str, Clip]) -> None:
    for name in ("clip.mp4", "clip.webm", "clip.avi", "clip.ogv", "clip.mov", "clip.mkv"):
        data = clips[name].data
        assert begins_clip(data[:4096]), name
        assert not any(begins_clip(data[at : at + 4096]) for at in range(1, len(data), 997)), name
    # A later page of the same Ogg stream.
    page = clips["clip.ogv"].data
    later = page.find(b"OggS", 200)
    assert later > 0
    while page[later + 5] & 2:
        later = page.find(b"OggS", later + 1)
    assert not begins_clip(page[later:])
    for short in (b"", b"O", b"RIFF", b"\x00\x00\x00\x18ft"):
        assert not begins_clip(short)
