"""The lists of the library in Redis: positions, not offsets. The keys are listed in redis_video_store.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis.asyncio as redis

from services.common.redis_client import redis_errors

_LARGEST_LOOK = 2_000
_MOST_LOOKED_AT = 20_000


class Position(NamedTuple):
    """A place in a list, newest first: what comes behind it is less."""

    score: int
    video_id: str


class Found(NamedTuple):
    """Part of a list."""

    rows: list[Position]
    behind: Position | None
    """Where the next part begins; None: there is none."""


class LibraryStore:
    """Raises STORE_UNAVAILABLE. The client must answer bytes."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    async def newest(self, lists: Sequence[str], count: int, behind: Position | None = None, hidden: str = "") -> Found:
        """The first `count` videos of some lists taken together, but for those in the list `hidden`.

        Fewer where very many in a row are hidden; `Found.behind` then says where to go on.
        """
        rows: list[Position] = []
        looked, size = 0, count + 1
        while True:
            batch = await self._behind(lists, behind, size)
            ended = len(batch) < size
            rows += await self._visible(batch, hidden)
            looked += len(batch)
            if batch:
                behind = batch[-1]
            if len(rows) > count:
                behind = rows[count - 1]
            elif ended:
                behind = None
            elif looked < _MOST_LOOKED_AT:
                size = min(2 * size, _LARGEST_LOOK)
                continue
            return Found(rows[:count], behind)

    async def _behind(self, lists: Sequence[str], behind: Position | None, size: int) -> list[Position]:
        """All lists in one look: a video that goes from one to another is in one of them, not in both or none."""
        highest = "+inf" if behind is None else str(behind.score)
        # One more than asked for: the video at the position itself is most likely still there.
        looked = size + 1
        while True:
            pipe = self._redis.pipeline(transaction=True)
            for key in lists:
                pipe.zrange(key, highest, "-inf", desc=True, byscore=True, offset=0, num=looked, withscores=True)
            with redis_errors():
                pages: Any = await pipe.execute()
            rows: list[Position] = []
            is_whole = True
            for page in pages:
                found = [Position(int(score), video_id.decode()) for video_id, score in page]
                those = [row for row in found if behind is None or row < behind]
                # Many with the score of the position can be ahead of it.
                is_whole &= len(page) < looked or len(those) >= size
                rows += those
            if is_whole:
                return sorted(rows, reverse=True)[:size]
            looked *= 2

    async def _visible(self, rows: list[Position], hidden: str) -> list[Position]:
        if not rows or not hidden:
            return rows
        with redis_errors():
            scores: Any = await self._redis.zmscore(hidden, [row.video_id for row in rows])
        return [row for row, score in zip(rows, scores, strict=True) if score is None]
