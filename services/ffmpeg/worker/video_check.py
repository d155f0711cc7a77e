"""What is wrong with an uploaded file, in the library's four words."""

from __future__ import annotations

from collections.abc import Collection

from reelway.v1 import media_pb2

from services.common.containers import KINDS, sniff

# Signatures of well-known files that hold no video; what has none of them, and no container's, is damaged.
_OTHERS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"%PDF",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"7z\xbc\xaf",
    b"Rar!",
    b"ID3",
    b"\xff\xfb",
    b"fLaC",
    b"RIFF",
    b"FLV",
    b"\x30\x26\xb2\x75",
    b"\x1a\x45\xdf\xa3",
    b"<?xml",
    b"<!DOCTYPE",
    b"<html",
    b"<svg",
    b"\x7fELF",
    b"MZ",
)


class Unusable(Exception):
    """The file becomes no video."""

    def __init__(self, failure: media_pb2.ProcessingFailure.ValueType) -> None:
        super().__init__(media_pb2.ProcessingFailure.Name(failure))
        self.failure = failure


def container_of(head: bytes, content_types: Collection[str]) -> media_pb2.Container.ValueType:
    """The container that the file's first bytes show; Unusable where it is none, or none of these types."""
    container = sniff(head)
    if container in KINDS:
        if KINDS[container].content_type in content_types:
            return container
        raise Unusable(media_pb2.PROCESSING_FAILURE_UNSUPPORTED)
    # ISO media with a picture's or a sound's brand has a signature, too.
    other = head.startswith(_OTHERS) or head[4:8] == b"ftyp"
    raise Unusable(media_pb2.PROCESSING_FAILURE_UNSUPPORTED if other else media_pb2.PROCESSING_FAILURE_CORRUPTED)
