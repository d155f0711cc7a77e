"""FfmpegService: converts, checks what messages can say wrongly, signs URLs; jobs.py decides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.caller import current_caller
from services.common.errors import invalid_field
from services.common.message_page import within_message
from services.common.uuids import is_uuid
from services.ffmpeg.isolation import Isolation
from services.ffmpeg.job import Job
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.jobs import Jobs, token_behind
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.task_messages import (
    KINDS,
    PRIORITIES,
    command_spec,
    outputs_of,
    stats_message,
    task_message,
    video_spec,
)

_KIND_OF = {message: kind for kind, message in KINDS.items()}
_PRIORITY_OF = {message: priority for priority, message in PRIORITIES.items()}


class FfmpegServicer(ffmpeg_pb2_grpc.FfmpegServiceServicer):
    """Judges each call for the user of its metadata."""

    def __init__(self, jobs: Jobs, outputs: Outputs, isolation: Isolation | None, *, url_seconds: int) -> None:
        self._jobs, self._outputs, self._isolation, self._url_seconds = jobs, outputs, isolation, url_seconds

    async def RegisterTask(
        self, request: ffmpeg_pb2.RegisterTaskRequest, context: Any
    ) -> ffmpeg_pb2.RegisterTaskResponse:
        kind, spec = _work(request)
        priority = _PRIORITY_OF.get(request.priority, Priority.NORMAL)
        share = request.video.share if request.video.HasField("share") else None
        job = await self._jobs.register(
            current_caller().user, kind, spec, request_id=request.request_id, priority=priority, share=share
        )
        return ffmpeg_pb2.RegisterTaskResponse(task=await self._task(job))

    async def PlanTask(self, request: ffmpeg_pb2.PlanTaskRequest, context: Any) -> ffmpeg_pb2.PlanTaskResponse:
        planned = self._jobs.plan(command_spec(request.command))
        return ffmpeg_pb2.PlanTaskResponse(arguments=planned.display(), limits=asdict(planned.limits))

    async def GetTask(self, request: ffmpeg_pb2.GetTaskRequest, context: Any) -> ffmpeg_pb2.GetTaskResponse:
        job = await self._jobs.get(current_caller().user, request.task_id)
        return ffmpeg_pb2.GetTaskResponse(task=await self._task(job))

    async def ListTasks(self, request: ffmpeg_pb2.ListTasksRequest, context: Any) -> ffmpeg_pb2.ListTasksResponse:
        jobs, token = await self._jobs.page(current_caller().user, request.page_size, request.page_token)
        tasks = [task_message(job, {}) for job in jobs]
        fitting = within_message(tasks)
        if len(fitting) < len(tasks):
            token = token_behind(jobs[len(fitting) - 1])
        return ffmpeg_pb2.ListTasksResponse(tasks=fitting, next_page_token=token)

    async def CancelTask(self, request: ffmpeg_pb2.CancelTaskRequest, context: Any) -> ffmpeg_pb2.CancelTaskResponse:
        job = await self._jobs.cancel(current_caller().user, request.task_id)
        return ffmpeg_pb2.CancelTaskResponse(task=await self._task(job))

    async def WatchTask(
        self, request: ffmpeg_pb2.WatchTaskRequest, context: Any
    ) -> AsyncIterator[ffmpeg_pb2.WatchTaskResponse]:
        async for job in self._jobs.watch(current_caller().user, request.task_id):
            yield ffmpeg_pb2.WatchTaskResponse(task=await self._task(job))

    async def RetryTask(self, request: ffmpeg_pb2.RetryTaskRequest, context: Any) -> ffmpeg_pb2.RetryTaskResponse:
        job = await self._jobs.retry(current_caller().user, request.task_id, request.request_id)
        return ffmpeg_pb2.RetryTaskResponse(task=await self._task(job))

    async def GetQueueStats(
        self, request: ffmpeg_pb2.GetQueueStatsRequest, context: Any
    ) -> ffmpeg_pb2.GetQueueStatsResponse:
        return stats_message(await self._jobs.stats())

    async def CheckHealth(self, request: ffmpeg_pb2.CheckHealthRequest, context: Any) -> ffmpeg_pb2.CheckHealthResponse:
        found = self._isolation
        if found is None:
            return ffmpeg_pb2.CheckHealthResponse()
        return ffmpeg_pb2.CheckHealthResponse(
            available=bool(found.ffmpeg_version),
            version=found.ffmpeg_version,
            isolated=found.ready,
            isolation_mode=found.mode.value,
            isolation_json=json.dumps(found.health()),
            missing_layers=found.missing,
        )

    async def _task(self, job: Job) -> ffmpeg_pb2.Task:
        urls = {
            output["placeholder"]: await self._outputs.sign(job.id, output["name"], self._url_seconds)
            for output in outputs_of(job)
        }
        return task_message(job, urls)


def _work(request: ffmpeg_pb2.RegisterTaskRequest) -> tuple[JobKind, Mapping[str, Any]]:
    if request.WhichOneof("work") == "command":
        return JobKind.COMMAND, command_spec(request.command)
    kind = _KIND_OF.get(request.video.kind, JobKind.COMMAND)
    if kind is JobKind.COMMAND:
        raise invalid_field("work", "a command, or work on a video, is needed")
    if not is_uuid(request.video.video_id):
        raise invalid_field("video.video_id", "must be a UUID")
    return kind, video_spec(request.video)
