"""A long range comes in windows: what one does not give is asked for again, and what nobody reads runs out."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import pytest
from reelway.v1 import stream_pb2

from gateway.block_cache import BlockCache
from gateway.operations.playback import Playback
from gateway.windows import _TURNS
from services.common.backoff import Backoff
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.waiting import until

MESSAGE = 2**19
DATA = random.Random(5).randbytes(6 * 2**20)
STAT = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=len(DATA))
GONE = ReelwayError(ErrorReason.STORE_UNAVAILABLE)


@pytest.fixture(autouse=True)
def _no_pauses_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.windows._TURNS", replace(_TURNS, first_seconds=0))


class Window:
    """Gives its bytes in messages, and then its end, which may be an error or never come."""

    def __init__(self, data: bytes, end: Any = grpc.aio.EOF) -> None:
        self.messages = [data[at : at + MESSAGE] for at in range(0, len(data), MESSAGE)]
        self.size, self.end = len(data), end
        self.was_cancelled = False

    async def read(self) -> Any:
        if self.messages:
            return memoryview(self.messages.pop(0))
        if isinstance(self.end, asyncio.Event):
            await self.end.wait()
        if isinstance(self.end, Exception):
            raise self.end
        return self.end

    def cancel(self) -> None:
        self.was_cancelled = True


class Windows:
    """Every window that was opened; where `end` is given, the first and the third have it after one message."""

    def __init__(self, end: Any = None) -> None:
        self.opened: list[Window] = []
        self._end = end
        self.full: ReelwayError | None = None
        """What the next window is refused with."""

    def open_window(self, video_id: str, etag: str, offset: int, length: int) -> Window:
        assert offset + length <= len(DATA)
        if self.full is not None:
            self.opened.append(Window(b"", self.full))
            self.full = None
            return self.opened[-1]
        if self._end is not None and len(self.opened) in {0, 2}:
            self.opened.append(Window(DATA[offset : offset + MESSAGE], self._end))
        else:
            self.opened.append(Window(DATA[offset : offset + length]))
        return self.opened[-1]

    def videos(self, refusal: ReelwayError | None = None, cached: int = 0) -> Playback:
        """Which reads them; short ranges are refused so."""
        backend = Mock(open_window=self.open_window, read_range=AsyncMock(side_effect=refusal))
        return Playback(backend, BlockCache(cached), 0)


@pytest.mark.parametrize(
    ("quick_seconds", "longest", "sizes"), [(5, 2**26, [1, 4, 1]), (5, 2**21, [1, 2, 2, 1]), (0, 2**26, [1] * 6)]
)
async def test_windows_grow_where_they_are_taken_quickly_and_no_byte_is_asked_for_twice(
    monkeypatch: pytest.MonkeyPatch, quick_seconds: float, longest: int, sizes: list[int]
) -> None:
    monkeypatch.setattr("gateway.windows._QUICK_SECONDS", quick_seconds)
    monkeypatch.setattr("gateway.windows.LONGEST_WINDOW", longest)
    windows, given = Windows(), b""
    async for batch in windows.videos().read(STAT, 0, len(DATA)):
        given += b"".join(batch)
        opened = sum(window.size for window in windows.opened)
        assert opened == len(DATA) or opened - len(given) >= 2**20, "the next one is opened so long before"
        assert opened - windows.opened[-1].size - len(given) <= 2**20, "and no sooner"
    assert given == DATA
    assert [window.size for window in windows.opened] == [size * 2**20 for size in sizes]


@pytest.mark.parametrize("end", [grpc.aio.EOF, GONE], ids=["early", "with an error"])
async def test_what_a_window_does_not_give_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, end: Any) -> None:
    windows = Windows(end)
    videos = windows.videos()
    # One failure is borne behind every byte that came.
    monkeypatch.setattr("gateway.windows._AGAIN", Backoff(attempts=2, first_seconds=0.01))
    given = [bytes(piece) async for batch in videos.read(STAT, 0, len(DATA)) for piece in batch]
    assert b"".join(given) == DATA
    # The second and the fourth were opened ahead, for bytes behind those that were missing then.
    await until(lambda: not any(window.messages for window in windows.opened))
    assert not any(window.was_cancelled for window in windows.opened)


@pytest.mark.parametrize("reason", [ErrorReason.TIMEOUT, ErrorReason.TOO_MANY_REQUESTS])
@pytest.mark.parametrize("sealed", [False, True])
async def test_a_short_range_that_lasts_too_long_or_finds_no_room_comes_in_a_window(
    sealed: bool, reason: ErrorReason
) -> None:
    """It may lie in thousands of chunks of a few bytes: each try would end as the first one. Windows wait for room.

    That of a sealed video is looked for as a block, to be kept, where it is read again.
    """
    windows = Windows()
    videos = windows.videos(ReelwayError(reason), cached=2**20)
    for _ in range(2):
        stat = stream_pb2.StatResponse(video_id="v", etag='"e"', size_bytes=len(DATA), sealed=sealed)
        given = [bytes(piece) async for batch in videos.read(stat, 5, 100_000) for piece in batch]
        assert b"".join(given) == DATA[5:100_005]
    assert [window.size for window in windows.opened] == [100_000] * 2


async def test_whoever_leaves_has_the_windows_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled call costs grpc.aio memory for ever. Nor is it cancelled later, as one whose viewer stalls."""
    monkeypatch.setattr("gateway.windows._STALL_SECONDS", 0.02)
    windows = Windows()
    videos = windows.videos()
    reading = videos.read(STAT, 0, len(DATA))
    await anext(reading)
    await reading.aclose()
    assert len(windows.opened) == 2
    await until(lambda: not any(window.messages for window in windows.opened))
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    other = videos.read(STAT, 0, len(DATA))
    await anext(other)
    await other.aclose()
    await asyncio.sleep(0.03)
    assert not any(window.was_cancelled for window in windows.opened)


