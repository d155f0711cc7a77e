"""Each answer of Redis and of the store gets lost once, in a step of an upload; its client asks again."""

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from reelway.v1 import media_pb2

from services.common.caller import current_caller
from services.common.errors import ReelwayError
from services.common.object_keys import JOURNALS
from tests.integration.journal_parts.rig import ORPHAN_SECONDS, Rig
from tests.support.clips import WEBM
from tests.support.foundation import as_user
from tests.support.lost_replies import reply_lost


async def _growing(rig: Rig) -> str:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    return video_id


async def _without_journal(rig: Rig) -> str:
    video_id = await _growing(rig)
    await rig.store.drop(video_id)
    await rig.store.leave(video_id, current_caller().user)
    return video_id


async def _append(rig: Rig, video_id: str) -> None:
    await rig.append(video_id, b"more", idempotency_key="more")


async def _seal(rig: Rig, video_id: str) -> None:
    await rig.sealing.seal(video_id, ())


@pytest.mark.parametrize(
    ("begin", "step", "data", "state"),
    [
        (_growing, _append, WEBM + b"more", media_pb2.VIDEO_STATE_UPLOADING),
        (_without_journal, _append, WEBM + b"more", media_pb2.VIDEO_STATE_UPLOADING),
        (_growing, _seal, WEBM, media_pb2.VIDEO_STATE_READY),
    ],
    ids=["append", "append to what Redis lost", "seal"],
)
async def test_a_step_that_is_repeated_behind_a_lost_answer_is_taken_once(
    rig: Rig,
    begin: Callable[[Rig], Awaitable[str]],
    step: Callable[[Rig, str], Awaitable[Any]],
    data: bytes,
    state: media_pb2.VideoState.ValueType,
) -> None:
    videos = list[str]()
    for number in itertools.count(1):
        # Nobody has more than ten.
        as_user(f"user {number}")
        videos.append(await begin(rig))
        with reply_lost(number) as calls, contextlib.suppress(ReelwayError):
            await step(rig, videos[-1])
        if calls.made < number:
            break
        await step(rig, videos[-1])
    await rig.appends.undoing.wait()
    rig.parts.clock.ahead = ORPHAN_SECONDS + 60
    await rig.sweeper.expire_idle()
    await rig.sweeper.sweep_orphans()
    assert [await rig.whole(video_id) for video_id in videos] == [data] * len(videos)
    assert {(await rig.parts.catalog.look_up(video_id)).state for video_id in videos} == {state}
    growing = set(videos) if state == media_pb2.VIDEO_STATE_UPLOADING else set()
    assert {video_id for video_id, _ in await rig.store.idle_since(float("inf"))} == growing
    chunks = [info.key async for info in rig.parts.objects.list(JOURNALS)]
    assert len(chunks) == len(videos) * (1 + data.endswith(b"more"))
