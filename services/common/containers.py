"""Which container a file is, told from its first bytes; a client's claim is never trusted."""

from __future__ import annotations

from dataclasses import dataclass

from reelway.v1 import media_pb2

SNIFF_BYTES = 4096
"""As many first bytes as `sniff` wants, where the file has them."""


@dataclass(frozen=True)
class ContainerKind:
    """How a container is named and served."""

    extension: str
    content_type: str


KINDS: dict[media_pb2.Container.ValueType, ContainerKind] = {
    media_pb2.CONTAINER_MP4: ContainerKind("mp4", "video/mp4"),
    media_pb2.CONTAINER_WEBM: ContainerKind("webm", "video/webm"),
    media_pb2.CONTAINER_AVI: ContainerKind("avi", "video/x-msvideo"),
    media_pb2.CONTAINER_OGG: ContainerKind("ogg", "video/ogg"),
    media_pb2.CONTAINER_MOV: ContainerKind("mov", "video/quicktime"),
    media_pb2.CONTAINER_MKV: ContainerKind("mkv", "video/x-matroska"),
    media_pb2.CONTAINER_MPEG_TS: ContainerKind("ts", "video/mp2t"),
    media_pb2.CONTAINER_MPEG_PS: ContainerKind("mpg", "video/mpeg"),
}

# Major brands of ISO base media that hold pictures or sound alone (ISO/IEC 23008-12, AVIF, CR3; iTunes, Flash).
_PICTURES = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx "}
_SOUND = {b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "}
_EBML_DOCTYPE = b"\x42\x82"


def _vint(head: bytes, at: int) -> tuple[int, int]:
    """EBML variable-length integer at `at`: its value and the index behind it (RFC 8794, 4)."""
    first = head[at]
    length = 9 - first.bit_length()
    value = first & (0xFF >> length)
    for byte in head[at + 1 : at + length]:
        value = value << 8 | byte
    return value, at + length


def _ebml(head: bytes) -> media_pb2.Container.ValueType:
    # The DocType is inside the EBML header, which comes first and is short (RFC 8794, 11.2).
    at = head.find(_EBML_DOCTYPE, 4, 256)
    if at < 0 or at + 3 > len(head):
        return media_pb2.CONTAINER_UNSPECIFIED
    length, start = _vint(head, at + 2)
    doctype = head[start : start + length].rstrip(b"\0")
    if doctype == b"webm":
        return media_pb2.CONTAINER_WEBM
    return media_pb2.CONTAINER_MKV if doctype == b"matroska" else media_pb2.CONTAINER_UNSPECIFIED


def _iso_media(head: bytes) -> media_pb2.Container.ValueType:
    brand = head[8:12]
    if brand == b"qt  ":
        return media_pb2.CONTAINER_MOV
    return media_pb2.CONTAINER_UNSPECIFIED if brand in _PICTURES | _SOUND else media_pb2.CONTAINER_MP4


def _transport_stream(head: bytes) -> bool:
    # A sync byte each 188 bytes (ISO/IEC 13818-1, 2.4.3.2), or 192 with a 4-byte time stamp before (BDAV). It is
    # an ASCII letter, so a text may have a few in place; a packet has some payload or adaptation field, too (2.4.3.3).
    for offset, step in ((0, 188), (4, 192)):
        marks, controls = head[offset::step][:8], head[offset + 3 :: step][:8]
        if len(controls) >= 4 and all(mark == 0x47 for mark in marks) and all(byte & 0x30 for byte in controls):
            return True
    return False


def sniff(head: bytes) -> media_pb2.Container.ValueType:
    """The container whose signature `head` (the file's first bytes) bears; CONTAINER_UNSPECIFIED for none."""
    if head[4:8] == b"ftyp" and len(head) >= 12:
        return _iso_media(head)
    # QuickTime files older than `ftyp` begin with one of these atoms. Some are English words; in a text four
    # letters stand before them, in a file the atom's size, which is small for all but the media data.
    if head[4:8] == b"mdat" or (head[4:8] in (b"moov", b"wide", b"free", b"skip", b"pnot") and head[0] == 0):
        return media_pb2.CONTAINER_MOV if len(head) >= 16 else media_pb2.CONTAINER_UNSPECIFIED
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _ebml(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return media_pb2.CONTAINER_AVI
    if head[:4] == b"OggS":
        return media_pb2.CONTAINER_OGG
    if head[:4] in (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"):
        return media_pb2.CONTAINER_MPEG_PS
    if _transport_stream(head):
        return media_pb2.CONTAINER_MPEG_TS
    return media_pb2.CONTAINER_UNSPECIFIED


def begins_clip(head: bytes) -> bool:
    """Whether these first bytes of a chunk say that a file begins here, rather than goes on.

    Only the signatures that no slice of a file has by chance (contract, 001). Each Ogg page has one, but only a
    stream's first page says that it is (RFC 3533, 6: header_type 0x02).
    """
    if head[:4] == b"OggS":
        return len(head) > 5 and bool(head[5] & 2)
    return head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def goes_on_as_ogg(before: bytes, head: bytes) -> bool:
    """Whether the clip that seems to begin at `head` is the rest of the file that begins with all of `before`.

    The first pages of all streams come before any other (RFC 3533, 4), and so a file can be cut between two of them.
    Two streams of one kind are two files: a recorder that began anew.
    """
    kinds, at = set[bytes](), 0
    while kind := _ogg_stream(before[at:]):
        kinds.add(kind)
        # How many lengths follow, which together are the page's (RFC 3533, 6).
        lengths = before[at + 27 : at + 27 + before[at + 26]]
        at += 27 + len(lengths) + sum(lengths)
    return 0 < at == len(before) and _ogg_stream(head) not in {b"", *kinds}


def _ogg_stream(page: bytes) -> bytes:
    """The codec's signature in the first page of an Ogg stream; empty where it is none, or is cut off before it."""
    if not page.startswith(b"OggS") or not begins_clip(page) or len(page) < 27:
        return b""
    start = 27 + page[26]
    return page[start : start + 7] if len(page) >= start + 7 else b""
