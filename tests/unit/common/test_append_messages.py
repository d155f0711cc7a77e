"""AppendRequest by hand is AppendRequest by protobuf; and which chunks begin a clip."""

import pytest
from google.protobuf.message import DecodeError
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
    message = decode_append_request(wire)
    assert isinstance(message.data[0], memoryview)
    assert message.data[0].obj is wire, "it was copied"
    # The fields of a message may come in any order.
    behind = upload_pb2.AppendRequest(header=header).SerializeToString()
    backwards = upload_pb2.AppendRequest(data=data[:size], finish=finish).SerializeToString() + behind
    for same in (wire, parsed.SerializeToString(), backwards):
        message = decode_append_request(same)
        assert b"".join(message.data) == data[:size]
        assert (message.header, message.finish) == (header, finish)


@pytest.mark.parametrize(
    "wire", [b"\x0a", b"\x0a\x80", b"\x0a\xff\xff\xff\xff\xff\xff\x12\x01a", b"\x0a\x05\x12\x01a", b"\x12\x05a"]
)
def test_what_is_no_append_is_refused(wire: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_append_request(wire)


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
    for other in (b"", b"O", b"OggS\0", b"OggS\0\1", b"RIFF", b"RIFX\0\0\0\0AVI LIST", b"\x00\x00\x00\x18ft"):
        assert not begins_clip(other)