async def test_a_window_that_does_not_run_out_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.windows._LEFT_BEHIND_SECONDS", 0.05)
    windows = Windows(asyncio.Event())
    videos = windows.videos()
    reading = videos.read(STAT, 0, len(DATA))
    await anext(reading)
    await reading.aclose()
    await until(lambda: windows.opened[0].was_cancelled)


async def test_whoever_stalls_holds_no_window_and_gets_every_byte_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.windows._STALL_SECONDS", 0.05)
    windows = Windows()
    reading = windows.videos().read(STAT, 0, len(DATA))
    given = list(await anext(reading))
    await until(lambda: [window.was_cancelled for window in windows.opened] == [True, True])
    given += [piece async for batch in reading for piece in batch]
    assert b"".join(given) == DATA
    assert windows.opened[2].size == 2**20, "as for one who has just come"


async def test_whoever_waits_for_the_store_neither_stalls_nor_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.windows._STALL_SECONDS", 0.02)
    hangs = asyncio.Event()
    windows = Windows(hangs)
    videos = windows.videos()
    reading = videos.read(STAT, 0, len(DATA))
    await anext(reading)
    waits = asyncio.ensure_future(anext(reading))
    await asyncio.wait([waits], timeout=0.03)
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert not any(window.was_cancelled for window in windows.opened)
    hangs.set()
    await waits


async def test_where_there_is_no_room_whoever_has_waited_longest_for_his_viewer_makes_some() -> None:
    windows = Windows()
    videos = windows.videos()
    first, second = (videos.read(STAT, 0, len(DATA)) for _ in range(2))
    given = [*await anext(first)], [*await anext(second)]
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    third = videos.read(STAT, 0, len(DATA))
    batch = await anext(third)
    assert [window.was_cancelled for window in windows.opened[:4]] == [True, True, False, False]
    for reading, before in ((first, given[0]), (second, given[1]), (third, [*batch])):
        assert b"".join([*before, *[piece async for batch in reading for piece in batch]]) == DATA


