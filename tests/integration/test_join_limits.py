"""A join that takes too long, or clips that are too many, end the job with a reason and leave nothing."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reelway.v1 import upload_pb2

from services.common.extents import joined_prefix
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import S3Settings
from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import Limits
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.join import JoinHandler
from tests.support.clips import make_clip
from tests.support.programs import installed
from tests.support.servers import S3Server

LIMITS = Limits(wall_seconds=0.2, threads=1)


class Located:
    """The extents of one upload, one clip each."""

    def __init__(self, keys: dict[str, int]) -> None:
        self._keys = keys

    async def locate(self, video_id: str, offset: int, length: int, etag: str) -> upload_pb2.LocateExtentsResponse:
        answer = upload_pb2.LocateExtentsResponse()
        for key, size in self._keys.items():
            answer.extents.add(offset_bytes=answer.size_bytes, length_bytes=size, key=key, begins_clip=True)
            answer.size_bytes += size
        return answer


@pytest.fixture
async def outputs(juicefs_s3: S3Server) -> AsyncIterator[Outputs]:
    settings = S3Settings.model_validate(juicefs_s3.environment)
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        yield Outputs(objects, data)


async def fault(outputs: Outputs, tmp_path: Path, clips: list[bytes], limits: Limits) -> JobFault:
    """How the join of these clips fails."""
    video_id = str(uuid.uuid4())
    keys = {f"journal/{video_id}/{index:016d}-a-clip": len(clip) for index, clip in enumerate(clips)}
    for key, clip in zip(keys, clips, strict=True):
        await outputs.objects.put(key, clip, "application/octet-stream")
    root = WorkRoot(tmp_path / "work")
    folder = root.create(str(uuid.uuid4()))
    spec = {"video_id": video_id, "parameters": {"etag": '"00-1"'}}
    context: Any = SimpleNamespace(job=SimpleNamespace(id=str(uuid.uuid4()), spec=spec), folder=folder, show=print)
    sandbox = Sandbox(installed(), find("ffprobe"), detect_layers())
    uploads: Any = Located(keys)
    try:
        with pytest.raises(JobFault) as raised:
            await JoinHandler(sandbox, uploads, outputs, limits)(context)
    finally:
        folder.remove()
        root.close()
    assert not [info async for info in outputs.objects.list(joined_prefix(video_id))]
    return raised.value


async def test_a_join_is_killed_after_its_time(outputs: Outputs, tmp_path: Path) -> None:
    # Two sizes, so that it has to encode: several times as much work.
    clips = [
        make_clip(tmp_path / f"{size}.mp4", ("-c:v", "mpeg4"), seconds=10, size=size).read_bytes()
        for size in ("640x360", "480x270")
    ]
    failure = (await fault(outputs, tmp_path, clips, LIMITS)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join ran longer than allowed")


async def test_more_bytes_than_a_job_may_take_are_refused_before_they_are_fetched(
    outputs: Outputs, tmp_path: Path
) -> None:
    limits = replace(LIMITS, input_bytes=10)
    failure = (await fault(outputs, tmp_path, [b"no clip at all"], limits)).failure
    assert failure.reason == "LIMIT_EXCEEDED"
