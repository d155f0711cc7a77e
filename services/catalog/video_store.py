"""The index of videos, as the use cases need it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from reelway.v1 import media_pb2


class VideoStore(Protocol):
    """Records by id, number and owner. Every method may raise STORE_UNAVAILABLE or INDEX_MISSING."""

    async def next_number(self) -> int:
        """A number that was never given before."""
        ...

    async def create(self, video: media_pb2.Video, mark: str) -> media_pb2.Video | None:
        """Add a record with its unsaved mark; None if done, else the record that has the id already."""
        ...

    async def replace(self, video: media_pb2.Video, mark: str) -> bool:
        """Put version n over version n-1 with an unsaved mark; False if n-1 is not what stands there."""
        ...

    async def mark(self, video: media_pb2.Video, mark: str) -> bool:
        """Put another unsaved mark on version n; False if another version stands there."""
        ...

    async def get(self, video_id: str) -> media_pb2.Video | None:
        """By UUID."""
        ...

    async def get_by_number(self, number: int) -> media_pb2.Video | None:
        """By number."""
        ...

    async def knows_owner(self, owner: str) -> bool:
        """Whether a video of this owner ever arrived."""
        ...

    async def records(self, video_ids: Sequence[str]) -> list[media_pb2.Video]:
        """Those that exist, in this order."""
        ...

    async def behind(self, user: str, after: int, skip: int) -> int:
        """The number behind which a page of a user's list begins that leaves out the first `skip` above `after`."""
        ...

    async def page(self, lists: Sequence[str], after: int, count: int) -> list[media_pb2.Video]:
        """Up to `count` videos that are in any of these lists by number, numbers above `after`, in order.

        Fewer where they are more than a message holds.
        """
        ...

    async def saved(self, video: media_pb2.Video, mark: str) -> bool:
        """Take the mark off if this is still current; False if not: then a newer one must be saved.

        INDEX_MISSING where the index has lost this change of the video.
        """
        ...

    async def is_saved(self, video: media_pb2.Video) -> bool:
        """Whether this version is current, and known to be in S3."""
        ...

    def unsaved_before(self, time: float) -> AsyncIterator[tuple[str, str]]:
        """(video_id, mark) of changes begun before a Unix time that are not known to be in S3; one may come twice."""
        ...

    async def deleting(self, before: float) -> list[str]:
        """Ids of videos whose deletion began before a Unix time, and whose objects may not be gone yet."""
        ...

    async def exists(self) -> bool:
        """Whether there is an index at all."""
        ...
