"""ffmpeg tasks, whatever dialect they came by."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator

import grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.backoff import retry
from services.common.call import call
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError


class Jobs:
    """ReelwayError as FfmpegService says, from every method.

    `asking_why` also reaches a service that is not ready: where isolation is missing, it is the one that knows what.
    """

    def __init__(self, channel: grpc.aio.Channel, asking_why: grpc.aio.Channel) -> None:
        self._stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        self._asking_why: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(asking_why)

    async def register(self, command: ffmpeg_pb2.CommandWork, idempotency_key: str) -> ffmpeg_pb2.Task:
        """The task, acknowledged: it will run; one, however often the connection breaks."""
        request_id = idempotency_key or uuid.uuid4().hex
        request = ffmpeg_pb2.RegisterTaskRequest(command=command, request_id=request_id)
        try:
            return (await retry(lambda: call(self._stub.RegisterTask, request), _unanswered)).task
        except ReelwayError as error:
            raise await self._explained(error) from None

    async def plan(self, command: ffmpeg_pb2.CommandWork) -> ffmpeg_pb2.PlanTaskResponse:
        """The verdict on a command, without running it."""
        return await call(self._stub.PlanTask, ffmpeg_pb2.PlanTaskRequest(command=command))

    async def get(self, task_id: str) -> ffmpeg_pb2.Task:
        """One task."""
        return (await call(self._stub.GetTask, ffmpeg_pb2.GetTaskRequest(task_id=task_id))).task

    async def page(self, size: int, token: str) -> ffmpeg_pb2.ListTasksResponse:
        """The caller's tasks, newest first, and the token of the next page."""
        return await call(self._stub.ListTasks, ffmpeg_pb2.ListTasksRequest(page_size=size, page_token=token))

    async def cancel(self, task_id: str) -> ffmpeg_pb2.Task:
        """The task after the cancel."""
        return (await call(self._stub.CancelTask, ffmpeg_pb2.CancelTaskRequest(task_id=task_id))).task

    async def watch(self, task_id: str) -> AsyncGenerator[ffmpeg_pb2.Task, None]:
        """The task now and whenever it changes, until it has ended; closing the iterator ends the call."""
        request = ffmpeg_pb2.WatchTaskRequest(task_id=task_id)
        changes = self._stub.WatchTask(request, metadata=current_caller().metadata())
        try:
            async for message in changes:
                yield message.task
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            changes.cancel()

    async def health(self) -> ffmpeg_pb2.CheckHealthResponse:
        """What the service found at its start."""
        return await call(self._asking_why.CheckHealth, ffmpeg_pb2.CheckHealthRequest())

    async def _explained(self, error: ReelwayError) -> ReelwayError:
        """`error`, or that isolation is missing, where that is why nobody took the call."""
        if error.reason is ErrorReason.SERVICE_UNAVAILABLE:
            with contextlib.suppress(ReelwayError):
                found = await self.health()
                if not found.isolated:
                    missing = ", ".join(found.missing_layers) or "ffmpeg"
                    return ReelwayError(ErrorReason.ISOLATION_UNAVAILABLE, f"isolation-unavailable: {missing}")
        return error


def _unanswered(error: Exception) -> bool:
    """The call may have been done or not; with a request_id it can be made again."""
    return isinstance(error, ReelwayError) and error.reason is ErrorReason.SERVICE_UNAVAILABLE
