"""How much a join can take; what is too much ends the job with a reason and leaves nothing."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reelway.v1 import upload_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import joined_prefix
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.limits import Limits
from services.ffmpeg.outputs import Outputs, key_of
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from services.ffmpeg.worker.join import JoinHandler
from tests.support.clips import described, make_clip
from tests.support.programs import installed
from tests.support.servers import S3Server

LIMITS = Limits(wall_seconds=0.2, threads=1)


class Located:
    """The extents of one upload, one clip each."""

    def __init__(self, extents: Sequence[tuple[str, int]]) -> None:
        self._extents = extents

    async def locate(self, video_id: str, offset: int, length: int, etag: str) -> upload_pb2.LocateExtentsResponse:
        answer = upload_pb2.LocateExtentsResponse()
        for key, size in self._extents:
            answer.extents.add(offset_bytes=answer.size_bytes, length_bytes=size, key=key, begins_clip=True)
            answer.size_bytes += size
        return answer


@pytest.fixture
async def outputs(juicefs_s3: S3Server) -> AsyncIterator[Outputs]:
    settings = juicefs_s3.settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        yield Outputs(objects, data)


class Context:
    """A job that nobody takes away."""

    def __init__(self, video_id: str, folder: WorkFolder) -> None:
        spec = {"video_id": video_id, "parameters": {"etag": '"00-1"'}}
        self.job = SimpleNamespace(id=str(uuid.uuid4()), spec=spec)
        self.folder = folder
        self.shown: list[float] = []

    def show(self, progress: Progress) -> None:
        self.shown.append(progress.fraction)

    async def begin_upload(self, upload_id: str, key: str) -> None:
        pass

    async def still_held(self) -> None:
        pass


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    root = WorkRoot(tmp_path / "work")
    yield Context(str(uuid.uuid4()), root.create(str(uuid.uuid4())))
    root.close()


async def join(outputs: Outputs, context: Any, clips: Sequence[bytes], limits: Limits) -> Mapping[str, Any]:
    """The join of these clips; those that are the same are stored once."""
    keys = {clip: f"journal/{context.job.spec['video_id']}/{index:016d}-a-clip" for index, clip in enumerate(clips)}
    for clip, key in keys.items():
        await outputs.objects.put(key, clip, "application/octet-stream")
    uploads: Any = Located([(keys[clip], len(clip)) for clip in clips])
    sandbox = Sandbox(installed(), find("ffprobe"), detect_layers())
    return await JoinHandler(sandbox, uploads, outputs, limits)(context)


async def fault(outputs: Outputs, context: Context, clips: list[bytes], limits: Limits) -> JobFault:
    """How the join of these clips fails."""
    with pytest.raises(JobFault) as raised:
        await join(outputs, context, clips, limits)
    assert not [info async for info in outputs.objects.list(joined_prefix(context.job.spec["video_id"]))]
    return raised.value


def streams_of(path: Path) -> list[Any]:
    streams: list[Any] = described(path, "-count_frames", "-show_streams")["streams"]
    return streams


async def test_as_many_clips_as_there_may_be_are_encoded(outputs: Outputs, context: Context, tmp_path: Path) -> None:
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    sound = ("-f", "lavfi", "-i", "sine=d=0.6", *x264, "-c:a", "aac", "-shortest")
    clips = [
        make_clip(tmp_path / "large.mp4", sound, seconds=0.6).read_bytes(),
        make_clip(tmp_path / "small.mp4", x264, seconds=0.4, size="64x48").read_bytes(),
    ]
    # One more than whole parts, and more than a command line holds.
    made = await join(outputs, context, clips * 64 + clips[:1], Limits(threads=1))
    assert (made["clips"], made["encoded"]) == (129, True)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(await outputs.objects.get(made["key"]) or b"")
    video, audio = streams_of(joined)
    assert (video["width"], video["height"]) == (128, 96)
    assert int(video["nb_read_frames"]) == 64 * (15 + 10) + 15
    # The sound of a clip of 0.6 s is a little longer; what matters is that it does not run away from the picture.
    assert float(audio["duration"]) == pytest.approx(float(video["duration"]), abs=0.1)
    assert context.shown[-1] == 1.0


async def test_the_last_frame_of_a_slow_clip_is_seen(outputs: Outputs, context: Context, tmp_path: Path) -> None:
    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    clips = [
        make_clip(tmp_path / "film.mp4", x264).read_bytes(),
        make_clip(tmp_path / "slides.mp4", ("-r", "2", *x264), seconds=3, size="64x48").read_bytes(),
    ]
    slides = int(streams_of(tmp_path / "slides.mp4")[0]["nb_read_frames"])
    made = await join(outputs, context, clips, Limits(threads=1))
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(await outputs.objects.get(made["key"]) or b"")
    assert int(streams_of(joined)[0]["nb_read_frames"]) == 10 + slides


async def test_a_join_is_killed_after_its_time(outputs: Outputs, context: Context, tmp_path: Path) -> None:
    # Two sizes, so that it has to encode: several times as much work.
    clips = [
        make_clip(tmp_path / f"{size}.mp4", ("-c:v", "mpeg4"), seconds=10, size=size).read_bytes()
        for size in ("640x360", "480x270")
    ]
    failure = (await fault(outputs, context, clips, LIMITS)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join ran longer than allowed")


async def test_the_parts_of_a_join_are_bounded_together(outputs: Outputs, context: Context, tmp_path: Path) -> None:
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    sound = ("-f", "lavfi", "-i", "sine=d=1", *x264, "-c:a", "aac", "-shortest")
    clips = [
        make_clip(tmp_path / f"{size}.mp4", sound, seconds=1, size=size).read_bytes() for size in ("64x48", "32x24")
    ]
    # Of 3 MiB each, for their sound is samples; what is made of them has less than one.
    limits = Limits(threads=1, output_bytes=5 * 2**20)
    failure = (await fault(outputs, context, clips * 24, limits)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join wrote more than allowed")


async def test_more_bytes_than_a_job_may_take_are_refused_before_they_are_fetched(
    outputs: Outputs, context: Context
) -> None:
    limits = replace(LIMITS, input_bytes=10)
    failure = (await fault(outputs, context, [b"no clip at all"], limits)).failure
    assert failure.reason == "LIMIT_EXCEEDED"


async def test_what_an_attempt_could_not_delete_goes_with_the_next_one(
    outputs: Outputs, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", ("-c:v", "libx264", "-preset", "ultrafast")).read_bytes()
    limits = Limits(threads=1)

    async def away(key: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patched:
        patched.setattr(outputs.objects, "delete", away)
        with pytest.raises(ReelwayError):
            await join(outputs, context, [clip, clip], limits)
    made = await join(outputs, context, [clip, clip], limits)
    assert await outputs.objects.head(made["key"]) is not None
    assert [found async for found in outputs.objects.list(key_of(context.job.id, ""))] == []
