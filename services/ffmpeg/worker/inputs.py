"""Brings a command's inputs into its folder: from public addresses, or from the videos of this system."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
from reelway.v1 import stream_pb2, stream_pb2_grpc

from services.common import tasks
from services.common.call import call
from services.common.caller import Caller, caller_for
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.addresses import video_id_of
from services.ffmpeg.download import DownloadInterrupted, DownloadRefused, Fetcher
from services.ffmpeg.job import JobFault, Outage, is_outage
from services.ffmpeg.plan import PlannedInput
from services.ffmpeg.worker.new_file import write_new

# How many inputs of one job arrive at once.
_AT_ONCE = 3
# A job holds its slot while they do: all of them together, however slowly each comes.
_ALL_SECONDS = 3600.0
# Window of one Read; the stream service sends each whole.
_WINDOW_BYTES = 8 * 2**20
_WINDOW_SECONDS = 60.0
# As long as a download may take.
_JOINING_SECONDS = 1800.0
_LOOK_SECONDS = 1.0
_WINDOW_TRIES = 4
# Half a minute, for a time in which viewers have all room: an outage would fetch every input again.
_ROOM_TRIES = 17


class Budget:
    """Bytes that all inputs of one job may have together: what they fill is a disk that jobs share."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left = max_bytes

    def spend(self, size: int) -> None:
        """Raise JobFault when it is more than is left."""
        self._left -= size
        if self._left < 0:
            raise JobFault(
                TaskFailure.INPUT_TOO_LARGE, f"with it the inputs are larger than {self._max_bytes} bytes together"
            )


class StreamedVideos:
    """Videos by way of the stream service, which asks the catalog whether the owner may read them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: stream_pb2_grpc.StreamServiceAsyncStub = stream_pb2_grpc.StreamServiceStub(channel)

    async def copy(self, owner: str, video_id: str, destination: Path, budget: Budget) -> None:
        """Write the video into a new file, as `owner` may read it; raises ReelwayError, or JobFault by the budget.

        Window by window; a window that breaks is asked for again, from any replica.
        """
        caller = caller_for(owner)
        stat = await self._stat(video_id, caller)
        budget.spend(stat.size_bytes)
        await write_new(destination, self._read(stat, caller))

    async def _read(self, stat: stream_pb2.StatResponse, caller: Caller) -> AsyncIterator[bytes]:
        offset, failures, most = 0, 0, _WINDOW_TRIES
        while offset < stat.size_bytes:
            length = min(_WINDOW_BYTES, stat.size_bytes - offset)
            request = stream_pb2.ReadRequest(
                video_id=stat.video_id, offset_bytes=offset, length_bytes=length, etag=stat.etag
            )
            try:
                async for message in self._stub.Read(request, timeout=_WINDOW_SECONDS, metadata=caller.metadata()):
                    yield message.data
                    offset, failures, most = offset + len(message.data), 0, _WINDOW_TRIES
            except grpc.aio.AioRpcError as error:
                failures += 1
                refusal = from_rpc_error(error)
                if refusal.reason is ErrorReason.TOO_MANY_REQUESTS:
                    most = _ROOM_TRIES
                if refusal.kind.retry_seconds is None or failures >= most:
                    raise refusal from None
                await asyncio.sleep(0.2 * failures)

    async def _stat(self, video_id: str, caller: Caller) -> stream_pb2.StatResponse:
        """What there is to read; of several clips, once they are joined."""
        ends = time.monotonic() + _JOINING_SECONDS
        while True:
            try:
                return await call(self._stub.Stat, stream_pb2.StatRequest(video_id=video_id), caller)
            except ReelwayError as error:
                if error.reason is not ErrorReason.JOINING or time.monotonic() > ends:
                    raise
            await asyncio.sleep(_LOOK_SECONDS)


class Inputs:
    """Fetches the inputs of commands."""

    def __init__(
        self, fetcher: Fetcher, videos: StreamedVideos, max_bytes: int, max_seconds: float = _ALL_SECONDS
    ) -> None:
        self._fetcher, self._videos, self._max_bytes, self._max_seconds = fetcher, videos, max_bytes, max_seconds

    async def bring(self, owner: str, inputs: tuple[PlannedInput, ...], folder: Path) -> None:
        """All inputs under `folder`; raises JobFault naming the placeholder of the first that failed."""
        budget = Budget(self._max_bytes)

        async def one(planned: PlannedInput) -> None:
            await self._bring(owner, planned, folder / planned.path, budget)

        try:
            async with asyncio.timeout(self._max_seconds):
                await tasks.all_of(map(tasks.at_most(_AT_ONCE, one), inputs))
        except TimeoutError:
            raise JobFault(
                TaskFailure.LIMIT_EXCEEDED, f"The inputs took more than {self._max_seconds:.0f} s to arrive"
            ) from None

    async def _bring(self, owner: str, planned: PlannedInput, destination: Path, budget: Budget) -> None:
        with _faults(planned.placeholder):
            if video_id := video_id_of(planned.url):
                await self._videos.copy(owner, video_id, destination, budget)
            else:
                await self._fetcher.fetch(planned.url, destination, budget.spend)


@contextlib.contextmanager
def _faults(placeholder: str) -> Iterator[None]:
    """Says which input it was, and whether another try is worth it."""
    try:
        yield
    except JobFault as error:
        raise JobFault(error.reason, f"{placeholder}: {error.failure.message}") from None
    except DownloadRefused as error:
        raise JobFault(TaskFailure.INPUT_REFUSED, f"{placeholder}: {error.args[0]}") from None
    except DownloadInterrupted as error:
        raise JobFault(TaskFailure.INPUT_UNAVAILABLE, f"{placeholder}: {error.args[0]}", may_pass=True) from None
    except ReelwayError as error:
        if error.reason is ErrorReason.VIDEO_NOT_FOUND:
            raise JobFault(
                TaskFailure.INPUT_REFUSED, f"{placeholder}: there is no such video, or it is not yours"
            ) from None
        told = f"{placeholder}: {error.message}"
        if error.reason in {ErrorReason.VIDEO_CHANGED, ErrorReason.JOINING}:
            # Clips that cannot be joined yet take a slot for half an hour each time.
            raise JobFault(TaskFailure.INPUT_UNAVAILABLE, told, may_pass=True) from None
        if is_outage(error):
            raise Outage(TaskFailure.INPUT_UNAVAILABLE, told) from None
        raise JobFault(TaskFailure.INPUT_REFUSED, told) from None
