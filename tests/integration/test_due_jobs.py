"""What becomes of a video whose job ends without an outcome: on a real queue, with the test as the worker."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock, Mock

import grpc
import pytest
from prometheus_client import REGISTRY
from reelway.v1 import media_pb2
from structlog.testing import capture_logs

from services.catalog.due_jobs import DueJobs
from services.catalog.memberships import PROCESSING
from services.catalog.processing import Processing
from services.common.caller import SYSTEM_USER, set_caller, system_caller
from services.common.channel import open_channel
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault, JobLease, NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.redis_job_store import Holding, RedisJobStore
from tests.support.fleet import Fleet
from tests.support.foundation import Foundation, Store, foundation
from tests.support.servers import S3Server


class Rig:
    """One upload that arrived, the catalog's look at what is due, and the queue as a worker sees it."""

    def __init__(self, parts: Foundation, due: DueJobs, queue: RedisJobStore, video_id: str) -> None:
        self._parts, self._due, self._queue, self.video_id = parts, due, queue, video_id

    async def look(self, after: float) -> JobLease | None:
        """What a worker gets once the catalog has looked, its clock so many seconds ahead of the queue's."""
        self._parts.clock.ahead = after
        await self._due.look()
        return await self.claim()

    async def pause(self) -> float:
        """Seconds until the catalog looks after the video's job again."""
        at = await self._parts.redis.zscore(PROCESSING, self.video_id)
        assert at is not None
        return float(at) - self._parts.clock.seconds()

    async def add_for(self, share: str) -> None:
        """A job that looks at another user's upload."""
        new = NewJob(str(uuid.uuid4()), JobKind.PROBE, SYSTEM_USER, {}, Priority.INTERACTIVE, share=share)
        await self._queue.register(new)

    async def claim(self) -> JobLease | None:
        return await self._queue.claim("worker", uuid.uuid4().hex, [JobKind.PROBE])

    async def fail(self, lease: JobLease | None, reason: TaskFailure) -> None:
        assert lease is not None
        assert await self._queue.fail(lease, JobFault(reason, "as scripted")) == "failed"

    async def complete(self, lease: JobLease) -> None:
        assert await self._queue.complete(lease, {"outcome": "gone"}) is Holding.HELD

    async def state(self) -> media_pb2.VideoState.ValueType:
        video = await self._parts.videos.get(self.video_id)
        assert video is not None
        return video.state


@pytest.fixture
async def rig(juicefs_store: Store, clean_redis: str, juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[Rig]:
    [front] = Fleet(clean_redis, juicefs_s3, tmp_path, {}).add("ffmpeg")
    await front.start()
    try:
        async with (
            foundation(juicefs_store, clean_redis) as parts,
            open_channel(front.listen) as ffmpeg,
            connect(RedisSettings(redis_url=clean_redis)) as redis,
        ):
            set_caller(system_caller())
            processing = Processing(parts.catalog, parts.objects, parts.clock)
            video = media_pb2.Video(video_id=str(uuid.uuid4()), state=media_pb2.VIDEO_STATE_SIGNED)
            await parts.catalog.create(video, "anna")
            await processing.note_arrival(video.video_id, 5)
            due = DueJobs(processing, videos=parts.videos, ffmpeg=ffmpeg, clock=parts.clock)
            yield Rig(parts, due, RedisJobStore(redis, JobPolicy()), video.video_id)
    finally:
        await front.kill()


async def test_a_video_is_looked_at_in_the_turn_of_its_owner(rig: Rig) -> None:
    for _ in range(3):
        await rig.add_for("bob")
    first, second = await rig.look(0), await rig.claim()
    assert first is not None
    assert second is not None
    assert (first.job.spec, second.job.spec["video_id"]) == ({}, rig.video_id)


async def test_the_longer_a_job_lasts_the_rarer_it_is_looked_after(rig: Rig) -> None:
    """A queue of thousands of videos would cost as much for as long as it lasts."""
    pauses = list[float]()
    for age in (0, 60, 600, 86_400):
        await rig.look(age)
        pauses.append(await rig.pause())
    assert pauses == pytest.approx([30, 30, 150, 600], abs=10)


@pytest.mark.parametrize("fault", [ReelwayError(ErrorReason.SERVICE_UNAVAILABLE), RuntimeError("nobody foresaw this")])
async def test_a_video_that_cannot_be_seen_to_is_counted_and_holds_no_other_back(fault: Exception) -> None:
    claimed = AsyncMock(side_effect=[["bad", "good"], []])
    videos = Mock(get=AsyncMock(side_effect=[fault, None]), claim=claimed)
    ffmpeg = cast(grpc.aio.Channel, Mock())
    due = DueJobs(Mock(), videos=videos, ffmpeg=ffmpeg, clock=SystemClock())

    def put_off() -> float:
        return REGISTRY.get_sample_value("reelway_put_off_total", {"what": "job of a video"}) or 0

    before = put_off()
    with capture_logs() as lines:
        await due.look()
    assert [asked.args for asked in videos.get.await_args_list] == [("bad",), ("good",)]
    assert [(line["what"], line["video_id"]) for line in lines] == [("job of a video", "bad")]
    assert put_off() - before == 1


async def test_a_store_that_is_away_for_longer_than_a_jobs_tries_costs_no_video(rig: Rig) -> None:
    await rig.fail(await rig.look(0), TaskFailure.STORAGE_UNAVAILABLE)
    for pause in (60, 120, 240):
        assert await rig.look(pause - 20) is None
        await rig.fail(await rig.look(pause + 15), TaskFailure.STORAGE_UNAVAILABLE)
    assert await rig.state() == media_pb2.VIDEO_STATE_PROCESSING


async def test_what_no_try_can_mend_is_given_up_at_once(rig: Rig) -> None:
    await rig.fail(await rig.look(0), TaskFailure.INTERNAL)
    assert await rig.look(31) is None
    assert await rig.state() == media_pb2.VIDEO_STATE_FAILED


async def test_jobs_that_leave_no_outcome_come_to_an_end(rig: Rig) -> None:
    """As where the upload was lost from the store: its owner could not even delete it."""
    days = 0
    while lease := await rig.look(days * 86_400):
        assert await rig.look(days * 86_400 + 31) is None, "one at a time"
        await rig.complete(lease)
        days += 1
    assert 1 < days < 20
    assert await rig.state() == media_pb2.VIDEO_STATE_FAILED
