"""The index in Redis.

Keys, all in one slot so that a script may touch them together:

    {catalog}:index:3          set once the index is whole; without it every call says INDEX_MISSING
    {catalog}:counter          the last number given
    {catalog}:video:<uuid>     hash: version, record (a serialized reelway.v1.Video), saved (the last version
                               that is known to be in S3)
    {catalog}:numbers          hash: number -> uuid
    {catalog}:owners           set of everybody who ever had a video
    {catalog}:unsaved          sorted set by time: changes that are not known to be in S3
    {catalog}:lease:<loop>     who sweeps, who rebuilds

and sorted sets of video ids, kept by memberships.py; `<owner>` may be empty in the first: nobody

    {catalog}:owned:<owner>         by number: what can be asked for by its id
    {catalog}:library:<owner>       by number: drafts and finished videos
    {catalog}:unprocessed:<owner>   by number: those that grow, are processed or failed
    {catalog}:public:<owner>        by listing time in microseconds: published
    {catalog}:private:<owner>       by listing time: published and private
    {catalog}:explore               by listing time: published, everybody's
    {catalog}:published             by number: the same
    {catalog}:growing               by number: those that grow, everybody's
    {catalog}:signed                by creation time: signed uploads that have not arrived
    {catalog}:processing            by the time when a job for it is looked after next
    {catalog}:transcribing          by the time when a transcript that was asked for is looked after next
    {catalog}:deleting              by the time of their deletion: tombstones whose objects may not be gone

In `signed` and `deleting` the sweep puts what it tries behind the others that are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from redis.asyncio.client import Pipeline
from reelway.v1 import media_pb2

from services.catalog.memberships import (
    DUE,
    PREFIX,
    PUBLISHED,
    known_owner,
    listed_for,
    memberships,
    owned_key,
    public_key,
)
from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.message_page import PAGE_BYTES
from services.common.redis_client import redis_errors

# The number grows with the layout of the keys: a release that finds none of its own makes the index again.
_MARKER, _COUNTER = PREFIX + "index:3", PREFIX + "counter"
_NUMBERS, _UNSAVED, _OWNERS = PREFIX + "numbers", PREFIX + "unsaved", PREFIX + "owners"
LEASES = PREFIX + "lease:"
"""Prefix of the leases of the catalog's own loops."""
# Everything else in the process waits while these are put in order.
_SKIPPED_AT_ONCE = 500
# A page may be 2 MiB and more: all at once take the memory of the process, and every connection to Redis, until each of
# them, and whatever else was asked for, is too late.
_PAGES_AT_ONCE = 8
_LUA = Path(__file__).parent / "lua"


def _video_key(video_id: str) -> str:
    return f"{PREFIX}video:{video_id}"


