"""The messages that carry video bytes, serialized by hand.

The wire is the protos' own, byte for byte (tests/unit/common/test_byte_messages.py holds it against the
generated classes); protobuf's Python runtime would copy each payload once more on both sides, a sixth of the
CPU of a hop.

Payloads are lists of buffers, so that what came from a socket in pieces is joined exactly once, together with
the message's own header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from reelway.v1 import upload_pb2

Buffer: TypeAlias = bytes | memoryview
Pieces: TypeAlias = Sequence[Buffer]

_DATA_1 = b"\x0a"  # field 1, length-delimited: ReadResponse.data, ReadRangeResponse.data
_DATA_2 = b"\x12"  # field 2, length-delimited: UploadVideoRequest.data, AppendRequest.data
_FINISH = b"\x18\x01"  # field 3, varint 1: AppendRequest.finish
_HEADER_1 = b"\x0a"  # field 1, length-delimited: AppendRequest.header


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(tag: bytes, pieces: Pieces) -> bytes:
    return b"".join((tag, _varint(sum(map(len, pieces))), *pieces))


def _decode(tag: bytes, message: bytes) -> memoryview | None:
    """The payload where `message` is exactly one field of this tag; None where it is anything else."""
    if message[:1] != tag:
        return None
    length, at = _read_varint(message, 1)
    return memoryview(message)[at:] if length >= 0 and at + length == len(message) else None


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends; -1 for none that a length may be."""
    length = shift = 0
    while at < len(message) and shift <= 28:
        byte = message[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return length, at
    return -1, at


def encode_read_response(pieces: Pieces) -> bytes:
    """Serialize ReadResponse or ReadRangeResponse from the pieces of its data."""
    return _encode(_DATA_1, pieces)


def decode_read_response(message: bytes) -> memoryview:
    """The data of a ReadResponse or ReadRangeResponse, without a copy; ValueError on a foreign message."""
    data = _decode(_DATA_1, message)
    if data is None:
        raise ValueError("not a ReadResponse")
    return data


UploadMessage: TypeAlias = upload_pb2.UploadHeader | memoryview
"""An UploadVideoRequest as both ends of the stream see it."""


def encode_upload_request(message: upload_pb2.UploadHeader | Pieces) -> bytes:
    """Serialize UploadVideoRequest from a header, or from the pieces of its data."""
    if isinstance(message, upload_pb2.UploadHeader):
        return upload_pb2.UploadVideoRequest(header=message).SerializeToString()
    return _encode(_DATA_2, message)


def decode_upload_request(message: bytes) -> UploadMessage:
    """The header or the data of an UploadVideoRequest; protobuf's DecodeError on a foreign message."""
    data = _decode(_DATA_2, message)
    if data is not None:
        return data
    request = upload_pb2.UploadVideoRequest.FromString(message)
    return request.header if request.WhichOneof("payload") == "header" else memoryview(request.data)


@dataclass(frozen=True)
class AppendMessage:
    """An AppendRequest as both ends of the stream see it."""

    data: Pieces
    header: upload_pb2.AppendHeader | None = None
    """In the first message."""
    finish: bool = False
    """It is the last message."""


def encode_append_request(message: AppendMessage) -> bytes:
    """Serialize AppendRequest."""
    before, after = b"", _FINISH if message.finish else b""
    if message.header is not None:
        packed = message.header.SerializeToString()
        before = _HEADER_1 + _varint(len(packed)) + packed
    return b"".join((before, _DATA_2, _varint(sum(map(len, message.data))), *message.data, after))


def decode_append_request(message: bytes) -> AppendMessage:
    """The inverse of encode_append_request; protobuf's DecodeError on a foreign message."""
    data = _decode(_DATA_2, message)
    if data is not None:
        return AppendMessage([data])
    if message[:1] == _HEADER_1 and (parsed := _decode_first(message)) is not None:
        return parsed
    if message[:1] == _DATA_2 and message[-2:] == _FINISH:
        size, start = _read_varint(message, 1)
        if start + size == len(message) - 2:
            return AppendMessage([memoryview(message)[start:-2]], finish=True)
    request = upload_pb2.AppendRequest.FromString(message)
    header = request.header if request.HasField("header") else None
    return AppendMessage([memoryview(request.data)], header, request.finish)


def _decode_first(message: bytes) -> AppendMessage | None:
    """A header and data, without a copy of the data; None for anything else."""
    length, at = _read_varint(message, 1)
    end = at + length
    if length < 0 or message[end : end + 1] != _DATA_2:
        return None
    size, start = _read_varint(message, end + 1)
    rest = message[start + size :] if size >= 0 else b"?"
    if start + size > len(message) or rest not in (b"", _FINISH):
        return None
    header = upload_pb2.AppendHeader.FromString(message[at:end])
    return AppendMessage([memoryview(message)[start : start + size]], header, bool(rest))
