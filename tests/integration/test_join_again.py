"""Which joins that have ended are made again, and when: on a real queue, with the test as the worker."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from reelway.v1 import ffmpeg_pb2

from services.common.caller import SYSTEM_USER
from services.common.channel import open_channel
from services.common.clip_joiner import ClipJoiner
from services.common.clock import SystemClock
from services.common.entity_tags import unquoted
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import joined_prefix
from services.common.redis_client import connect
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault, JobLease, NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.redis_job_store import Holding, RedisJobStore
from tests.support.fleet import Fleet
from tests.support.journal_client import open_objects, refusal
from tests.support.servers import S3Server
from tests.support.waiting import until

ETAG = f'"{"0" * 32}-10"'


class TurnedClock(SystemClock):
    """Some seconds ahead of the machine's."""

    ahead = 0.0

    def seconds(self) -> float:
        return super().seconds() + self.ahead


class Rig:
    """One video's clips, two processes that ask for the file, and the queue as a worker sees it."""

    def __init__(self, objects: S3Objects, joiners: list[ClipJoiner], clock: TurnedClock, store: RedisJobStore) -> None:
        self.objects, self.clock, self._joiners, self._store = objects, clock, joiners, store
        self.video_id = str(uuid.uuid4())
        self.key = f"{joined_prefix(self.video_id)}{unquoted(ETAG)}.mp4"

    async def ask(self) -> ErrorReason:
        """Why both are refused."""
        refusals = [refusal(joiner.joined(self.video_id, ETAG, 0, owner="anna")) for joiner in self._joiners]
        [reason] = set(await asyncio.gather(*refusals))
        return reason

    async def waited_seconds(self) -> float:
        """For how long the file has been waited for, as a refusal tells."""
        with pytest.raises(ReelwayError) as refused:
            await self._joiners[0].joined(self.video_id, ETAG, 0, owner="anna")
        return self.clock.seconds() - float(refused.value.metadata["since"])

    async def wait(self) -> ErrorReason:
        """Why one that waits for the file is refused."""
        return await refusal(self._joiners[0].joined(self.video_id, ETAG, 20, owner="anna"))

    async def size(self, wait_seconds: float) -> int:
        """Of the file, for one of many who wait for it in one process."""
        return (await self._joiners[0].joined(self.video_id, ETAG, wait_seconds, owner="anna")).size

    def looks(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Grows with each look at the task for those who wait in the first process."""
        joiner, looks = self._joiners[0], list[str]()
        look = joiner._look

        async def noted(task_id: str) -> ffmpeg_pb2.Task:
            looks.append(task_id)
            return await look(task_id)

        monkeypatch.setattr(joiner, "_look", noted)
        return looks

    async def is_claimed(self) -> bool:
        """Whether the task was there to be claimed."""
        return await self.claim() is not None

    async def claim(self) -> JobLease | None:
        return await self._store.claim("worker", uuid.uuid4().hex, [JobKind.JOIN])

    async def add_for(self, share: str) -> None:
        """A task to join clips of another user's."""
        new = NewJob(str(uuid.uuid4()), JobKind.JOIN, SYSTEM_USER, {}, Priority.INTERACTIVE, share=share)
        await self._store.register(new)

    async def fail(self, reason: TaskFailure) -> None:
        """The one task that waits ends so."""
        lease = await self.claim()
        assert lease is not None
        assert await self.claim() is None
        assert await self._store.fail(lease, JobFault(reason, "as scripted")) == "failed"

    async def complete(self) -> None:
        """The one task that waits makes the file."""
        lease = await self.claim()
        assert lease is not None
        await self.objects.put(self.key, b"joined", "video/mp4")
        assert await self._store.complete(lease, {"key": self.key}) is Holding.HELD

    def forget(self) -> None:
        """What both know of the file."""
        for joiner in self._joiners:
            joiner.forget(self.video_id)

    async def sizes(self) -> list[int]:
        """Of the file, as both find it."""
        return [(await joiner.joined(self.video_id, ETAG, 0, owner="anna")).size for joiner in self._joiners]


@pytest.fixture
async def rig(clean_redis: str, juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[Rig]:
    fleet, clock = Fleet(clean_redis, juicefs_s3, tmp_path, {}), TurnedClock()
    [front] = fleet.add("ffmpeg")
    await front.start()
    try:
        async with (
            open_objects(fleet) as objects,
            open_channel(front.listen) as ffmpeg,
            connect(RedisSettings(redis_url=clean_redis)) as redis,
        ):
            joiners = [ClipJoiner(objects, ffmpeg, clock) for _ in range(2)]
            yield Rig(objects, joiners, clock, RedisJobStore(redis, JobPolicy()))
    finally:
        await front.kill()


async def test_whoever_asks_is_told_since_when_it_is_waited_for(rig: Rig) -> None:
    assert await rig.waited_seconds() < 60
    rig.clock.ahead = 100
    assert 100 <= await rig.waited_seconds() < 160
    await rig.fail(TaskFailure.INTERNAL)
    assert 100 <= await rig.waited_seconds() < 160


async def test_it_is_done_in_the_turn_of_the_video_s_owner(rig: Rig) -> None:
    for _ in range(3):
        await rig.add_for("bob")
    assert await rig.ask() is ErrorReason.JOINING
    first, second = await rig.claim(), await rig.claim()
    assert first is not None
    assert second is not None
    assert (first.job.spec, second.job.spec["video_id"]) == ({}, rig.video_id)


@pytest.mark.parametrize("reason", [TaskFailure.STORAGE_UNAVAILABLE, TaskFailure.INTERNAL])
async def test_what_failed_for_a_reason_that_passes_is_tried_again_with_doubling_pauses(
    rig: Rig, reason: TaskFailure
) -> None:
    for pause in (60, 120, 240):
        assert await rig.ask() is ErrorReason.JOINING
        await rig.fail(reason)
        rig.clock.ahead = pause - 30
        assert await rig.ask() is ErrorReason.JOINING
        assert await rig.claim() is None
        rig.clock.ahead = pause + 1
    assert await rig.ask() is ErrorReason.JOINING
    await rig.complete()
    assert await rig.sizes() == [6, 6]


async def test_what_no_try_can_join_stays_so(rig: Rig) -> None:
    assert await rig.ask() is ErrorReason.JOINING
    await rig.fail(TaskFailure.FFMPEG_FAILED)
    rig.clock.ahead += 86400
    assert await rig.ask() is ErrorReason.JOIN_FAILED
    assert await rig.claim() is None


async def test_what_was_swept_is_made_again(rig: Rig) -> None:
    for _ in range(3):
        assert await rig.ask() is ErrorReason.JOINING
        await rig.complete()
        await rig.objects.delete(rig.key)
        rig.clock.ahead += 3600
    assert await rig.ask() is ErrorReason.JOINING
    await rig.complete()
    assert await rig.sizes() == [6, 6]
    # Whoever reads it finds out that it is gone.
    await rig.objects.delete(rig.key)
    rig.forget()
    assert await rig.ask() is ErrorReason.JOINING


async def test_a_task_that_redis_lost_is_made_again(rig: Rig, clean_redis: str) -> None:
    waiting = asyncio.create_task(rig.wait())
    await until(rig.is_claimed)
    async with connect(RedisSettings(redis_url=clean_redis)) as redis:
        await redis.flushall()
    assert await waiting is ErrorReason.JOINING
    assert await rig.ask() is ErrorReason.JOINING
    await rig.complete()
    assert await rig.sizes() == [6, 6]


async def test_one_looks_for_all_who_wait_each_as_long_as_it_likes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = rig.looks(monkeypatch)

    async def looked_twice() -> bool:
        return len(looks) >= 2

    patient = [asyncio.create_task(rig.size(20)) for _ in range(50)]
    assert await refusal(rig.size(0.1)) is ErrorReason.JOINING
    await until(looked_twice)
    await rig.complete()
    assert await asyncio.gather(*patient) == [6] * 50
    assert len(looks) < 50, "fewer than one each"
