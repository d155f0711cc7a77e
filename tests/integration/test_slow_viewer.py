"""The gateway's reads for a viewer who is too slow for the deadline of a window."""

import asyncio

import grpc
import pytest

from gateway import stream_backend
from gateway.block_cache import BlockCache
from gateway.operations.playback import Playback
from gateway.stream_backend import StreamBackend, Window
from services.common.caller import Caller, set_caller
from services.common.channel import open_channel
from tests.support.clips import mp4_of
from tests.support.system import RunningSystem
from tests.support.videos_api import videos_api

DATA = mp4_of(4 * 2**20 + 4321, seed=33)


class Windows(StreamBackend):
    """Keeps the windows that it opens."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.opened: list[Window] = []

    def open_window(self, video_id: str, etag: str, offset: int, length: int) -> Window:
        window = super().open_window(video_id, etag, offset, length)
        self.opened.append(window)
        return window

    async def count(self, code: grpc.StatusCode) -> int:
        """How many have ended so."""
        return sum([await window.code() is code for window in self.opened if window.done()])


async def test_whoever_is_too_slow_for_a_window_gets_every_byte_once(
    system: RunningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_backend, "WINDOW_SECONDS", 0.4)
    async with videos_api(system.base_url) as api:
        video_id = await api.new_video(DATA)
    set_caller(Caller(request_id="slow"))
    async with open_channel(system.process("stream").listen) as channel:
        backend = Windows(channel)
        playback = Playback(backend, BlockCache(0), 1)
        received = bytearray()
        async for pieces in playback.read(await playback.stat(video_id), 0, len(DATA)):
            received += b"".join(pieces)
            # Of half a megabyte at most: the second window would take longer than it has.
            await asyncio.sleep(0.12)
        assert await backend.count(grpc.StatusCode.DEADLINE_EXCEEDED) >= 1
    assert received == DATA
