"""Sees to it that every video that a job is due for gets an outcome.

What is to be done stands in the records (memberships.py), so that nothing is forgotten: a video stays in its list
until an outcome was written, and its job is registered again and again under one name, which the queue takes for one
job.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc, media_pb2

from services.catalog.redis_video_store import RedisVideoStore
from services.common import fault_points, logs
from services.common.call import call
from services.common.caller import set_caller, system_caller
from services.common.clock import Clock
from services.common.periodic import failures_logged
from services.common.task_failure import TaskFailure

log = logs.get_logger(__name__)

_LOOK_SECONDS = 0.5
_AGAIN_SECONDS, _LONGEST_AGAIN_SECONDS = 30.0, 600.0
# Workers write outcomes themselves. A look finds jobs that ended without one, late by at most this part of the time
# since they were registered.
_AGAIN_PART = 0.25
_AT_ONCE = 32
# Doubles with each successor, so that the last one is begun most of a day after the first job ended.
_PAUSE_SECONDS, _SUCCESSORS = 60.0, 10


class Duty(Protocol):
    """One kind of job, and the videos that are due for it."""

    name: str
    """Its name in log lines and fault points."""
    queue_key: str
    """Key of the list by time that they are in."""

    def job(self, video: media_pb2.Video) -> ffmpeg_pb2.RegisterTaskRequest | None:
        """The job, under the name by which the queue knows it again; None: it is not due any more."""

    async def give_up(self, video: media_pb2.Video, error: ffmpeg_pb2.TaskError) -> None:
        """Write the outcome of a job that ended without one; `error` is empty where it was cancelled."""


class DueJobs:
    """Runs on every replica; each takes videos that no other one has taken."""

    def __init__(self, duty: Duty, *, videos: RedisVideoStore, ffmpeg: grpc.aio.Channel, clock: Clock) -> None:
        self._duty, self._videos, self._clock = duty, videos, clock
        self._ffmpeg: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(ffmpeg)
        self._log = log.bind(duty=duty.name)

    async def run(self) -> None:
        """For ever."""
        while True:
            set_caller(system_caller())
            with failures_logged("look for due jobs", duty=self._duty.name):
                await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """See to what is due, each on its own: one bad record must not hold the others back."""
        now = self._clock.seconds()
        while due := await self._videos.claim(self._duty.queue_key, now, now + _AGAIN_SECONDS, _AT_ONCE):
            await asyncio.gather(*map(self._try, due))

    async def _try(self, video_id: str) -> None:
        with failures_logged("job of a video", duty=self._duty.name, video_id=video_id):
            await self._see_to(video_id)

    async def _see_to(self, video_id: str) -> None:
        video = await self._videos.get(video_id)
        job = video and self._duty.job(video)
        if not video or not job:
            return
        task = await self._register(job)
        fault_points.reach(f"{self._duty.name}.registered")
        for number in range(_SUCCESSORS):
            if not _has_successor(task):
                break
            if self._clock.seconds() < task.end_time.seconds + _PAUSE_SECONDS * 2**number:
                return
            job.request_id = f"{self._duty.name}/{task.task_id}"
            task = await self._register(job)
        if task.HasField("end_time"):
            self._log.error("a job was given up", video_id=video_id, task=task.task_id, why=task.error.reason)
            await self._duty.give_up(video, task.error)
            return
        now = self._clock.seconds()
        pause = min(_AGAIN_PART * (now - task.create_time.seconds), _LONGEST_AGAIN_SECONDS)
        await self._videos.put_off(self._duty.queue_key, video_id, now + pause)

    async def _register(self, job: ffmpeg_pb2.RegisterTaskRequest) -> ffmpeg_pb2.Task:
        """The task of this name as it is now; a new one if there is none."""
        return (await call(self._ffmpeg.RegisterTask, job)).task


def _has_successor(task: ffmpeg_pb2.Task) -> bool:
    """Whether an ended job without an outcome is run again: only storage was missing, or its outcome was lost."""
    return task.state == ffmpeg_pb2.TASK_STATE_COMPLETED or task.error.reason == TaskFailure.STORAGE_UNAVAILABLE
