"""Work on videos that the catalog has the ffmpeg service do."""

from __future__ import annotations

import grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from services.common.call import call


class VideoJobs:
    """Calls for the caller of the current task; raises ReelwayError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ffmpeg: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)

    async def register(
        self, work: ffmpeg_pb2.VideoWork, name: str, priority: ffmpeg_pb2.TaskPriority.ValueType
    ) -> ffmpeg_pb2.Task:
        """The task of this name as it is now; a new one if there is none. See FfmpegService.RegisterTask."""
        request = ffmpeg_pb2.RegisterTaskRequest(video=work, request_id=name, priority=priority)
        return (await call(self._ffmpeg.RegisterTask, request)).task
