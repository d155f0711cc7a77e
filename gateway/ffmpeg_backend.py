"""FfmpegService as the gateway calls it: deadlines set, errors as ReelwayError."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Iterator

import grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.backoff import Backoff, retry
from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


def _unanswered(error: Exception) -> bool:
    """The call may have been done or not; with a request_id it can be made again."""
    return isinstance(error, ReelwayError) and error.reason is ErrorReason.SERVICE_UNAVAILABLE


class FfmpegBackend:
    """For the caller of the request that the current task serves.

    `asking_why` also reaches a service that is not ready: where isolation is missing, it is the one that knows what.
    """

    def __init__(self, channel: grpc.aio.Channel, asking_why: grpc.aio.Channel) -> None:
        self._stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        self._asking_why: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(asking_why)

    async def register(self, command: ffmpeg_pb2.CommandWork, request_id: str) -> ffmpeg_pb2.Task:
        """See FfmpegService.RegisterTask; one task however often the connection breaks."""
        request = ffmpeg_pb2.RegisterTaskRequest(command=command, request_id=request_id or uuid.uuid4().hex)

        async def call() -> ffmpeg_pb2.Task:
            with _refusals():
                answer = await self._stub.RegisterTask(
                    request, timeout=CALL_SECONDS, metadata=current_caller().metadata()
                )
            return answer.task

        try:
            return await retry(call, _unanswered, Backoff())
        except ReelwayError as error:
            raise await self._explained(error) from None

    async def plan(self, command: ffmpeg_pb2.CommandWork) -> ffmpeg_pb2.PlanTaskResponse:
        """See FfmpegService.PlanTask."""
        with _refusals():
            return await self._stub.PlanTask(
                ffmpeg_pb2.PlanTaskRequest(command=command), timeout=CALL_SECONDS, metadata=current_caller().metadata()
            )

    async def get(self, task_id: str) -> ffmpeg_pb2.Task:
        """See FfmpegService.GetTask."""
        with _refusals():
            answer = await self._stub.GetTask(
                ffmpeg_pb2.GetTaskRequest(task_id=task_id), timeout=CALL_SECONDS, metadata=current_caller().metadata()
            )
        return answer.task

    async def list(self, page_size: int, page_token: str) -> ffmpeg_pb2.ListTasksResponse:
        """See FfmpegService.ListTasks."""
        request = ffmpeg_pb2.ListTasksRequest(page_size=page_size, page_token=page_token)
        with _refusals():
            return await self._stub.ListTasks(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())

    async def cancel(self, task_id: str) -> ffmpeg_pb2.Task:
        """See FfmpegService.CancelTask."""
        with _refusals():
            answer = await self._stub.CancelTask(
                ffmpeg_pb2.CancelTaskRequest(task_id=task_id),
                timeout=CALL_SECONDS,
                metadata=current_caller().metadata(),
            )
        return answer.task

    async def watch(self, task_id: str) -> AsyncGenerator[ffmpeg_pb2.Task, None]:
        """See FfmpegService.WatchTask; closing the iterator ends the call."""
        call = self._stub.WatchTask(ffmpeg_pb2.WatchTaskRequest(task_id=task_id), metadata=current_caller().metadata())
        try:
            with _refusals():
                async for message in call:
                    yield message.task
        finally:
            call.cancel()

    async def health(self) -> ffmpeg_pb2.CheckHealthResponse:
        """See FfmpegService.CheckHealth."""
        with _refusals():
            return await self._asking_why.CheckHealth(
                ffmpeg_pb2.CheckHealthRequest(), timeout=CALL_SECONDS, metadata=current_caller().metadata()
            )

    async def _explained(self, error: ReelwayError) -> ReelwayError:
        """`error`, or that isolation is missing, where that is why nobody took the call."""
        if error.reason is ErrorReason.SERVICE_UNAVAILABLE:
            with contextlib.suppress(ReelwayError):
                found = await self.health()
                if not found.isolated:
                    missing = ", ".join(found.missing_layers) or "ffmpeg"
                    return ReelwayError(ErrorReason.ISOLATION_UNAVAILABLE, f"isolation-unavailable: {missing}")
        return error
