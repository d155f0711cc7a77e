"""What the gateway remembers of the stream service's answers: little, for a moment, for one user."""

import asyncio
from typing import Any, cast

import pytest
from reelway.v1 import stream_pb2

from gateway.block_cache import BlockCache
from gateway.operations.playback import Playback
from gateway.stream_backend import StreamBackend
from services.common.caller import NOBODY, Caller, current_caller, set_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.journal_client import refusal
from tests.support.waiting import until


class Stream:
    """Knows one private video, and counts who asked."""

    def __init__(self, *, sealed: bool = True) -> None:
        self.sealed = sealed
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def stat(self, request: stream_pb2.StatRequest) -> stream_pb2.StatResponse:
        user = current_caller().user
        self.asked.append(user)
        await self.may_answer.wait()
        if user != "anna":
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return stream_pb2.StatResponse(video_id=request.video_id, size_bytes=len(self.asked), sealed=self.sealed)


def playback(stream: Stream, ttl_seconds: float = 1000) -> Playback:
    return Playback(cast(StreamBackend, stream), BlockCache(0), ttl_seconds)


async def stat_as(user: str, playback: Playback) -> Any:
    set_caller(Caller(user))
    try:
        return await playback.stat("v1")
    finally:
        set_caller(NOBODY)


async def test_an_answer_is_remembered_for_its_user_alone() -> None:
    stream = Stream()
    videos = playback(stream)
    for _ in range(3):
        assert (await stat_as("anna", videos)).size_bytes == 1
    for user in ("berta", "", "berta"):
        assert await refusal(stat_as(user, videos)) is ErrorReason.VIDEO_NOT_FOUND
    assert stream.asked == ["anna", "berta", "", "berta"]


async def test_a_video_that_grows_is_looked_at_each_time() -> None:
    """Read your own writes: what was appended a moment ago is there."""
    stream = Stream(sealed=False)
    videos = playback(stream)
    assert [(await stat_as("anna", videos)).size_bytes for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("ttl_seconds", [0.05, 0])
async def test_an_answer_is_asked_for_again_when_it_is_old(ttl_seconds: float) -> None:
    stream = Stream()
    videos = playback(stream, ttl_seconds)

    async def asked_twice() -> bool:
        await stat_as("anna", videos)
        return len(stream.asked) == 2

    await until(asked_twice)


async def test_one_asks_again_for_all_who_come_meanwhile() -> None:
    """Many viewers of one video come to the end of the same second."""
    stream = Stream()
    videos = playback(stream, ttl_seconds=1e-9)
    await stat_as("anna", videos)
    stream.may_answer.clear()
    viewers = [asyncio.create_task(stat_as("anna", videos)) for _ in range(5)]
    await until(lambda: len(stream.asked) > 1)
    viewers[0].cancel()
    assert await asyncio.gather(viewers[0], return_exceptions=True)
    stream.may_answer.set()
    assert [stat.size_bytes for stat in await asyncio.gather(*viewers[1:])] == [2] * 4
    assert stream.asked == ["anna"] * 2


async def test_who_remembers_nothing_asks_each_time() -> None:
    stream = Stream()
    videos = playback(stream, 0)
    await stat_as("anna", videos)
    stream.may_answer.clear()
    viewers = [asyncio.create_task(stat_as("anna", videos)) for _ in range(3)]
    await until(lambda: len(stream.asked) == 4)
    stream.may_answer.set()
    await asyncio.gather(*viewers)