async def test_where_there_was_no_room_a_moment_ago_no_window_is_opened_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers who each have one and the next would take them from each other in turns."""
    windows = Windows()
    videos = windows.videos()
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    reading = videos.read(STAT, 0, len(DATA))
    given = [*await anext(reading)]
    assert [window.size for window in windows.opened] == [0, 2**20]
    assert b"".join([*given, *[piece async for batch in reading for piece in batch]]) == DATA
    assert len(windows.opened) == 1 + len(DATA) // 2**20
    monkeypatch.setattr(videos._windows, "crowded_until", 0)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert [window.size for window in windows.opened[-2:]] == [2**20, 4 * 2**20]


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        (ErrorReason.TOO_MANY_REQUESTS, 40),
        (ErrorReason.SERVICE_UNAVAILABLE, 10),
        (ErrorReason.STORE_UNAVAILABLE, 10),
        (ErrorReason.TIMEOUT, 10),
        (ErrorReason.VIDEO_CHANGED, 1),
    ],
)
async def test_room_is_waited_for_longer_than_a_replica_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, reason: ErrorReason, refused: int
) -> None:
    opened = list[Window]()

    def open_window(*what: Any) -> Window:
        opened.append(Window(b"", ReelwayError(reason)))
        return opened[-1]

    videos = Playback(Mock(open_window=open_window), BlockCache(0), 0)
    monkeypatch.setattr("gateway.windows._AGAIN", Backoff(attempts=10, first_seconds=0))
    with pytest.raises(ReelwayError):
        await anext(videos.read(STAT, 0, len(DATA)))
    assert len(opened) == refused


async def test_nobody_gives_up_what_the_gateway_has_already() -> None:
    """It would make no room, and be asked for again."""
    windows = Windows()
    videos = windows.videos()
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    slow = videos.read(STAT, 0, len(DATA))
    await anext(slow)
    assert windows.opened[-1].messages, "the rest of the window, and none ahead"
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert not any(window.was_cancelled for window in windows.opened)


async def test_after_a_window_that_failed_they_begin_small_again() -> None:
    """A viewer who was fast, and lets a long one time out, would hold the room of a long one from then on."""
    windows = Windows()
    videos = windows.videos()
    reading = videos.read(STAT, 0, len(DATA))
    for _ in range(3):
        await anext(reading)
    long = windows.opened[-1]
    assert long.size == 4 * 2**20
    long.messages, long.end = [], ReelwayError(ErrorReason.TIMEOUT)
    await anext(reading)
    assert windows.opened[2].size == 2**20


async def test_who_has_waited_long_for_room_asks_as_often_as_who_has_just_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.windows._TURNS", _TURNS)
    pauses = list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    refused = Window(b"", ReelwayError(ErrorReason.TOO_MANY_REQUESTS))
    with pytest.raises(ReelwayError):
        await anext(Playback(Mock(open_window=lambda *_: refused), BlockCache(0), 0).read(STAT, 0, len(DATA)))
    assert max(pauses) <= 2 * min(pauses)
    assert 20 < sum(pauses) < 40


async def test_who_waits_for_room_waits_as_long_where_a_replica_dies_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is given up when there is room again for all others."""
    monkeypatch.setattr("gateway.windows._CROWDED_SECONDS", 0)
    refusals = [ReelwayError(ErrorReason.TOO_MANY_REQUESTS)] * 12 + [GONE]
    opened = [Window(b"", refusal) for refusal in refusals] + [Window(DATA[: 2**20])] * 2
    videos = Playback(Mock(open_window=Mock(side_effect=opened)), BlockCache(0), 0)
    monkeypatch.setattr("gateway.windows._AGAIN", Backoff(attempts=10, first_seconds=0))
    assert await anext(videos.read(STAT, 0, len(DATA)))


async def test_whoever_has_given_his_windows_up_already_is_not_asked_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows()
    videos = windows.videos()
    monkeypatch.setattr("gateway.windows._STALL_SECONDS", 0.05)
    stalled = videos.read(STAT, 0, len(DATA))
    await anext(stalled)
    await until(lambda: [window.was_cancelled for window in windows.opened] == [True, True])
    monkeypatch.setattr("gateway.windows._STALL_SECONDS", 60)
    slow = videos.read(STAT, 0, len(DATA))
    await anext(slow)
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert [window.was_cancelled for window in windows.opened[2:4]] == [True, True]


async def test_whoever_has_left_is_not_asked_for_room() -> None:
    windows = Windows()
    videos = windows.videos()
    left, slow = videos.read(STAT, 0, len(DATA)), videos.read(STAT, 0, len(DATA))
    await anext(left)
    await left.aclose()
    await anext(slow)
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert [window.was_cancelled for window in windows.opened[2:4]] == [True, True]


async def test_whoever_is_slow_in_the_midst_of_a_long_window_makes_room() -> None:
    windows = Windows()
    videos = windows.videos()
    slow = videos.read(STAT, 0, len(DATA))
    for _ in range(3):
        await anext(slow)
    long = windows.opened[-1]
    assert long.size == 4 * 2**20
    windows.full = ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
    await anext(videos.read(STAT, 0, len(DATA)))
    assert long.was_cancelled
