"""Giving a video's bytes out, whatever dialect asks: windows from the stream service, hot blocks from memory.

The stream service is asked for windows, each longer than the one before, the next one while the last one is still
being sent. So a viewer that seeks or leaves costs no more than a few times what it took, no call is cancelled on the
normal path, and a replica that dies costs the rest of a window, which another one serves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

import grpc
from reelway.v1 import stream_pb2

from gateway.block_cache import BLOCK, BlockCache, BlockKey
from gateway.stall_watch import StallWatch
from gateway.stream_backend import StreamBackend, Window
from services.common import logs, tasks
from services.common.backoff import Backoff
from services.common.bounded_cache import BoundedCache
from services.common.byte_messages import Buffer
from services.common.caller import current_caller
from services.common.channel import LOOKAHEAD_BYTES
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.request_limits import LONGEST_WINDOW, STAT_SECONDS

log = logs.get_logger(__name__)

_FIRST_WINDOW = 2**20
_GROWTH = 4
"""Each window is so many times the one before, up to LONGEST_WINDOW: a store that reads ahead of each request does so
in vain at its end, so one long request costs half the CPU of sixteen short ones."""
_QUICK_SECONDS = 5.0
"""Only a window that was taken so fast is followed by a longer one: a slow viewer's would meet its deadline."""
_STALL_SECONDS = 15.0
"""The windows of a viewer who takes a message for so long are given up: they are buffers in two processes, for somebody
who pauses, or never reads on. Who does is asked for the rest anew."""
_AHEAD = 2**20
"""The next window is opened so many bytes before the end of the one before: it hides the store's latency."""
_SHORT = 2**20
"""Up to here one unary call is cheaper than a stream."""
_LEFT_BEHIND_SECONDS = 15.0
_STATS = 10_000
JOIN_SECONDS = 300.0
"""How long a viewer waits for clips to be joined before it is told to come back."""
_WINDOW_TRIES = 10
"""Six to eleven seconds without a byte: a replica that came back is dialled again two seconds later at the latest."""
_TURNS = Backoff(attempts=40, first_seconds=1.0, longest_seconds=1.0)
"""Where no replica has room, half a minute: viewers who take turns have buffers. Nobody's pauses grow, or whoever has
waited longest would ask least often, and wait on."""
_CROWDED_SECONDS = 5.0
"""So long after a window found no room none is opened ahead: those who come to its end need it more."""
# A window that fails so may go well on another replica, or a moment later.
_AGAIN = {
    ErrorReason.SERVICE_UNAVAILABLE,
    ErrorReason.STORE_UNAVAILABLE,
    ErrorReason.TIMEOUT,
    ErrorReason.TOO_MANY_REQUESTS,
}


