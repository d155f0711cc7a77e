"""The index in Redis.

Keys, all in one slot so that a script may touch them together:

    {catalog}:index            set once the index is whole; without it every call says INDEX_MISSING
    {catalog}:counter          the last number given
    {catalog}:video:<uuid>     hash: version, record (a serialized reelway.v1.Video)
    {catalog}:numbers          hash: number -> uuid
    {catalog}:owned:<owner>    sorted set of living videos by number; the empty owner is nobody
    {catalog}:unsaved          sorted set by time: changes that are not known to be in S3
    {catalog}:lease:<loop>     who sweeps, who rebuilds
    {catalog}:deleting         set of tombstones whose objects may not be gone
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from reelway.v1 import media_pb2

from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import redis_errors
from services.common.video_state import GONE

_PREFIX = "{catalog}:"
_MARKER, _COUNTER = _PREFIX + "index", _PREFIX + "counter"
_NUMBERS, _UNSAVED, _DELETING = _PREFIX + "numbers", _PREFIX + "unsaved", _PREFIX + "deleting"
LEASES = _PREFIX + "lease:"
"""Prefix of the leases of the catalog's own loops."""
_LUA = Path(__file__).parent / "lua"


def _video_key(video_id: str) -> str:
    return f"{_PREFIX}video:{video_id}"


def _owned_key(owner: str) -> str:
    return f"{_PREFIX}owned:{owner}"


def _life(video: media_pb2.Video) -> str:
    if video.state == media_pb2.VIDEO_STATE_DELETING:
        return "deleting"
    return "deleted" if video.state in GONE else "living"


class RedisVideoStore:
    """See VideoStore. The client must answer bytes."""

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._redis, self._clock = client, clock
        self._commit_script = client.register_script((_LUA / "commit_video.lua").read_text())
        self._saved_script = client.register_script((_LUA / "mark_saved.lua").read_text())
        self._number_script = client.register_script((_LUA / "next_number.lua").read_text())

    async def next_number(self) -> int:
        """A number that was never given before."""
        with redis_errors():
            number = int(await self._number_script(keys=[_MARKER, _COUNTER]))
        if number == 0:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return number

    async def create(self, video: media_pb2.Video, mark: str) -> media_pb2.Video | None:
        """Add a record with its unsaved mark; None if done, else the record that has the id already."""
        answer = await self._commit(video, 0, mark)
        return None if answer == b"OK" else media_pb2.Video.FromString(answer)

    async def replace(self, video: media_pb2.Video, mark: str) -> bool:
        """Put version n over version n-1 with an unsaved mark; False if n-1 is not what stands there."""
        return await self._commit(video, video.version - 1, mark) == b"OK"

    async def _commit(self, video: media_pb2.Video, expected: int, mark: str) -> bytes:
        with redis_errors():
            answer = await self._commit_script(
                keys=[
                    _MARKER,
                    _video_key(video.video_id),
                    _NUMBERS,
                    _UNSAVED,
                    _DELETING,
                    _owned_key(video.owner),
                ],
                args=[
                    expected,
                    video.version,
                    video.SerializeToString(),
                    video.video_id,
                    video.number,
                    _life(video),
                    mark,
                    self._clock.seconds(),
                ],
            )
        if answer == b"MISSING":
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return bytes(answer)

    async def get(self, video_id: str) -> media_pb2.Video | None:
        """By UUID."""
        found = await self._records([video_id])
        return found[0] if found else None

    async def get_by_number(self, number: int) -> media_pb2.Video | None:
        """By number."""
        with redis_errors():
            video_id: Any = await self._redis.hget(_NUMBERS, str(number))
        return await self.get(video_id.decode()) if video_id else await self.get("")

    async def get_unguarded(self, video_id: str) -> media_pb2.Video | None:
        """By UUID, while the index is closed for a rebuild."""
        with redis_errors():
            record: Any = await self._redis.hget(_video_key(video_id), "record")
        return media_pb2.Video.FromString(record) if record else None

    async def _records(self, video_ids: Sequence[str]) -> list[media_pb2.Video]:
        """Those that exist, in this order. An absent index is told apart from an absent record."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            pipe.exists(_MARKER)
            for video_id in video_ids:
                pipe.hget(_video_key(video_id), "record")
            marker, *records = await pipe.execute()
        if not marker:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return [media_pb2.Video.FromString(record) for record in records if record]

    async def page(self, owners: Sequence[str], after: int, count: int) -> list[media_pb2.Video]:
        """Up to `count` living videos of any of these owners, numbers above `after`, in order."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for owner in owners:
                pipe.zrange(_owned_key(owner), f"({after}", "+inf", byscore=True, offset=0, num=count, withscores=True)
            rows: list[list[tuple[bytes, float]]] = await pipe.execute()
        first = heapq.nsmallest(count, (row for of_owner in rows for row in of_owner), key=lambda row: row[1])
        return await self._records([video_id.decode() for video_id, _ in first])

    async def saved(self, video_id: str, mark: str, version: int) -> bool:
        """Take the mark off if `version` is still current; False if not: then a newer one must be saved.

        Raises:
            ReelwayError: INDEX_MISSING where the index knows nothing of the video: it was emptied meanwhile, and
                perhaps made again before the record was there to be found.
        """
        with redis_errors():
            answer = int(
                await self._saved_script(keys=[_video_key(video_id), _UNSAVED], args=[version, f"{video_id}/{mark}"])
            )
        if answer < 0:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return answer == 1

    async def unsaved_before(self, time: float) -> list[tuple[str, str]]:
        """(video_id, mark) of changes that began before a Unix time and are not known to be in S3."""
        with redis_errors():
            members: Any = await self._redis.zrange(_UNSAVED, "-inf", time, byscore=True)
        return [(video_id, mark) for video_id, _, mark in (member.decode().partition("/") for member in members)]

    async def deleting(self) -> list[str]:
        """Ids of videos whose objects may not be gone yet."""
        with redis_errors():
            members: Any = await self._redis.smembers(_DELETING)
        return [member.decode() for member in members]

    async def exists(self) -> bool:
        """Whether there is an index at all."""
        with redis_errors():
            return bool(await self._redis.exists(_MARKER))

    async def close_index(self) -> bool:
        """Stop serving the index: every call says INDEX_MISSING from now on. Whether there was one."""
        with redis_errors():
            return bool(await self._redis.delete(_MARKER))

    async def clear(self) -> None:
        """Remove every key of the index but the leases."""
        with redis_errors():
            async for key in self._redis.scan_iter(match=_PREFIX + "*", count=1000):
                if not key.startswith(LEASES.encode()):
                    await self._redis.unlink(key)

    async def load(self, videos: Sequence[media_pb2.Video]) -> None:
        """Index records as they are, unmarked; part of a rebuild, before `finish_load`."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for video in videos:
                pipe.hset(
                    _video_key(video.video_id),
                    mapping={"version": video.version, "record": video.SerializeToString()},
                )
                pipe.hset(_NUMBERS, str(video.number), video.video_id)
                if _life(video) == "living":
                    pipe.zadd(_owned_key(video.owner), {video.video_id: video.number})
                elif _life(video) == "deleting":
                    pipe.sadd(_DELETING, video.video_id)
            await pipe.execute()

    async def finish_load(self, last_number: int) -> None:
        """Set the counter, then the marker: from here on the index is served."""
        with redis_errors():
            await self._redis.set(_COUNTER, last_number)
            await self._redis.set(_MARKER, "1")
