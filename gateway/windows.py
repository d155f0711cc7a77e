"""A run of a video's bytes from the stream service, in windows.

Each window is longer than the one before, and opened while the last of that one is still being sent. So a viewer that
seeks or leaves costs no more than a few times what it took, no call is cancelled on the normal path, and a replica that
dies costs the rest of a window, which another one serves.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator

import grpc
from reelway.v1 import stream_pb2

from gateway.stall_watch import StallWatch
from gateway.stream_backend import StreamBackend, Window
from services.common import logs, tasks
from services.common.backoff import Backoff
from services.common.channel import LOOKAHEAD_BYTES
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.request_limits import LONGEST_WINDOW

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
_LEFT_BEHIND_SECONDS = 15.0
_AGAIN = Backoff(attempts=10)
"""Six to eleven seconds without a byte: a replica that came back is dialled again two seconds later at the latest."""
_TURNS = Backoff(attempts=40, first_seconds=1.0, longest_seconds=1.0)
"""Where no replica has room, half a minute: viewers who take turns have buffers. Nobody's pauses grow, or whoever has
waited longest would ask least often, and wait on."""
_CROWDED_SECONDS = 5.0
"""So long after a window found no room none is opened ahead: those who come to its end need it more."""
# Failures that may pass: on another replica, or a moment later.
_PASSING = {
    ErrorReason.SERVICE_UNAVAILABLE,
    ErrorReason.STORE_UNAVAILABLE,
    ErrorReason.TIMEOUT,
    ErrorReason.TOO_MANY_REQUESTS,
}


class Windows:
    """Reads runs; where there is no room for all of their windows, slow viewers give up theirs."""

    def __init__(self, backend: StreamBackend) -> None:
        self._backend = backend
        self._left_behind = tasks.Background()
        self.crowded_until = 0.0
        """By the loop's clock: until then no window is opened ahead."""
        self.waiting = OrderedDict[_Run, None]()
        """The runs that have windows while their viewers take a message; who began first comes first."""

    def read(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> AsyncGenerator[memoryview, None]:
        """The bytes from `offset` to `end` of the version that `stat` describes; errors as StreamService.Read says."""
        return _Run(self, stat, offset, end).chunks()

    def open(self, stat: stream_pb2.StatResponse, offset: int, end: int) -> Window:
        """Begin a window."""
        return self._backend.open_window(stat.video_id, stat.etag, offset, end - offset)

    def leave(self, window: Window) -> None:
        """Let a window run out unread: a cancelled stream costs grpc.aio memory that it never gives back."""
        self._left_behind.start(_run_out(window))


class _Run:
    """One viewer's: `_window` is being read, `_ahead` the one behind it that is open already."""

    def __init__(self, windows: Windows, stat: stream_pb2.StatResponse, offset: int, end: int) -> None:
        self._windows, self._stat, self._offset, self._end = windows, stat, offset, end
        self._now = asyncio.get_running_loop().time
        self._watch = StallWatch(_STALL_SECONDS, self.give_up)
        self._window: Window | None = None
        self._ahead: Window | None = None
        self._size = _FIRST_WINDOW
        self._window_end, self._began = offset, 0.0
        self._attempt, self._patience = 0, _AGAIN

    async def chunks(self) -> AsyncGenerator[memoryview, None]:
        """All of it, a message at a time."""
        try:
            while self._offset < self._end:
                chunk = await self._next()
                if chunk is None:
                    continue
                self._took(len(chunk))
                self._watch.begin()
                yield chunk
                self._watch.end()
                self._windows.waiting.pop(self, None)
        finally:
            self._watch.close()
            self._windows.waiting.pop(self, None)
            for window in self._dropped():
                self._windows.leave(window)

    def give_up(self) -> None:
        """Free what the windows hold; the rest is asked for anew once the viewer reads on."""
        self._windows.waiting.pop(self, None)
        for window in self._dropped():
            # Unlike those of viewers who leave: to let a long one run out at each pause would cost much.
            window.cancel()

    async def _next(self) -> memoryview | None:
        """The next message; None where there was none, and it is to be asked for again."""
        if self._window is None or self._offset >= self._window_end:
            self._window_end, self._began = min(self._end, self._offset + self._size), self._now()
            self._window = self._ahead or self._windows.open(self._stat, self._offset, self._window_end)
            self._ahead = None
        try:
            return await _message(self._window)
        except ReelwayError as error:
            self._window = None
            await self._pause(error)
            return None

    async def _pause(self, error: ReelwayError) -> None:
        """Before the window is asked for again; raises `error` where that would not help."""
        self._attempt += 1
        crowded = error.reason is ErrorReason.TOO_MANY_REQUESTS
        if crowded:
            self._windows.crowded_until, self._patience = self._now() + _CROWDED_SECONDS, _TURNS
        if error.reason not in _PASSING or self._attempt >= self._patience.attempts:
            raise error
        log.info("window failed, asking again", why=str(error), attempt=self._attempt)
        if crowded and self._windows.waiting:
            # Whoever has been slowest makes room, and asks anew.
            next(iter(self._windows.waiting)).give_up()
        # The one ahead begins behind what is missing now.
        for window in self._dropped():
            self._windows.leave(window)
        await asyncio.sleep(self._patience.pause(self._attempt))

    def _took(self, size: int) -> None:
        """A message came: open the next window where this one's end is near."""
        self._attempt, self._patience = 0, _AGAIN
        self._offset += size
        near_end = self._window_end - self._offset <= _AHEAD and self._window_end < self._end
        if self._ahead is None and near_end and self._now() >= self._windows.crowded_until:
            if self._now() - self._began < _QUICK_SECONDS:
                self._size = min(_GROWTH * self._size, LONGEST_WINDOW)
            ahead_end = min(self._end, self._window_end + self._size)
            self._ahead = self._windows.open(self._stat, self._window_end, ahead_end)
        # Of a window that is all here, the replica is done with everything: giving it up would make no room.
        if self._ahead is not None or self._window_end - self._offset > LOOKAHEAD_BYTES:
            self._windows.waiting[self] = None

    def _dropped(self) -> list[Window]:
        """The windows that were open; the next one is short, for a slow viewer or for want of room."""
        dropped = [window for window in (self._window, self._ahead) if window is not None]
        self._window = self._ahead = None
        self._size = _FIRST_WINDOW
        return dropped


async def _message(window: Window) -> memoryview:
    """The next message of a window; STORE_UNAVAILABLE where it ends before its time."""
    try:
        message = await window.read()
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure) from None
    if not isinstance(message, memoryview):
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
    return message


async def _run_out(window: Window) -> None:
    try:
        async with asyncio.timeout(_LEFT_BEHIND_SECONDS):
            while await window.read() is not grpc.aio.EOF:
                pass
    except (grpc.aio.AioRpcError, TimeoutError):
        window.cancel()
