"""A command's `video://` inputs, from a stream service that takes its time."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import jwt
import pytest
from reelway.v1 import stream_pb2, stream_pb2_grpc

from deploy.local.ports import free_port
from services.common import call_token, caller
from services.common.error_catalog import ErrorReason
from services.common.error_translator import to_status
from services.common.errors import ReelwayError
from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.download import DownloadLimits, Fetcher
from services.ffmpeg.job import JobFault, Outage
from services.ffmpeg.plan import PlannedInput
from services.ffmpeg.worker import inputs
from services.ffmpeg.worker.inputs import Budget, Inputs, StreamedVideos

SECRET = "s" * 32
BODY = b"0123456789"


class Stream(stream_pb2_grpc.StreamServiceServicer):
    """Has BODY once its clips are joined; each call takes a hundred seconds of the callers' clock."""

    def __init__(self) -> None:
        self.clock = 1e9
        self.refusals: list[ErrorReason] = []
        self.late: list[float] = []
        self.users = set[str]()
        self.read: list[int] = []
        self.breaks: list[tuple[int, ErrorReason]] = []

    def _take(self, context: Any) -> None:
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, SECRET, ["HS256"], {"verify_exp": False}, audience="reelway")
        if claims["exp"] < self.clock:
            self.late.append(claims["exp"])
        self.users.add(claims["sub"])
        self.clock += 100

    async def Stat(self, request: stream_pb2.StatRequest, context: Any) -> stream_pb2.StatResponse:
        self._take(context)
        if self.refusals:
            await context.abort_with_status(to_status(ReelwayError(self.refusals.pop())))
        return stream_pb2.StatResponse(video_id=request.video_id, size_bytes=len(BODY), etag='"1"')

    async def Read(self, request: stream_pb2.ReadRequest, context: Any) -> AsyncIterator[stream_pb2.ReadResponse]:
        self._take(context)
        self.read.append(request.offset_bytes)
        if request.etag != '"1"':
            await context.abort_with_status(to_status(ReelwayError(ErrorReason.VIDEO_CHANGED)))
        length, reason = self.breaks.pop(0) if self.breaks else (request.length_bytes, None)
        if length:
            yield stream_pb2.ReadResponse(data=BODY[request.offset_bytes :][:length])
        if reason is not None:
            await context.abort_with_status(to_status(ReelwayError(reason)))

    async def ReadRange(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def PresignRead(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    stream = Stream()
    monkeypatch.setattr(call_token, "time", SimpleNamespace(time=lambda: stream.clock, monotonic=lambda: stream.clock))
    monkeypatch.setattr(inputs, "_WINDOW_BYTES", 4)
    monkeypatch.setattr(inputs, "_LOOK_SECONDS", 0)
    caller.require_tokens(SECRET)
    yield stream
    caller.require_tokens("")


@pytest.fixture
async def videos(stream: Stream) -> AsyncIterator[StreamedVideos]:
    server = grpc.aio.server()
    stream_pb2_grpc.add_StreamServiceServicer_to_server(stream, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield StreamedVideos(channel)
    await server.stop(None)


async def test_a_copy_may_take_longer_than_a_call_token_lives(
    stream: Stream, videos: StreamedVideos, tmp_path: Path
) -> None:
    await videos.copy("anna", str(uuid.uuid4()), tmp_path / "in", Budget(100))
    assert (tmp_path / "in").read_bytes() == BODY
    assert (stream.late, stream.users) == ([], {"anna"})


async def test_a_window_that_breaks_is_asked_for_again(
    stream: Stream, videos: StreamedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where it broke, and for ever where each brings something; of one that brings nothing there is an end."""
    monkeypatch.setattr(inputs, "_WINDOW_TRIES", 2)
    stream.breaks = [(3, ErrorReason.STORE_UNAVAILABLE), (2, ErrorReason.STORE_UNAVAILABLE)]
    await videos.copy("anna", str(uuid.uuid4()), tmp_path / "whole", Budget(100))
    assert (stream.read, (tmp_path / "whole").read_bytes()) == ([0, 3, 5, 9], BODY)
    for reason, tries in ((ErrorReason.STORE_UNAVAILABLE, 2), (ErrorReason.VIDEO_NOT_FOUND, 1)):
        stream.read, stream.breaks = [], [(0, reason)] * 3
        with pytest.raises(ReelwayError) as raised:
            await videos.copy("anna", str(uuid.uuid4()), tmp_path / reason.name, Budget(100))
        assert (raised.value.reason, stream.read) == (reason, [0] * tries)


async def test_room_is_waited_for_longer(
    stream: Stream, videos: StreamedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a replica dies meanwhile."""
    monkeypatch.setattr(inputs, "_WINDOW_TRIES", 2)
    stream.breaks = [(0, ErrorReason.TOO_MANY_REQUESTS), (0, ErrorReason.STORE_UNAVAILABLE)]
    await videos.copy("anna", str(uuid.uuid4()), tmp_path / "whole", Budget(100))
    assert (stream.read, (tmp_path / "whole").read_bytes()) == ([0, 0, 0, 4, 8], BODY)


async def test_a_video_that_is_larger_than_what_is_left_is_not_begun(
    stream: Stream, videos: StreamedVideos, tmp_path: Path
) -> None:
    with pytest.raises(JobFault):
        await videos.copy("anna", str(uuid.uuid4()), tmp_path / "in", Budget(len(BODY) - 1))
    assert (stream.read, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (ErrorReason.INDEX_MISSING, (Outage, "INPUT_UNAVAILABLE", True)),
        (ErrorReason.STORE_UNAVAILABLE, (Outage, "INPUT_UNAVAILABLE", True)),
        (ErrorReason.VIDEO_CHANGED, (JobFault, "INPUT_UNAVAILABLE", True)),
        (ErrorReason.JOINING, (JobFault, "INPUT_UNAVAILABLE", True)),
        (ErrorReason.JOIN_FAILED, (JobFault, "INPUT_REFUSED", False)),
        (ErrorReason.VIDEO_NOT_FOUND, (JobFault, "INPUT_REFUSED", False)),
    ],
)
async def test_what_is_the_system_s_fault_is_an_outage(
    stream: Stream,
    videos: StreamedVideos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    refusal: ErrorReason,
    told: tuple[type[JobFault], str, bool],
) -> None:
    monkeypatch.setattr(inputs, "_JOINING_SECONDS", 0)
    stream.refusals = [refusal] * 100
    raised = await bring(videos, tmp_path)
    assert (type(raised), raised.failure.reason, raised.may_pass) == told


async def test_a_stream_service_that_is_away_is_an_outage(tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        raised = await bring(StreamedVideos(channel), tmp_path)
    assert (type(raised), raised.failure.message) == (Outage, "in_1: The service is not available right now")


async def bring(videos: StreamedVideos, folder: Path) -> JobFault:
    """How a command's only input fails."""
    fetcher = Fetcher(AddressPolicy(), DownloadLimits())
    planned = PlannedInput("in_1", f"video://{uuid.uuid4()}", "in")
    with pytest.raises(JobFault) as raised:
        await Inputs(fetcher, videos, 100).bring("anna", (planned,), folder)
    return raised.value


async def test_clips_that_are_being_joined_are_waited_for(
    stream: Stream, videos: StreamedVideos, tmp_path: Path
) -> None:
    stream.refusals = [ErrorReason.JOINING] * 5
    await videos.copy("anna", str(uuid.uuid4()), tmp_path / "in", Budget(100))
    assert (tmp_path / "in").read_bytes() == BODY
