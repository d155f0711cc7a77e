"""Joins of clips by a worker's own handler, without a queue: real ffmpeg, real S3."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reelway.v1 import upload_pb2

from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import Progress
from services.ffmpeg.limits import Limits
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from services.ffmpeg.worker.join import JoinHandler
from tests.support.programs import installed
from tests.support.servers import S3Server


class Located:
    """The extents of one upload, one clip each."""

    def __init__(self, extents: Sequence[tuple[str, int]]) -> None:
        self._extents = extents

    async def locate(self, video_id: str, offset: int, length: int, etag: str) -> upload_pb2.LocateExtentsResponse:
        """All of them, whatever is asked for."""
        answer = upload_pb2.LocateExtentsResponse()
        for key, size in self._extents:
            answer.extents.add(offset_bytes=answer.size_bytes, length_bytes=size, key=key, begins_clip=True)
            answer.size_bytes += size
        return answer


class Context:
    """A job that nobody takes away."""

    def __init__(self, video_id: str, folder: WorkFolder) -> None:
        spec = {"video_id": video_id, "parameters": {"etag": '"00-1"'}}
        self.job = SimpleNamespace(id=str(uuid.uuid4()), spec=spec)
        self.folder = folder
        self.shown: list[float] = []

    def show(self, progress: Progress) -> None:
        """Note it."""
        self.shown.append(progress.fraction)

    async def begin_upload(self, upload_id: str, key: str) -> None:
        """As it is."""

    async def still_held(self) -> None:
        """Always."""


@pytest.fixture
async def join_outputs(juicefs_s3: S3Server) -> AsyncIterator[Outputs]:
    """Where joins go."""
    settings = juicefs_s3.settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        yield Outputs(objects, data)


@pytest.fixture
def join_job(tmp_path: Path) -> Iterator[Context]:
    """One job."""
    root = WorkRoot(tmp_path / "work")
    yield Context(str(uuid.uuid4()), root.create(str(uuid.uuid4())))
    root.close()


async def join(
    outputs: Outputs, job: Any, clips: Sequence[bytes], limits: Limits, program: str | None = None
) -> Mapping[str, Any]:
    """The join of these clips by this ffmpeg, the installed one; those that are the same are stored once."""
    keys = {clip: f"journal/{job.job.spec['video_id']}/{index:016d}-a-clip" for index, clip in enumerate(clips)}
    for clip, key in keys.items():
        await outputs.objects.put(key, clip, "application/octet-stream")
    uploads: Any = Located([(keys[clip], len(clip)) for clip in clips])
    sandbox = Sandbox(program or installed(), find("ffprobe"), detect_layers())
    return await JoinHandler(sandbox, uploads, outputs, limits)(job)
