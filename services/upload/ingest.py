"""Notices what signed forms brought: by events where there are any, and always by looking at the store.

Every object under `incoming/` is told to the catalog, which begins its processing. Telling is safe to repeat, and the
object stays until its video is made of it; so a crash anywhere, or an event that was lost, costs a look.

Redis keys:

    {ingest}:lease        who looks at the store
    {ingest}:told:<name>  this object under incoming/ was seen to lately
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import redis.asyncio as redis
from reelway.v1 import library_pb2, library_pb2_grpc, media_pb2

from services.common import fault_points, logs, tasks
from services.common.call import call
from services.common.caller import set_caller, system_caller
from services.common.catalog_client import if_found
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.object_keys import INCOMING, incoming_key, record_key
from services.common.periodic import failures_logged, periodically
from services.common.redis_client import redis_errors
from services.common.s3_objects import ObjectInfo, S3Objects
from services.common.uuids import is_uuid
from services.upload.signatures import Signatures

log = logs.get_logger(__name__)

LEASE = "{ingest}:lease"
# Half a minute while the catalog is being told, so that a killed process keeps nobody waiting; then longer, where many
# wait to be processed: of all of them it is told ten times a second.
_TOLD_SECONDS, _TOLD_A_SECOND = 30, 10
# Each look lists all that wait, for 0.1 ms of CPU an object here, and twice as much in the store.
_LOOKED_AT_A_SECOND = 1000
_AT_ONCE = 32
_STRANGER_SECONDS = 3600.0
# In these states the object is still needed: a video is being made of it, or is about to be.
_WANTED = {media_pb2.VIDEO_STATE_PROCESSING, media_pb2.VIDEO_STATE_SIGNED}


def _told_key(key: str) -> str:
    return f"{{ingest}}:told:{key.removeprefix(INCOMING)}"


def _video_id(key: str) -> str:
    """Of an object under `incoming/`; empty for one that no form of ours can bring."""
    video_id = key.removeprefix(INCOMING)
    return video_id if is_uuid(video_id) and key == incoming_key(video_id) else ""


class Ingest:
    """Runs on every replica; the lease lets one at a time look, the marks share what is found."""

    def __init__(
        self,
        objects: S3Objects,
        channel: grpc.aio.Channel,
        client: redis.Redis,
        signatures: Signatures,
        *,
        lease: Lease,
        clock: Clock,
    ) -> None:
        self._objects, self._redis, self._signatures = objects, client, signatures
        self._lease, self._clock = lease, clock
        self._waiting = 0
        self._library: library_pb2_grpc.LibraryServiceAsyncStub = library_pb2_grpc.LibraryServiceStub(channel)

    async def run(self, interval_seconds: float) -> None:
        """Look for ever."""
        await periodically("look for arrivals", self._look_and_rest, self._lease, interval_seconds, 0)

    async def _look_and_rest(self) -> None:
        """The rest is for the store, so the lease is kept: no other replica looks meanwhile."""
        await self.look()
        await asyncio.sleep(self._waiting / _LOOKED_AT_A_SECOND)

    async def look(self) -> None:
        """Tell the catalog of everything that is there."""
        set_caller(system_caller())
        waiting = 0
        async for page in self._objects.pages(INCOMING):
            waiting += len(page)
            self._waiting = max(self._waiting, waiting)
            await self._tell(page)
        self._waiting = waiting

    async def notice(self, keys: Iterable[str]) -> int:
        """Look at some objects now; how many of them are of ours."""
        wanted = {key for key in keys if _video_id(key)}
        set_caller(system_caller())
        found = await asyncio.gather(*map(tasks.at_most(_AT_ONCE, self._objects.head), wanted))
        await self._tell([info for info in found if info is not None])
        return len(wanted)

    async def _tell(self, found: Sequence[ObjectInfo]) -> None:
        if not found:
            return
        seconds = max(_TOLD_SECONDS, int(self._waiting / _TOLD_A_SECOND))

        async def one(info: ObjectInfo) -> None:
            told = False
            with failures_logged("look at an arrival", key=info.key):
                await self._tell_one(info)
                with redis_errors():
                    await self._redis.expire(_told_key(info.key), seconds)
                told = True
            if not told:
                with redis_errors():
                    await self._redis.delete(_told_key(info.key))

        with redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for info in found:
                pipe.set(_told_key(info.key), "1", nx=True, ex=_TOLD_SECONDS)
            first: list[Any] = await pipe.execute()
        fault_points.reach("ingest.claimed")
        await asyncio.gather(*map(tasks.at_most(_AT_ONCE, one), itertools.compress(found, first)))

    async def _tell_one(self, info: ObjectInfo) -> None:
        video_id = _video_id(info.key)
        if not video_id or not await self._is_wanted(video_id, info):
            log.info("removing an object that no video is made of", key=info.key)
            await self._objects.delete(info.key)

    async def _is_wanted(self, video_id: str, info: ObjectInfo) -> bool:
        request = library_pb2.NoteArrivalRequest(video_id=video_id, size_bytes=info.size)
        answer = await if_found(call(self._library.NoteArrival, request))
        if answer is None:
            # A record is made before its form; yet a young stranger may be one whose record is being restored, and an
            # index that came back older than the bucket does not have what S3 records.
            young = self._clock.seconds() - info.modified.timestamp() < _STRANGER_SECONDS
            return young or await self._objects.head(record_key(video_id)) is not None
        await self._signatures.leave(video_id, answer.owner)
        return answer.state in _WANTED