class Playback:
    """Reads videos for the calling user."""

    def __init__(self, backend: StreamBackend, cache: BlockCache, access_ttl_seconds: float) -> None:
        self._backend, self._cache, self._ttl = backend, cache, access_ttl_seconds
        self._stats = BoundedCache[tuple[str, str], tuple[float, stream_pb2.StatResponse]](_STATS)
        self._asking = tasks.SingleFlight[tuple[str, str], stream_pb2.StatResponse]()
        self._backoff = Backoff(attempts=_WINDOW_TRIES)
        self._left_behind = tasks.Background()
        self._waiting = OrderedDict[StallWatch, Callable[[], None]]()
        """What gives the windows up of each viewer who takes a message and has some; who began first comes first."""
        self._crowded_until = 0.0

    async def stat(self, video_id: str) -> stream_pb2.StatResponse:
        """What a reader must know, as of at most a second ago; VIDEO_NOT_FOUND."""
        key = (video_id, current_caller().user)
        now = asyncio.get_running_loop().time()
        hit = self._stats.get(key)
        if hit is None or not self._ttl:
            return await self._remembered(key, now)
        if hit[0] > now:
            return hit[1]
        # Its bytes are final, only who may see them is asked again: by one for all who come meanwhile.
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
                async with contextlib.aclosing(self._stream(stat, offset, run_end)) as chunks:
                    async for chunk in chunks:
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
            # Longer than it is waited for a replica that hangs before another one is asked.
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

    async def _stream(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> AsyncGenerator[memoryview, None]:
        """The run in windows, the next one opened while the last message of the one before is sent."""
        window: Window | None = None
        ahead: Window | None = None
        size, attempt, now = _FIRST_WINDOW, 0, asyncio.get_running_loop().time
        window_end, began, patience = offset, now(), self._backoff
        admit = _Admission(self._cache, stat, offset)

        def give_up() -> None:
            nonlocal window, ahead, size
            self._waiting.pop(watch, None)
            for call in (window, ahead):
                if call is not None:
                    # Not left to run out, as those of viewers who go: of a long one that would be much, at each pause.
                    call.cancel()
            window = ahead = None
            size = _FIRST_WINDOW

        watch = StallWatch(_STALL_SECONDS, give_up)
        try:
            while offset < end:
                if window is None or offset >= window_end:
                    window_end, began = min(end, offset + size), now()
                    window, ahead = ahead or self._open(stat, offset, window_end), None
                try:
                    chunk = await _next(window)
                except ReelwayError as error:
                    attempt += 1
                    crowded = error.reason is ErrorReason.TOO_MANY_REQUESTS
                    if crowded:
                        self._crowded_until, patience = now() + _CROWDED_SECONDS, _TURNS
                    if error.reason not in _AGAIN or attempt >= patience.attempts:
                        raise
                    log.info("window failed, asking again", why=str(error), attempt=attempt)
                    if crowded and self._waiting:
                        # Whoever has been slowest makes room, and asks anew.
                        next(iter(self._waiting.values()))()
                    if ahead is not None:
                        # It begins behind what is missing now.
                        self._leave(ahead)
                    window = ahead = None
                    # A long one takes twice the room, of which there is none, or its viewer is fast no more.
                    size = _FIRST_WINDOW
                    await asyncio.sleep(patience.pause(attempt))
                    continue
                attempt, patience, offset = 0, self._backoff, offset + len(chunk)
                in_reach = window_end - offset <= _AHEAD and window_end < end
                if ahead is None and in_reach and now() >= self._crowded_until:
                    if now() - began < _QUICK_SECONDS:
                        size = min(_GROWTH * size, LONGEST_WINDOW)
                    ahead = self._open(stat, window_end, min(end, window_end + size))
                admit.add(chunk)
                # Of a window whose end is here the replica is done with all: it would make no room.
                if ahead is not None or window_end - offset > LOOKAHEAD_BYTES:
                    self._waiting[watch] = give_up
                watch.begin()
                yield chunk
                watch.end()
                self._waiting.pop(watch, None)
        finally:
            watch.close()
            self._waiting.pop(watch, None)
            for call in (window, ahead):
                if call is not None:
                    self._leave(call)

    def _open(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> Window:
        return self._backend.open_window(stat.video_id, stat.etag, offset, end - offset)

    def _leave(self, call: Window) -> None:
        """Let a window run out unread: a cancelled stream costs grpc.aio memory that it never gives back."""
        self._left_behind.start(_run_out(call))


def _cut(block: bytes, offset: int, end: int) -> Buffer:
    """What of the block that `offset` lies in belongs to the range up to `end`."""
    start, length = offset % BLOCK, end - offset
    return block if not start and length >= len(block) else memoryview(block)[start : start + length]


async def _next(window: Window) -> memoryview:
    """The next message of a window; STORE_UNAVAILABLE where it ends before its time."""
    try:
        chunk = await window.read()
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure) from None
    if not isinstance(chunk, memoryview):
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
    return chunk


async def _run_out(call: Window) -> None:
    try:
        async with asyncio.timeout(_LEFT_BEHIND_SECONDS):
            while await call.read() is not grpc.aio.EOF:
                pass
    except (grpc.aio.AioRpcError, TimeoutError):
        call.cancel()


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
