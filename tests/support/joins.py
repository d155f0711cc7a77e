"""Joins of clips by a worker's own handler, without a queue: real ffmpeg, real S3."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reelway.v1 import upload_pb2

from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.ffmpeg.binaries import find
from services.ffmpeg.clips import Clip, describe_clip
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import Progress
from services.ffmpeg.limits import JoinLimits
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from services.ffmpeg.worker import join_handler
from services.ffmpeg.worker.join_handler import JoinHandler
from tests.support.clips import described
from tests.support.programs import installed, static
from tests.support.servers import S3Server

PROGRAMS = pytest.mark.parametrize("program", [installed, static])
"""For tests of what one ffmpeg does and another does not."""


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


@pytest.fixture
def copies_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For joins of many copies of few clips: a run of ffprobe for each would be most of what they take."""
    known: dict[bytes, Clip] = {}

    async def describe(sandbox: Sandbox, folder: WorkFolder, path: Path) -> Clip:
        content = path.read_bytes()
        if content not in known:
            known[content] = await describe_clip(sandbox, folder, path)
        return replace(known[content], path=path)

    monkeypatch.setattr(join_handler, "describe_clip", describe)


async def join(
    outputs: Outputs, job: Any, clips: Sequence[bytes], limits: JoinLimits, program: str | None = None
) -> Mapping[str, Any]:
    """The join of these clips by this ffmpeg, the installed one; those that are the same are stored once."""
    keys = {clip: f"journal/{job.job.spec['video_id']}/{index:016d}-a-clip" for index, clip in enumerate(clips)}
    for clip, key in keys.items():
        await outputs.objects.put(key, clip, "application/octet-stream")
    uploads: Any = Located([(keys[clip], len(clip)) for clip in clips])
    # Both of one version, as every worker has them.
    ffprobe = static("ffprobe") if program == static() else find().ffprobe
    sandbox = Sandbox(program or installed(), ffprobe, detect_layers())
    return await JoinHandler(sandbox, uploads, outputs, limits)(job)


class Joined:
    """The join of some files, and what its picture is."""

    def __init__(self, made: Mapping[str, Any], path: Path) -> None:
        self.encoded, self.path = made["encoded"], path
        entries = "stream=width,height,sample_aspect_ratio,color_space:stream_side_data=rotation"
        [self.video] = described(path, "-select_streams", "v", "-show_entries", entries)["streams"]

    @property
    def size(self) -> tuple[int, int]:
        """Pixels as coded, which are square and upright."""
        assert self.video.get("sample_aspect_ratio", "1:1") == "1:1"
        assert self.rotation is None
        return self.video["width"], self.video["height"]

    @property
    def rotation(self) -> int | None:
        """Degrees to the left by which a player turns it."""
        return next((data["rotation"] for data in self.video.get("side_data_list", [])), None)


@pytest.fixture
def joined(join_outputs: Outputs, join_job: Context, tmp_path: Path) -> Any:
    """Joins files."""

    async def made(*clips: Path, program: str | None = None) -> Joined:
        result = await join(
            join_outputs, join_job, [clip.read_bytes() for clip in clips], JoinLimits(threads=1), program=program
        )
        path = tmp_path / f"joined{Path(result['key']).suffix}"
        path.write_bytes(await join_outputs.objects.get(result["key"]) or b"")
        return Joined(result, path)

    return made
