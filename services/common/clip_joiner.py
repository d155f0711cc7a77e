"""Has the clips of a video joined to one file (joined.py).

Each version is joined once, by an ffmpeg job whose request id names the version; its file is whole or not there. A job
that failed for a reason that may pass is followed by another one after a minute, that by the next after two, and so on.
"""

from __future__ import annotations

import asyncio
import functools

import grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.bounded_cache import BoundedCache
from services.common.call import call
from services.common.caller import system_caller
from services.common.clock import Clock
from services.common.entity_tags import unquoted
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.joined import Joined, find_joined
from services.common.s3_objects import S3Objects
from services.common.task_failure import TaskFailure
from services.common.tasks import SingleFlight

_LOOK_SECONDS = 0.2
_KNOWN = 1000
# Doubles with each successor, of which there are some sixteen in the month for which their records are kept.
_PAUSE_SECONDS = 60.0
_PASSING = {TaskFailure.STORAGE_UNAVAILABLE, TaskFailure.INTERNAL}


class ClipJoiner:
    """Has clips joined, and waits for it."""

    def __init__(self, objects: S3Objects, channel: grpc.aio.Channel, clock: Clock) -> None:
        self._objects, self._clock = objects, clock
        self._stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        self._known = BoundedCache[tuple[str, str], Joined](_KNOWN)
        self._looking = SingleFlight[str, ffmpeg_pb2.Task]()

    async def joined(self, video_id: str, etag: str, wait_seconds: float, *, owner: str) -> Joined:
        """The clips of a journal's version as one file, made if need be, in the turn of the video's owner.

        Raises:
            ReelwayError: JOINING (not yet, after `wait_seconds`; `since` in its metadata is the Unix time when it was
                asked for), JOIN_FAILED, STORE_UNAVAILABLE and what else FfmpegService refuses.
        """
        found = await self.known(video_id, etag)
        if found is None:
            work = ffmpeg_pb2.VideoWork(
                kind=ffmpeg_pb2.TASK_KIND_JOIN, video_id=video_id, parameters={"etag": etag}, share=owner
            )
            task = await self._make(work, f"join/{video_id}/{unquoted(etag)}", wait_seconds)
            found = await self.known(video_id, etag)
            if found is None:
                raise _joining(task)
        return found

    async def known(self, video_id: str, etag: str) -> Joined | None:
        """The same, if it was made."""
        found = self._known.get((video_id, etag)) or await find_joined(self._objects, video_id, etag)
        if found is not None:
            self._known[video_id, etag] = found
        return found

    def forget(self, video_id: str) -> None:
        """Its joined files are gone: they are looked for again."""
        for key in [key for key in self._known if key[0] == video_id]:
            del self._known[key]

    async def _make(self, work: ffmpeg_pb2.VideoWork, request_id: str, wait_seconds: float) -> ffmpeg_pb2.Task:
        """Register it, and wait for it unless its next try is yet to come; the newest task, which has ended."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        task = await self._register(work, request_id)
        pause = _PAUSE_SECONDS
        while _has_successor(task):
            if self._clock.seconds() < task.end_time.seconds + pause:
                return task
            task = await self._register(work, f"join/{task.task_id}")
            pause *= 2
        while not task.HasField("end_time"):
            if asyncio.get_running_loop().time() > deadline:
                raise _joining(task)
            # All who wait for this task share one poll, and each gives up at its own deadline.
            task = await self._looking.run(task.task_id, functools.partial(self._look, task.task_id))
        if not _has_successor(task):
            detail = f"The clips cannot be joined to one video: {task.error.message}" if task.error.message else ""
            raise ReelwayError(ErrorReason.JOIN_FAILED, detail)
        return task

    async def _register(self, work: ffmpeg_pb2.VideoWork, request_id: str) -> ffmpeg_pb2.Task:
        # In the system's name: whoever asks finds the same task.
        request = ffmpeg_pb2.RegisterTaskRequest(
            video=work, request_id=request_id, priority=ffmpeg_pb2.TASK_PRIORITY_INTERACTIVE
        )
        return (await call(self._stub.RegisterTask, request, system_caller())).task

    async def _look(self, task_id: str) -> ffmpeg_pb2.Task:
        """The task as it is some moments from now."""
        await asyncio.sleep(_LOOK_SECONDS)
        request = ffmpeg_pb2.GetTaskRequest(task_id=task_id)
        try:
            return (await call(self._stub.GetTask, request, system_caller())).task
        except ReelwayError as error:
            if error.reason is ErrorReason.TASK_NOT_FOUND:
                # Redis lost it: whoever asks next registers it again.
                raise ReelwayError(ErrorReason.JOINING) from None
            raise


def _joining(task: ffmpeg_pb2.Task) -> ReelwayError:
    return ReelwayError(ErrorReason.JOINING, metadata={"since": str(task.create_time.seconds)})


def _has_successor(task: ffmpeg_pb2.Task) -> bool:
    """Whether an ended task without a file is to be done again: what it made was swept, or its fault may pass."""
    if task.state == ffmpeg_pb2.TASK_STATE_FAILED:
        return task.error.reason in _PASSING
    return task.HasField("end_time")
