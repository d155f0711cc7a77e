"""The journals, as the use cases need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.extents import Extent
from services.upload.journal import Chunk, Committed, Journal, JournalState


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


class JournalStore(Protocol):
    """Journals and the registers over them. Every method may raise STORE_UNAVAILABLE."""

    async def create(self, journal: Journal, extents: Sequence[tuple[Extent, str]] = ()) -> bool:
        """Add a journal, with extents and the entity tag at the end of each; False if there is one already."""
        ...

    async def get(self, video_id: str) -> Journal | None:
        """The journal; None where there is none."""
        ...

    async def replay(self, video_id: str, key: str) -> Committed | None:
        """What the append with this idempotency key was answered; None if there was none."""
        ...

    async def commit(
        self,
        chunk: Chunk,
        caller: str,
        limits: Limits,
        *,
        now: float,
        swept: float,
        container: int,
        expected_offset: int | None = None,
        idempotency_key: str = "",
    ) -> Committed | Moved | None:
        """Make a stored chunk part of the upload, in one step. Safe to repeat with the same chunk.

        None where there is no journal. From the Unix time `swept` on, by the store's clock, its object may be gone.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND (aborted), NOT_THE_OWNER, UPLOAD_SEALED, OFFSET_MISMATCH, TOO_MANY_CHUNKS,
                TOO_MANY_CLIPS, FILE_TOO_LARGE, CLIPS_TOO_LARGE, TIMEOUT (`swept` has passed).
        """
        ...

    async def locate(self, video_id: str, offset: int, length: int, etag: str, most: int) -> Located | None:
        """Up to `most` extents that hold a range of a version (empty: the current one); None without a journal.

        Raises:
            ReelwayError: VIDEO_CHANGED (no such version).
        """
        ...

    async def step(self, video_id: str, state: JournalState, *, size: int | None = None, **fields: str) -> bool:
        """Go to a state, setting fields, if that is legal and it still has this size (None: any).

        True if it is in that state now, False if not or gone.
        """
        ...

    async def set_container(self, video_id: str, container: int) -> None:
        """Note what the bytes turned out to be, where that is not known yet."""
        ...

    async def set_multipart(self, video_id: str, upload_id: str, instead_of: str) -> str:
        """Note the compaction's multipart upload unless another replaced it meanwhile; the one that stands."""
        ...

    async def drop(self, video_id: str, after_seconds: float = 0) -> None:
        """Forget a journal, now or after a time."""
        ...

    async def enter(self, video_id: str, owner: str, now: float, most: int) -> bool:
        """Enter an open upload into the registers; False where the owner has `most` already."""
        ...

    async def leave(self, video_id: str, owner: str) -> None:
        """It is open no more."""
        ...

    async def idle_since(self, before: float) -> list[tuple[str, str]]:
        """Id and owner of open uploads that were last looked at before a Unix time."""
        ...

    async def is_idle(self, video_id: str, owner: str, before: float) -> bool:
        """Whether it is an open upload that was last looked at before a Unix time, as `idle_since` asks of all."""
        ...

    async def looked_at(self, video_id: str, owner: str, time: float) -> None:
        """Do not show it in `idle_since` for times before this one."""
        ...

    async def put_off_expiry(self, video_id: str, owner: str, until: float) -> None:
        """Show it in `idle_since` behind those that were looked at earlier; nothing happens where it was later."""
        ...

    async def await_compaction(self, video_id: str, now: float) -> None:
        """Enter it among those to be compacted; before it is sealed, so that no crash can lose it."""
        ...

    async def to_compact(self, before: float) -> list[str]:
        """Those to be compacted that are not put off to a later time."""
        ...

    async def put_off_compaction(self, video_id: str, until: float) -> None:
        """Try it again later."""
        ...

    async def compaction_done(self, video_id: str) -> None:
        """Nothing is left to do for it."""
        ...
