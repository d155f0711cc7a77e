"""Giving a video's bytes out, whatever dialect asks: hot blocks from memory, the rest from the stream service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from reelway.v1 import stream_pb2

from gateway.block_cache import BLOCK, BlockCache, BlockKey
from gateway.stream_backend import StreamBackend
from gateway.windows import Windows
from services.common import tasks
from services.common.bounded_cache import BoundedCache
from services.common.byte_messages import Buffer
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import STAT_SECONDS

_SHORT = 2**20
"""Up to here one unary call is cheaper than a stream."""
_STATS = 10_000
JOIN_SECONDS = 300.0
"""How long a viewer waits for clips to be joined before it is told to come back."""


class Playback:
    """Reads videos for the calling user."""

    def __init__(self, backend: StreamBackend, cache: BlockCache, access_ttl_seconds: float) -> None:
        self._backend, self._cache, self._ttl = backend, cache, access_ttl_seconds
        self._stats = BoundedCache[tuple[str, str], tuple[float, stream_pb2.StatResponse]](_STATS)
        self._asking = tasks.SingleFlight[tuple[str, str], stream_pb2.StatResponse]()
        self._windows = Windows(backend)

    async def stat(self, video_id: str) -> stream_pb2.StatResponse:
        """What a reader must know, as of at most a second ago; VIDEO_NOT_FOUND."""
        key = (video_id, current_caller().user)
        now = asyncio.get_running_loop().time()
        hit = self._stats.get(key)
        if hit is None or not self._ttl:
            return await self._remembered(key, now)
        if hit[0] > now:
            return hit[1]
        # Its bytes are final. Who may see them is asked again, once for all who come meanwhile.
        return await self._asking.run(key, lambda: self._remembered(key, now))

    async def _remembered(self, key: tuple[str, str], now: float) -> stream_pb2.StatResponse:
        stat = await self._stat(key[0])
        if stat.sealed:
            self._stats[key] = (now + self._ttl, stat)
        return stat

    async def _stat(self, video_id: str) -> stream_pb2.StatResponse:
        """Asked again while clips are joined, for as long as a client may wait."""
        patience = asyncio.get_running_loop().time() + JOIN_SECONDS
        while True:
            try:
                return await self._backend.stat(stream_pb2.StatRequest(video_id=video_id))
            except ReelwayError as error:
                if error.reason is not ErrorReason.JOINING or asyncio.get_running_loop().time() > patience:
                    raise
            await asyncio.sleep(0.2)

    async def presigned_url(self, video_id: str, seconds: int, content_type: str, disposition: str) -> str:
        """An address at which the client reads the object from the store itself; VIDEO_NOT_FOUND, NOT_SEALED."""
        return await self._backend.presign(
            stream_pb2.PresignReadRequest(
                video_id=video_id,
                expires_seconds=seconds,
                content_type=content_type,
                content_disposition=disposition,
            )
        )

    async def read(
        self, stat: stream_pb2.StatResponse, offset: int, length: int
    ) -> AsyncGenerator[Sequence[Buffer], None]:
        """Exactly these bytes of the version that `stat` describes; errors as StreamService.Read says."""
        begin, end = offset, offset + length
        while offset < end:
            if hot := self._in_memory(stat, offset, end):
                if offset > begin:
                    await self._require_visible(stat.video_id)
                yield hot
                offset += sum(map(len, hot))
                continue
            if end - offset <= _SHORT and (piece := await self._at_once(stat, offset, end)) is not None:
                yield (piece,)
                offset += len(piece)
            else:
                run_end = self._end_of_run(stat, offset, end)
                admission = _Admission(self._cache, stat, offset)
                async with contextlib.aclosing(self._windows.read(stat, offset, run_end)) as chunks:
                    async for chunk in chunks:
                        admission.add(chunk)
                        yield (chunk,)
                offset = run_end

    async def _at_once(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> Buffer | None:
        """A short range, or the block that it begins in, in one call.

        None where that lasts too long, as for thousands of chunks of a few bytes, or finds no room, for which windows
        wait their turn.
        """
        key = BlockKey(stat.video_id, stat.etag, offset // BLOCK)
        try:
            if stat.sealed and self._cache.is_wanted(key):
                return _cut(await self._cache.load(key, partial(self._fetch_block, stat, key)), offset, end)
            if key.number != (end - 1) // BLOCK:
                self._cache.is_wanted(key._replace(number=key.number + 1))
            return await self._backend.read_range(stat.video_id, stat.etag, offset, end - offset)
        except ReelwayError as error:
            if error.reason not in {ErrorReason.TIMEOUT, ErrorReason.TOO_MANY_REQUESTS}:
                raise
        return None

    def _in_memory(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> list[Buffer]:
        """The beginning of the range, as far as its blocks are here; at most a block's length.

        A viewer has the same time for it as for one chunk of a stream, however much there is at once.
        """
        end = min(end, offset + BLOCK)
        found: list[Buffer] = []
        while stat.sealed and offset < end:
            block = self._cache.get(BlockKey(stat.video_id, stat.etag, offset // BLOCK))
            if block is None:
                break
            found.append(_cut(block, offset, end))
            offset += len(found[-1])
        return found

    async def _require_visible(self, video_id: str) -> None:
        """VIDEO_NOT_FOUND once the caller may not see it any more, which nobody else says of what is in memory.

        Where that cannot be told at once, the viewer goes on.
        """
        try:
            # Longer than a replica that hangs is waited for before another one is asked.
            async with asyncio.timeout(STAT_SECONDS + 1):
                await self.stat(video_id)
        except TimeoutError:
            pass
        except ReelwayError as error:
            if error.reason is ErrorReason.VIDEO_NOT_FOUND:
                raise

    async def _fetch_block(self, stat: stream_pb2.StatResponse, key: BlockKey) -> bytes:
        start = key.number * BLOCK
        length = min(BLOCK, stat.size_bytes - start)
        return bytes(await self._backend.read_range(stat.video_id, stat.etag, start, length))

    def _end_of_run(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> int:
        """Where the next block begins that is in memory already; `end` if none is."""
        if not stat.sealed:
            return end
        number = self._cache.first_within(stat.video_id, stat.etag, range(offset // BLOCK + 1, -(-end // BLOCK)))
        return end if number is None else number * BLOCK


def _cut(block: bytes, offset: int, end: int) -> Buffer:
    """What of the block that `offset` lies in belongs to the range up to `end`."""
    start, length = offset % BLOCK, end - offset
    return block if not start and length >= len(block) else memoryview(block)[start : start + length]


class _Admission:
    """Puts together the blocks of a stream that are worth keeping."""

    def __init__(self, cache: BlockCache, stat: stream_pb2.StatResponse, offset: int) -> None:
        self._cache, self._stat, self._offset = cache, stat, offset
        self._pieces: list[memoryview] | None = None
        self._begin_block()

    def _begin_block(self) -> None:
        self._key = BlockKey(self._stat.video_id, self._stat.etag, self._offset // BLOCK)
        wanted = self._stat.sealed and self._cache.is_wanted(self._key)
        # A block that the stream enters in its middle is not whole.
        self._pieces = [] if wanted and self._offset % BLOCK == 0 else None

    def add(self, chunk: memoryview) -> None:
        """The next bytes of the stream."""
        if not self._stat.sealed:
            return
        while chunk:
            block_end = min((self._key.number + 1) * BLOCK, self._stat.size_bytes)
            taken = chunk[: block_end - self._offset]
            if self._pieces is not None:
                self._pieces.append(taken)
            self._offset += len(taken)
            if self._offset == block_end:
                if self._pieces is not None:
                    self._cache.put(self._key, b"".join(self._pieces))
                self._begin_block()
            chunk = chunk[len(taken) :]
