"""The messages that carry video bytes, serialized by hand.

The wire format is protobuf's own, byte for byte (tests/unit/common/test_byte_messages.py compares it with the
generated classes); protobuf's Python runtime would copy each payload once more on both sides, a sixth of the
CPU of a hop.

Payloads are lists of buffers: what came from a socket in pieces is joined once, together with the message's header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from reelway.v1 import upload_pb2

Buffer: TypeAlias = bytes | memoryview
Pieces: TypeAlias = Sequence[Buffer]
Header = TypeVar("Header")

_DATA_1 = b"\x0a"  # field 1, length-delimited: ReadResponse.data, ReadRangeResponse.data
_DATA_2 = b"\x12"  # field 2, length-delimited: UploadVideoRequest.data, AppendRequest.data
_FINISH = b"\x18\x01"  # field 3, varint 1: UploadVideoRequest.finish, AppendRequest.finish
_HEADER_1 = b"\x0a"  # field 1, length-delimited: AppendRequest.header


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the index behind it; -1 where it cannot be a length."""
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
    return b"".join((_DATA_1, _varint(sum(map(len, pieces))), *pieces))


def decode_read_response(message: bytes) -> memoryview:
    """The data of a ReadResponse or ReadRangeResponse, without a copy; ValueError on a foreign message."""
    length, start = _read_varint(message, 1)
    if message[:1] != _DATA_1 or length < 0 or start + length != len(message):
        raise ValueError("not a ReadResponse")
    return memoryview(message)[start:]


@dataclass(frozen=True)
class ByteMessage(Generic[Header]):
    """One message of a stream that a client sends, as both ends see it."""

    data: Pieces = ()
    header: Header | None = None
    """In the first message."""
    finish: bool = False
    """It is the last message."""


class UploadMessage(ByteMessage[upload_pb2.UploadHeader]):
    """An UploadVideoRequest: a header or data."""


class AppendMessage(ByteMessage[upload_pb2.AppendHeader]):
    """An AppendRequest, whose first message may have both."""


def encode_upload_request(message: UploadMessage) -> bytes:
    """Serialize UploadVideoRequest."""
    if message.header is not None:
        return upload_pb2.UploadVideoRequest(header=message.header, finish=message.finish).SerializeToString()
    return _encode_data(message)


def decode_upload_request(message: bytes) -> UploadMessage:
    """The inverse of encode_upload_request; protobuf's DecodeError on a foreign message."""
    found = _decode_data(message, 0)
    if found is not None:
        return UploadMessage([found[0]], finish=found[1])
    request = upload_pb2.UploadVideoRequest.FromString(message)
    header = request.header if request.HasField("header") else None
    return UploadMessage([memoryview(request.data)], header, request.finish)


def encode_append_request(message: AppendMessage) -> bytes:
    """Serialize AppendRequest."""
    if message.header is None:
        return _encode_data(message)
    packed = message.header.SerializeToString()
    return _encode_data(message, _HEADER_1 + _varint(len(packed)) + packed)


def decode_append_request(message: bytes) -> AppendMessage:
    """The inverse of encode_append_request; protobuf's DecodeError on a foreign message."""
    length, start = _read_varint(message, 1) if message[:1] == _HEADER_1 else (0, 0)
    end = start + length
    if length >= 0 and (found := _decode_data(message, end)) is not None:
        header = upload_pb2.AppendHeader.FromString(message[start:end]) if start else None
        return AppendMessage([found[0]], header, found[1])
    request = upload_pb2.AppendRequest.FromString(message)
    header = request.header if request.HasField("header") else None
    return AppendMessage([memoryview(request.data)], header, request.finish)


def _encode_data(message: ByteMessage[Header], before: bytes = b"") -> bytes:
    length = _varint(sum(map(len, message.data)))
    return b"".join((before, _DATA_2, length, *message.data, _FINISH if message.finish else b""))


def _decode_data(message: bytes, at: int) -> tuple[memoryview, bool] | None:
    """The data that begins at `at`, without a copy, and whether `finish` is behind it; None for anything else."""
    if message[at : at + 1] != _DATA_2:
        return None
    length, start = _read_varint(message, at + 1)
    end = start + length
    if length < 0 or message[end:] not in (b"", _FINISH) or end > len(message):
        return None
    return memoryview(message)[start:end], end < len(message)
