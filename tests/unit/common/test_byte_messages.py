"""The hand-written byte messages against the generated classes."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from reelway.v1 import stream_pb2, upload_pb2

from services.common.byte_messages import (
    Buffer,
    UploadMessage,
    decode_read_response,
    decode_upload_request,
    encode_read_response,
    encode_upload_request,
)


def _view(raw: bytes) -> Buffer:
    return memoryview(raw)


# Lengths around each change of a varint's size, and others.
lengths = st.one_of(st.sampled_from([1, 127, 128, 129, 16_383, 16_384, 2**21 - 1, 2**21]), st.integers(1, 300))
data = st.builds(lambda size, byte: bytes([byte]) * size, lengths, st.integers(0, 255)) | st.binary(min_size=1)
pieces = st.lists(st.one_of(st.binary(), st.binary().map(_view)), min_size=1)


@given(data)
def test_read_responses_are_the_generated_ones(payload: bytes) -> None:
    wire = stream_pb2.ReadResponse(data=payload).SerializeToString()
    assert encode_read_response([payload]) == wire
    assert stream_pb2.ReadRangeResponse(data=payload).SerializeToString() == wire
    assert decode_read_response(wire) == payload


@given(st.binary(), st.booleans())
def test_upload_data_is_the_generated_one(payload: bytes, finish: bool) -> None:
    wire = upload_pb2.UploadVideoRequest(data=payload, finish=finish).SerializeToString()
    message = UploadMessage([payload], finish=finish)
    assert encode_upload_request(message) == wire
    assert decode_upload_request(wire) == message


@given(pieces)
def test_pieces_are_joined_in_order(parts: list[Buffer]) -> None:
    whole = b"".join(parts)
    assert stream_pb2.ReadResponse.FromString(encode_read_response(parts)).data == whole
    assert upload_pb2.UploadVideoRequest.FromString(encode_upload_request(UploadMessage(parts))).data == whole


@given(st.text(max_size=300), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.booleans())
def test_headers_are_the_generated_ones(name: str, declared: int, most: int, finish: bool) -> None:
    header = upload_pb2.UploadHeader(file_name=name, declared_size_bytes=declared, max_size_bytes=most)
    wire = upload_pb2.UploadVideoRequest(header=header, finish=finish).SerializeToString()
    message = UploadMessage([b""], header, finish)
    assert encode_upload_request(message) == wire
    assert decode_upload_request(wire) == message


@given(st.binary(max_size=64))
@example(b"\x12\x05a")
@example(b"\x12")
@example(b"\x12\x80")
@example(b"\x12\xff\xff\xff\xff\xff\xff")
@example(b"\x12\x01a\x18\x00")
@example(b"\x12\x01a\x18\x01\x18\x01")
def test_foreign_bytes_are_read_as_protobuf_reads_them_or_refused(wire: bytes) -> None:
    try:
        expected = upload_pb2.UploadVideoRequest.FromString(wire)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode_upload_request(wire)
        return
    got = decode_upload_request(wire)
    header = expected.header if expected.HasField("header") else None
    assert got == UploadMessage([expected.data], header, expected.finish)


@given(data, st.integers(1, 20))
def test_a_read_response_that_was_cut_off_is_refused(payload: bytes, missing: int) -> None:
    wire = encode_read_response([payload])
    with pytest.raises(ValueError, match="not a ReadResponse"):
        decode_read_response(wire[: max(0, len(wire) - missing)])


@pytest.mark.parametrize("wire", [b"", b"\x12\x01a", b"\x0a\xff\xff\xff\xff\xff\xff", b"\x0a", b"\x0a\x01ab"])
def test_what_is_no_read_response_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match="not a ReadResponse"):
        decode_read_response(wire)


def test_decoding_does_not_copy() -> None:
    wire = encode_read_response([b"x" * 1000])
    assert decode_read_response(wire).obj is wire
    message = encode_upload_request(UploadMessage([b"x" * 1000], finish=True))
    [view] = decode_upload_request(message).data
    assert isinstance(view, memoryview)
    assert view.obj is message