class RedisVideoStore:
    """Records by id, number and owner. Every method may raise STORE_UNAVAILABLE or INDEX_MISSING.

    The client must answer bytes.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._redis, self._clock = client, clock
        self._turn = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._commit_script = client.register_script((_LUA / "commit_video.lua").read_text())
        self._saved_script = client.register_script((_LUA / "mark_saved.lua").read_text())
        self._read_script = client.register_script((_LUA / "read_videos.lua").read_text())
        self._skip_script = client.register_script((_LUA / "skip_videos.lua").read_text())
        self._number_script = client.register_script((_LUA / "next_number.lua").read_text())
        self._finish = (_LUA / "finish_load.lua").read_text()  # queued in a transaction: none to await

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

    async def mark(self, video: media_pb2.Video, mark: str) -> bool:
        """Put another unsaved mark on version n; False if another version stands there."""
        return await self._commit(video, video.version, mark) == b"OK"

    async def _commit(self, video: media_pb2.Video, expected: int, mark: str) -> bytes:
        lists = memberships(video)
        with redis_errors():
            answer = await self._commit_script(
                keys=[_MARKER, _video_key(video.video_id), _NUMBERS, _UNSAVED, _OWNERS, *lists],
                args=[
                    expected,
                    video.version,
                    video.SerializeToString(),
                    video.video_id,
                    video.number,
                    mark,
                    self._clock.seconds(),
                    known_owner(video),
                    *lists.values(),
                ],
            )
        if answer == b"MISSING":
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return bytes(answer)

    async def get(self, video_id: str) -> media_pb2.Video | None:
        """By UUID."""
        found = await self.records([video_id])
        return found[0] if found else None

    async def get_by_number(self, number: int) -> media_pb2.Video | None:
        """By number."""
        with redis_errors():
            video_id: Any = await self._redis.hget(_NUMBERS, str(number))
        # Also where there is none: that tells an absent index.
        return await self.get(video_id.decode() if video_id else "")

    async def knows_owner(self, owner: str) -> bool:
        """Whether anything of this owner ever arrived."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            pipe.exists(_MARKER)
            pipe.sismember(_OWNERS, owner)
            marker, known = await pipe.execute()
        if not marker:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return bool(known)

    async def get_unguarded(self, video_id: str) -> media_pb2.Video | None:
        """By UUID, while the index is closed for a rebuild."""
        with redis_errors():
            record: Any = await self._redis.hget(_video_key(video_id), "record")
        return media_pb2.Video.FromString(record) if record else None

    async def records(self, video_ids: Sequence[str]) -> list[media_pb2.Video]:
        """Those that exist, in this order. An absent index is told apart from an absent record."""
        read = await self._read(video_ids)
        while len(read) < len(video_ids):
            read += await self._read(video_ids[len(read) :])
        return [video for video in read if video is not None]

    async def beginning(self, video_ids: Sequence[str]) -> list[media_pb2.Video]:
        """As `records`, but only until they are more than a message holds."""
        return [video for video in await self._read(video_ids) if video is not None]

    async def _read(self, video_ids: Sequence[str]) -> list[media_pb2.Video | None]:
        """The records of the first of these videos, at least of one.

        While Redis puts an answer together it has none for anybody else: records with transcripts are long.
        """
        async with self._turn if len(video_ids) > 1 else contextlib.nullcontext():
            with redis_errors():
                records: Any = await self._read_script(keys=[_MARKER, *map(_video_key, video_ids)], args=[PAGE_BYTES])
        if records is None:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return [media_pb2.Video.FromString(record) if record else None for record in records]

    async def behind(self, user: str, after: int, skip: int) -> int:
        """The number behind which a page of a user's list begins that leaves out the first `skip` above `after`.

        Where the user has published any, its own videos among them are gone through: the published are in two lists.
        """
        lists = listed_for(user)
        while skip:
            with redis_errors():
                found, left_out = await self._skip_script(keys=lists, args=[after, skip])
            if not left_out:
                break
            skip -= left_out - await self._in_two_lists(user, after, found)
            after = int(found)
        return after

    async def _in_two_lists(self, user: str, after: int, until: int) -> int:
        """How many of the user's videos with a number above `after`, up to `until`, are published."""
        with redis_errors():
            published = user and await self._redis.exists(public_key(user))
        count = 0
        while published and (own := await self._members([owned_key(user)], after, _SKIPPED_AT_ONCE)):
            ids = [video_id.decode() for number, video_id in own if number <= until]
            if not ids:
                break
            with redis_errors():
                scores: Any = await self._redis.zmscore(PUBLISHED, ids)
            count, after = count + len(ids) - scores.count(None), int(own[-1][0])
        return count

    async def page(self, lists: Sequence[str], after: int, count: int) -> list[media_pb2.Video]:
        """Up to `count` videos that are in any of these lists by number, numbers above `after`, in order.

        Fewer where they are more than a message holds.
        """
        members = await self._members(lists, after, count)
        return await self.beginning([video_id.decode() for _, video_id in members])

    async def _members(self, lists: Sequence[str], after: int, count: int) -> list[tuple[float, bytes]]:
        """Number and id of the first `count` videos above `after` that are in any of these lists."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for key in lists:
                pipe.zrange(key, f"({after}", "+inf", byscore=True, offset=0, num=count, withscores=True)
            rows: list[list[tuple[bytes, float]]] = await pipe.execute()
        return heapq.nsmallest(count, {(number, video_id) for of_list in rows for video_id, number in of_list})

    async def saved(self, video: media_pb2.Video, mark: str) -> bool:
        """Take the mark off if this is still current; False if not: then a newer one must be saved.

        Raises:
            ReelwayError: INDEX_MISSING where the index knows nothing of this change: it was emptied meanwhile, and
                perhaps made again before the record was there to be found.
        """
        member = f"{video.video_id}/{mark}"
        digest = hashlib.sha1(video.SerializeToString(), usedforsecurity=False).hexdigest()
        with redis_errors():
            answer = int(
                await self._saved_script(
                    keys=[_video_key(video.video_id), _UNSAVED], args=[video.version, member, digest]
                )
            )
        if answer < 0:
            raise ReelwayError(ErrorReason.INDEX_MISSING)
        return answer == 1

    async def is_saved(self, video: media_pb2.Video) -> bool:
        """Whether this version is current, and known to be in S3: not so of a record that a rebuild brought."""
        with redis_errors():
            versions: list[Any] = await self._redis.hmget(_video_key(video.video_id), "version", "saved")
        return all(version == str(video.version).encode() for version in versions)

    async def unsaved_before(self, time: float) -> AsyncIterator[tuple[str, str]]:
        """(video_id, mark) of changes begun before a Unix time that are not known to be in S3; one may come twice.

        An outage of S3 leaves one for each change that was tried: too many to be held.
        """
        cursor = None
        while cursor != 0:
            with redis_errors():
                page: Any = await self._redis.zscan(_UNSAVED, cursor or 0, count=1000)
            cursor, found = page
            for member, began in found:
                if began <= time:
                    video_id, _, mark = member.decode().partition("/")
                    yield video_id, mark

    async def due(self, key: str, before: float, count: int) -> list[str]:
        """Ids of the first `count` videos in a list by time whose Unix time is not later than `before`."""
        with redis_errors():
            # An earlier release gave tombstones their numbers as scores, which are times long past.
            members: Any = await self._redis.zrange(key, "-inf", before, byscore=True, offset=0, num=count)
        return [member.decode() for member in members]

    async def claim(self, key: str, now: float, until: float, count: int) -> list[str]:
        """As `due`, moved to `until`: nobody else is given them before.

        Two callers in the same moment may both be given one: looking after a job twice makes no second one.
        """
        ids = await self.due(key, now, count)
        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for video_id in ids:
                pipe.zadd(key, {video_id: until}, xx=True, gt=True, ch=True)
            moved = await pipe.execute()
        return [video_id for video_id, changed in zip(ids, moved, strict=True) if changed]

    async def put_off(self, key: str, video_id: str, until: float) -> None:
        """Move a video in a list by time to `until`, unless it is later there, or has left it."""
        with redis_errors():
            await self._redis.zadd(key, {video_id: until}, xx=True, gt=True)

    async def exists(self) -> bool:
        """Whether there is an index at all."""
        with redis_errors():
            return bool(await self._redis.exists(_MARKER))

    async def close_index(self, lease: Lease) -> bool:
        """Stop serving the index: every call says INDEX_MISSING from now on. Whether there was one.

        This and what follows is done only while `lease` is held, else LeaseLost.
        """
        return bool((await lease.guard(lambda pipe: pipe.delete(_MARKER)))[0])

    async def clear(self, lease: Lease) -> None:
        """Remove every key of the index but the leases."""
        cursor = None
        while cursor != 0:
            with redis_errors():
                page: Any = await self._redis.scan(cursor or 0, match=PREFIX + "*", count=1000)
            cursor, found = page
            if keys := [key for key in found if not key.startswith(LEASES.encode())]:
                await lease.guard(methodcaller("unlink", *keys))

    async def load(self, videos: Sequence[media_pb2.Video], lease: Lease) -> None:
        """Index records as they are, unmarked; part of a rebuild, before `finish_load`."""
        await lease.guard(lambda pipe: _index(videos, pipe))

    async def finish_load(self, last_number: int, numbers: int, lease: Lease) -> bool:
        """Set the counter and the marker: from here on the index is served.

        False, and it is not, where Redis has not so many `numbers`: it lost a part of what was loaded.
        """
        keys, said = (_MARKER, _COUNTER, _NUMBERS), (str(last_number), str(numbers))
        return bool((await lease.guard(lambda pipe: pipe.eval(self._finish, len(keys), *keys, *said)))[0])


def _index(videos: Sequence[media_pb2.Video], pipe: Pipeline) -> None:
    lists: dict[str, dict[str, float]] = defaultdict(dict)
    for video in videos:
        pipe.hset(
            _video_key(video.video_id),
            mapping={"version": video.version, "record": video.SerializeToString()},
        )
        for key, score in memberships(video).items():
            if score:
                lists[key][video.video_id] = 0.0 if score == DUE else float(score)
    # Few long commands instead of many short ones.
    for key, scores in lists.items():
        pipe.zadd(key, scores)
    if videos:
        pipe.hset(_NUMBERS, mapping={str(video.number): video.video_id for video in videos})
    if owners := {known_owner(video) for video in videos} - {""}:
        pipe.sadd(_OWNERS, *owners)
