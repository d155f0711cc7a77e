"""Which uploads are under way, so that what a dead process left can be told from what a live one does.

Times are of Redis' clock: those of two processes may be further apart than an upload is given until its next beat.

Redis keys:

    {uploads}:open       sorted set by expiry: JSON of OpenUpload, kept alive by its process
    {uploads}:sweeping   set of those that ran out: no process gets them back
    {uploads}:lease      who sweeps
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from services.common.redis_client import redis_errors

_OPEN, _SWEEPING = "{uploads}:open", "{uploads}:sweeping"
LEASE = "{uploads}:lease"
_TAKE_EXPIRED = Path(__file__).parent / "lua" / "take_expired_uploads.lua"


@dataclass(frozen=True)
class OpenUpload:
    """An upload that has begun and is not yet a video."""

    video_id: str
    key: str
    """S3 key of its multipart upload, and of the object that it becomes."""
    owner: str
    """Who uploads; the sweeper asks the catalog in this name."""

    def to_json(self) -> str:
        """The member of the sorted set."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> OpenUpload:
        """The inverse of to_json."""
        return cls(**json.loads(text))


class OpenUploads:
    """All of them, whichever process they are in; raises STORE_UNAVAILABLE."""

    def __init__(self, client: redis.Redis, lease_seconds: float) -> None:
        self._redis, self._lease_seconds = client, lease_seconds
        self._take_expired = client.register_script(_TAKE_EXPIRED.read_text())

    @property
    def heartbeat_seconds(self) -> float:
        """How often a live upload renews its entry."""
        return self._lease_seconds / 4

    async def begin(self, upload: OpenUpload) -> None:
        """Enter it: before anything is made in S3."""
        with redis_errors():
            await self._redis.zadd(_OPEN, {upload.to_json(): await self._now() + self._lease_seconds})

    async def renew(self, upload: OpenUpload) -> bool:
        """Keep it alive; False where the sweeper has taken it, and the upload must be given up."""
        with redis_errors():
            member = upload.to_json()
            await self._redis.zadd(_OPEN, {member: await self._now() + self._lease_seconds}, xx=True)
            return await self._redis.zscore(_OPEN, member) is not None

    async def end(self, upload: OpenUpload) -> None:
        """Strike it out: last of all."""
        with redis_errors():
            pipe, member = self._redis.pipeline(), upload.to_json()
            pipe.zrem(_OPEN, member)
            pipe.srem(_SWEEPING, member)
            await pipe.execute()

    async def take_expired(self) -> list[OpenUpload]:
        """All that is to be swept: what ran out is taken from its process here, what a sweep left is there still."""
        with redis_errors():
            members: Any = await self._take_expired(keys=[_OPEN, _SWEEPING], args=[await self._now()])
        return [OpenUpload.from_json(member) for member in members]

    async def keys(self) -> set[str]:
        """S3 keys of all of them, taken by the sweeper or not."""
        with redis_errors():
            pipe = self._redis.pipeline()
            pipe.zrange(_OPEN, 0, -1)
            pipe.smembers(_SWEEPING)
            members: Any = itertools.chain(*await pipe.execute())
        return {OpenUpload.from_json(member).key for member in members}

    async def _now(self) -> float:
        seconds, microseconds = await self._redis.time()
        return float(seconds + microseconds / 1e6)
