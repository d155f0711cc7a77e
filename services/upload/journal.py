"""An upload that grows by appends: an ordered list of immutable chunks, and its life in one table."""

from __future__ import annotations

import enum
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from reelway.v1 import media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import Extent
from services.common.object_keys import journal_prefix


class JournalState(enum.Enum):
    """Where a journal is in its life; the values are what Redis holds."""

    OPEN = "open"
    """It takes chunks."""
    SEALED = "sealed"
    """Frozen; its bytes are still chunks."""
    COMPACTED = "compacted"
    """Its bytes are one object that the record names; kept for a while for readers who are in the middle of it."""
    ABORTED = "aborted"
    """Given up."""


TRANSITIONS: dict[JournalState, frozenset[JournalState]] = {
    JournalState.OPEN: frozenset({JournalState.SEALED, JournalState.ABORTED}),
    # One that is sealed is a finished video: it is deleted as one, through the catalog.
    JournalState.SEALED: frozenset({JournalState.COMPACTED}),
    JournalState.COMPACTED: frozenset(),
    JournalState.ABORTED: frozenset(),
}


@dataclass(frozen=True)
class Journal:
    """One upload as it is at one moment."""

    video_id: str
    owner: str
    state: JournalState
    size: int = 0
    """Bytes; where the next chunk begins."""
    etag: str = ""
    """Of these bytes: see entity_tags.of_journal."""
    chunks: int = 0
    clips: int = 0
    """Chunks that begin a clip, the first one always among them."""
    container: media_pb2.Container.ValueType = media_pb2.CONTAINER_UNSPECIFIED
    modified: float = 0.0
    """Unix time of the last commit; of the creation before the first."""
    multipart: str = ""
    """S3's id of the multipart upload that the compaction writes."""
    object_key: str = ""
    """The one object, once compacted."""


@dataclass(frozen=True)
class Chunk:
    """A chunk that is in S3 and is to be committed."""

    video_id: str
    offset: int
    """Where it is meant to begin."""
    tag: str
    """Tells it from every other chunk of that offset."""
    length: int = 0
    etag: str = ""
    """S3's, with quotes: made of its bytes."""
    begins_clip: bool = False

    @classmethod
    def new(cls, video_id: str, offset: int, *, begins_clip: bool) -> Chunk:
        """A chunk under a name that nobody else will use."""
        return cls(video_id, offset, secrets.token_hex(8), begins_clip=begins_clip)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return f"{self.offset:016d}-{self.tag}{'-clip' if self.begins_clip else ''}"

    @property
    def key(self) -> str:
        """Its S3 key."""
        return journal_prefix(self.video_id) + self.name


@dataclass(frozen=True)
class Committed:
    """A chunk that is part of the video."""

    offset: int
    size: int
    """Of the upload with it, in bytes."""
    etag: str
    """Of the upload with it."""
    replayed: bool = False
    """An earlier call with the same idempotency key put it there; this call's chunk is no part of the upload."""


@dataclass(frozen=True)
class Limits:
    """What one upload may become."""

    chunks: int
    bytes: int
    clips: int
    clips_bytes: int
    """Bytes of one that has several clips."""


@dataclass(frozen=True)
class Moved:
    """The upload ends elsewhere than where the chunk was meant for."""

    size: int


@dataclass(frozen=True)
class Located:
    """A range of one version of an upload."""

    journal: Journal
    """As it is now."""
    size: int
    """Of the version that was asked for."""
    extents: Sequence[Extent]
    """What holds the range; perhaps only the beginning of it."""


def offset_mismatch(size: int) -> ReelwayError:
    """OFFSET_MISMATCH, with where the upload ends."""
    return ReelwayError(
        ErrorReason.OFFSET_MISMATCH, f"The video ends at offset {size}", metadata={"size_bytes": str(size)}
    )
