"""The journals in Redis.

Keys of one upload, in a slot of their own:

    {journal:<uuid>}           hash: the fields of Journal
    {journal:<uuid>}:extents   sorted set by offset: `{name} {length} {etag of the upload up to its end}`
    {journal:<uuid>}:keys      hash: idempotency key -> `{offset} {size} {etag}`
    {journal:<uuid>}:lease     who compacts it

and the registers, in another:

    {journals}:open            sorted set of `{uuid} {owner}` of open uploads by when they were last looked at
    {journals}:owned:<owner>   set of those of one owner
    {journals}:sealed          sorted set of uploads to be compacted by when that is due
    {journals}:lease:<loop>    who sweeps
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from reelway.v1 import media_pb2

from services.common import entity_tags
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import Extent
from services.common.object_keys import journal_prefix
from services.common.redis_client import redis_errors
from services.upload.journal import (
    TRANSITIONS,
    Chunk,
    Committed,
    Journal,
    JournalState,
    Limits,
    Located,
    Moved,
    offset_mismatch,
)

_LUA = Path(__file__).parent / "lua"
_OPEN, _SEALED = "{journals}:open", "{journals}:sealed"
LEASES = "{journals}:lease:"
"""Prefix of the leases of the loops over all journals."""
_BATCH = 1000
# Extents that a restoring process left, because it died, go by themselves.
_HALF_RESTORED_SECONDS = 3600
_REFUSALS = {
    "OWNER": ErrorReason.NOT_THE_OWNER,
    "CHUNKS": ErrorReason.TOO_MANY_CHUNKS,
    "CLIPS": ErrorReason.TOO_MANY_CLIPS,
    "BYTES": ErrorReason.FILE_TOO_LARGE,
    "CLIPS_BYTES": ErrorReason.CLIPS_TOO_LARGE,
    "LATE": ErrorReason.TIMEOUT,
}


def _key(video_id: str) -> str:
    return f"{{journal:{video_id}}}"


def lease_name(video_id: str) -> str:
    """Key of the lease under which an upload is compacted."""
    return _key(video_id) + ":lease"


def _owned(owner: str) -> str:
    return f"{{journals}}:owned:{owner}"


class RedisJournalStore:
    """Journals and the registers over them; every method may raise STORE_UNAVAILABLE. The client must answer text."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._commit, self._locate, self._step, self._create, self._enter, self._replace = (
            client.register_script((_LUA / f"journal_{name}.lua").read_text())
            for name in ("commit", "locate", "step", "create", "enter", "replace")
        )

    async def create(self, journal: Journal, extents: Sequence[tuple[Extent, str]] = ()) -> bool:
        """Add a journal, with extents and the entity tag at the end of each; False if there is one already."""
        key = _key(journal.video_id)
        waiting = f"{key}:restored:{secrets.token_hex(4)}"
        with redis_errors():
            for start in range(0, len(extents), _BATCH):
                members = {
                    f"{extent.key.rpartition('/')[2]} {extent.length} {etag}": extent.offset
                    for extent, etag in extents[start : start + _BATCH]
                }
                pipe = self._redis.pipeline(transaction=True)
                pipe.zadd(waiting, members)
                pipe.expire(waiting, _HALF_RESTORED_SECONDS)
                await pipe.execute()
            flat = [text for pair in _fields(journal).items() for text in pair]
            answer = int(await self._create(keys=[key, key + ":extents", waiting], args=[len(extents), *flat]))
        if answer < 0:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return answer == 1

    async def get(self, video_id: str) -> Journal | None:
        """The journal; None where there is none."""
        with redis_errors():
            fields: Any = await self._redis.hgetall(_key(video_id))
        return _journal(video_id, fields) if fields else None

    async def replay(self, video_id: str, key: str) -> Committed | None:
        """What the append with this idempotency key was answered; None if there was none."""
        with redis_errors():
            answer: Any = await self._redis.hget(_key(video_id) + ":keys", key)
        return _committed(answer) if answer else None

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

        None where there is no journal. From the Unix time `swept` on, by Redis' clock, its object may be gone.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND (aborted), NOT_THE_OWNER, UPLOAD_SEALED, OFFSET_MISMATCH, TOO_MANY_CHUNKS,
                TOO_MANY_CLIPS, FILE_TOO_LARGE, CLIPS_TOO_LARGE, TIMEOUT (`swept` has passed).
        """
        key = _key(chunk.video_id)
        with redis_errors():
            answer = await self._commit(
                keys=[key, key + ":extents", key + ":keys"],
                args=[
                    caller,
                    chunk.offset,
                    chunk.length,
                    chunk.name,
                    int(chunk.begins_clip),
                    chunk.etag,
                    "" if expected_offset is None else expected_offset,
                    idempotency_key,
                    now,
                    container,
                    limits.chunks,
                    limits.bytes,
                    limits.clips,
                    limits.clips_bytes,
                    swept,
                ],
            )
        match answer:
            case ["OK", offset, size, etag]:
                return Committed(int(offset), int(size), etag)
            case ["DONE", first]:
                return _committed(first)
            case ["MOVED", size]:
                return Moved(int(size))
            case ["MISSING", _]:
                return None
            case ["OFFSET", size]:
                raise offset_mismatch(int(size))
            case ["STATE", JournalState.ABORTED.value]:
                raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
            case ["STATE", _]:
                raise ReelwayError(ErrorReason.UPLOAD_SEALED)
            case [refusal, *_]:
                raise ReelwayError(_REFUSALS[refusal])
        raise RuntimeError(f"unknown answer {answer!r}")

    async def locate(self, video_id: str, offset: int, length: int, etag: str, most: int) -> Located | None:
        """Up to `most` extents that hold a range of a version (empty: the current one); None without a journal.

        Raises:
            ReelwayError: VIDEO_CHANGED (no such version).
        """
        version = entity_tags.journal_size(etag) if etag else -1
        if etag and version < 0:
            raise ReelwayError(ErrorReason.VIDEO_CHANGED)
        key = _key(video_id)
        with redis_errors():
            answer = await self._locate(keys=[key, key + ":extents"], args=[offset, length, version, etag, most])
        match answer:
            case ["OK", flat, size, members]:
                journal = _journal(video_id, dict(zip(flat[::2], flat[1::2], strict=True)))
                return Located(journal, int(size), [_extent(video_id, member) for member in members])
            case ["CHANGED"]:
                raise ReelwayError(ErrorReason.VIDEO_CHANGED)
        return None

    async def step(self, video_id: str, state: JournalState, *, size: int | None = None, **fields: str) -> bool:
        """Go to a state, setting fields, if that is legal and it still has this size (None: any).

        True if it is in that state now, False if not or gone.
        """
        before = " ".join(old.value for old, steps in TRANSITIONS.items() if state in steps)
        flat = [text for pair in fields.items() for text in pair]
        args = [before, state.value, "" if size is None else size, *flat]
        with redis_errors():
            return int(await self._step(keys=[_key(video_id)], args=args)) == 1

    async def set_container(self, video_id: str, container: int) -> None:
        """Note what the bytes turned out to be, where that is not known yet."""
        with redis_errors():
            await self._replace(keys=[_key(video_id)], args=["container", container, 0])

    async def set_multipart(self, video_id: str, upload_id: str, instead_of: str) -> str:
        """Note the compaction's multipart upload unless another replaced it meanwhile; the one that stands."""
        with redis_errors():
            standing: Any = await self._replace(keys=[_key(video_id)], args=["multipart", upload_id, instead_of])
        return str(standing or "")

    async def drop(self, video_id: str, after_seconds: float = 0) -> None:
        """Forget a journal, now or after a time."""
        key = _key(video_id)
        with redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            for each in (key, key + ":extents", key + ":keys"):
                if after_seconds:
                    pipe.pexpire(each, int(after_seconds * 1000))
                else:
                    pipe.unlink(each)
            await pipe.execute()

    async def enter(self, video_id: str, owner: str, now: float, most: int) -> bool:
        """Enter an open upload into the registers; False where the owner has `most` already."""
        with redis_errors():
            return bool(await self._enter(keys=[_OPEN, _owned(owner)], args=[video_id, owner, now, most]))

    async def leave(self, video_id: str, owner: str) -> None:
        """It is open no more."""
        with redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(_OPEN, f"{video_id} {owner}")
            pipe.srem(_owned(owner), video_id)
            await pipe.execute()

    async def idle_since(self, before: float) -> list[tuple[str, str]]:
        """Id and owner of open uploads that were last looked at before a Unix time."""
        return [(row[:36], row[37:]) for row in await self._range(_OPEN, before)]

    async def is_idle(self, video_id: str, owner: str, before: float) -> bool:
        """Whether it is an open upload that was last looked at before a Unix time, as `idle_since` asks of all."""
        with redis_errors():
            looked_at = await self._redis.zscore(_OPEN, f"{video_id} {owner}")
        return looked_at is not None and looked_at <= before

    async def looked_at(self, video_id: str, owner: str, time: float) -> None:
        """Do not show it in `idle_since` for times before this one."""
        with redis_errors():
            await self._redis.zadd(_OPEN, {f"{video_id} {owner}": time}, xx=True)

    async def put_off_expiry(self, video_id: str, owner: str, until: float) -> None:
        """Show it in `idle_since` behind those that were looked at earlier; nothing happens where it was later."""
        with redis_errors():
            await self._redis.zadd(_OPEN, {f"{video_id} {owner}": until}, xx=True, gt=True)

    async def await_compaction(self, video_id: str, now: float) -> None:
        """Enter it among those to be compacted; before it is sealed, so that no crash can lose it."""
        with redis_errors():
            await self._redis.zadd(_SEALED, {video_id: now}, nx=True)

    async def to_compact(self, before: float) -> list[str]:
        """Those to be compacted that are not put off to a later time."""
        return await self._range(_SEALED, before)

    async def put_off_compaction(self, video_id: str, until: float) -> None:
        """Try it again later."""
        with redis_errors():
            await self._redis.zadd(_SEALED, {video_id: until}, xx=True)

    async def compaction_done(self, video_id: str) -> None:
        """Nothing is left to do for it."""
        with redis_errors():
            await self._redis.zrem(_SEALED, video_id)

    async def _range(self, name: str, before: float) -> list[str]:
        with redis_errors():
            rows: Any = await self._redis.zrange(name, "-inf", before, byscore=True, offset=0, num=_BATCH)
        return list(rows)


def _extent(video_id: str, member: str) -> Extent:
    name, length, _ = member.split(" ", 2)
    return Extent.of(journal_prefix(video_id) + name, int(length))


def _committed(text: str) -> Committed:
    offset, size, etag = text.split(" ", 2)
    return Committed(int(offset), int(size), etag, replayed=True)


def _fields(journal: Journal) -> dict[str, str]:
    return {
        "state": journal.state.value,
        "owner": journal.owner,
        "size": str(journal.size),
        "etag": journal.etag,
        "chunks": str(journal.chunks),
        "clips": str(journal.clips),
        "container": str(int(journal.container)),
        "modified": str(journal.modified),
        "multipart": journal.multipart,
        "object_key": journal.object_key,
    }


def _journal(video_id: str, fields: Mapping[str, str]) -> Journal:
    return Journal(
        video_id=video_id,
        owner=fields["owner"],
        state=JournalState(fields["state"]),
        size=int(fields["size"]),
        etag=fields["etag"],
        chunks=int(fields["chunks"]),
        clips=int(fields["clips"]),
        container=media_pb2.Container.ValueType(int(fields["container"])),
        modified=float(fields["modified"]),
        multipart=fields["multipart"],
        object_key=fields["object_key"],
    )
