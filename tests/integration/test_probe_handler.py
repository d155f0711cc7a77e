"""What a look at a new video does where the video goes, changes, stays, or is another attempt's by now."""

import hashlib
import itertools
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from reelway.v1 import library_pb2, media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import incoming_key, thumbnail_key
from services.common.s3_objects import S3Objects
from services.ffmpeg.binaries import find
from services.ffmpeg.isolation import detect_layers
from services.ffmpeg.job import JobFault
from services.ffmpeg.redis_job_store import Holding
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.thumbnail import thumbnail
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.handler import NoLongerHeld
from services.ffmpeg.worker.probe_handler import ProbeHandler
from tests.support.clips import make_clip
from tests.support.foundation import Foundation
from tests.support.programs import static

VIDEO_ID = "d7be78a8-9a7a-4f25-8b47-92c8d65e9446"
SOURCE, PLACE, PICTURE = incoming_key(VIDEO_ID), f"videos/{VIDEO_ID}.mp4", thumbnail_key(VIDEO_ID)
UPLOAD_BYTES = 2**20


@dataclass
class Case:
    """A handler with an upload, and the lease of its attempt."""

    handler: ProbeHandler
    objects: S3Objects
    root: WorkRoot
    told: list[str] = field(default_factory=list)
    found: library_pb2.Processed = field(default_factory=library_pb2.Processed)
    is_deleted: bool = False
    looks: Iterator[bool] = field(default_factory=lambda: itertools.repeat(True))
    """Whether the attempt still has its lease, each time that it asks."""

    async def finish(
        self, outcome: library_pb2.FinishProcessingRequest, **_: object
    ) -> library_pb2.FinishProcessingResponse:
        if self.is_deleted:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        kind, self.found = str(outcome.WhichOneof("outcome")), outcome.processed
        self.told.append(kind if kind == "processed" else media_pb2.ProcessingFailure.Name(outcome.failure))
        return library_pb2.FinishProcessingResponse(video=media_pb2.Video(video_id=VIDEO_ID))

    async def attempt(self) -> Any:
        job = SimpleNamespace(spec={"video_id": VIDEO_ID, "parameters": {"source": SOURCE}})

        async def still_held() -> None:
            if not next(self.looks):
                raise NoLongerHeld(Holding.LOST)

        folder = self.root.create("look")
        try:
            return await self.handler(cast(Any, SimpleNamespace(job=job, folder=folder, still_held=still_held)))
        finally:
            folder.remove()

    async def stored(self) -> set[str]:
        return {info.key async for info in self.objects.list("") if VIDEO_ID in info.key}


@pytest.fixture
async def case(near: Foundation, tmp_path: Path) -> AsyncIterator[Case]:
    handler = ProbeHandler(
        Sandbox(static(), find().ffprobe, detect_layers()),
        objects=near.objects,
        data=near.store,
        catalog=Mock(),
        upload_bytes=UPLOAD_BYTES,
        upload_types={"video/mp4", "video/webm"},
        whole_bytes=UPLOAD_BYTES,
    )
    clip = make_clip(tmp_path / "clip.mp4", ("-c:v", "mpeg4"))
    await near.objects.put(SOURCE, clip.read_bytes(), "what the client says")
    root = WorkRoot(tmp_path / "work")
    case = Case(handler, near.objects, root)
    handler._library = cast(Any, SimpleNamespace(FinishProcessing=case.finish))
    yield case
    root.close()
    for key in await case.stored():
        await near.objects.delete(key)


async def test_an_upload_becomes_a_video(case: Case) -> None:
    assert await case.attempt() == {"outcome": "processed"}
    assert (case.told, await case.stored()) == (["processed"], {PLACE, PICTURE})
    for key, content_type in ((PLACE, "video/mp4"), (PICTURE, "image/jpeg")):
        found = await case.objects._client.head_object(Bucket=case.objects._bucket, Key=key)
        assert found["ContentType"] == content_type


async def test_the_first_picture_is_one_that_no_seek_finds(case: Case) -> None:
    """An AVI that was written into a pipe says it is minutes long; and a seek to 0 in H.264 in AVI finds nothing."""
    folder = case.root.create("look")
    clip = make_clip(folder.path / "in" / "clip.avi", ("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    picture = await thumbnail(case.handler._sandbox, folder, clip, 88.0, whole=True)
    folder.remove()
    assert picture is not None


async def test_a_video_is_described_whole(case: Case, tmp_path: Path) -> None:
    """As wide and high as it is coded. A third of its sound's length in there is no picture any more: its first one."""
    sound = ("-f", "lavfi", "-i", "sine=duration=3")
    clip = make_clip(tmp_path / "sound.mp4", (*sound, "-c:v", "mpeg4", "-c:a", "aac"), size="130x96")
    # As large as an upload may be.
    data = clip.read_bytes().ljust(UPLOAD_BYTES, b"\0")
    await case.objects.put(SOURCE, data, "video/mp4")
    await case.attempt()
    assert case.found.duration_seconds == pytest.approx(3, abs=0.1)
    case.found.ClearField("duration_seconds")
    assert case.found == library_pb2.Processed(
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=130,
        height=96,
        video_codec="mpeg4",
        audio_codec="aac",
        container=media_pb2.CONTAINER_MP4,
        object_key=PLACE,
        thumbnail_key=PICTURE,
    )


async def test_a_recording_that_does_not_tell_how_long_it_is_is_measured(case: Case, tmp_path: Path) -> None:
    """As a browser writes it."""
    live = make_clip(tmp_path / "live.webm", ("-c:v", "libvpx", "-deadline", "realtime", "-live", "1"), seconds=1.2)
    await case.objects.put(SOURCE, live.read_bytes(), "video/webm")
    await case.attempt()
    assert case.found.duration_seconds == pytest.approx(1.2, abs=0.1)


def without_moving_picture(kind: str, path: Path) -> bytes:
    """A file whose signature is a video's."""
    streams = {
        "sound": ("-f", "lavfi", "-i", "sine=d=0.4", "-c:a", "aac"),
        "a cover": ("-f", "lavfi", "-i", "color=d=0.04", "-c:v", "mjpeg", "-disposition:v", "attached_pic"),
        "subtitles": ("-f", "srt", "-i", "-", "-c:s", "mov_text"),
    }
    command = [static(), "-v", "error", *streams[kind], "-f", "mp4", "-brand", "isom", str(path)]
    subprocess.run(command, input=b"1\n00:00:00,000 --> 00:00:01,000\nhello\n", check=True, timeout=60)
    return path.read_bytes()


# A movie header and no track.
TRACKLESS = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + b"\0\0\0\x74moov\0\0\0\x6cmvhd" + bytes(14) + b"\3\xe8" + bytes(84)


@pytest.mark.parametrize("kind", ["sound", "a cover", "subtitles"])
async def test_what_is_no_moving_picture_is_another_type_of_file(case: Case, tmp_path: Path, kind: str) -> None:
    await case.objects.put(SOURCE, without_moving_picture(kind, tmp_path / "made"), "video/mp4")
    assert await case.attempt() == {"outcome": "failure"}
    assert (case.told, await case.stored()) == (["PROCESSING_FAILURE_UNSUPPORTED"], set())


@pytest.mark.parametrize("data", [b"", TRACKLESS, TRACKLESS[:40]], ids=["nothing", "no track", "cut off"])
async def test_what_is_nothing_is_damaged(case: Case, data: bytes) -> None:
    await case.objects.put(SOURCE, data, "video/mp4")
    assert await case.attempt() == {"outcome": "failure"}
    assert (case.told, await case.stored()) == (["PROCESSING_FAILURE_CORRUPTED"], set())


async def test_a_video_without_a_frame_that_can_be_shown_is_damaged(case: Case) -> None:
    """Its header is whole, and behind it are zeros."""
    data = await case.objects.get(SOURCE)
    assert data is not None
    frames, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    await case.objects.put(SOURCE, data[:frames] + bytes(end - frames) + data[end:], "video/mp4")
    assert await case.attempt() == {"outcome": "failure"}
    assert (case.told, await case.stored()) == (["PROCESSING_FAILURE_CORRUPTED"], set())


def color_of(picture: bytes | None, part: str = "") -> bytes:
    """Of all of it or of a part, as three bytes."""
    command = [static(), "-v", "error", "-f", "mjpeg", "-i", "-", "-vf", f"{part}scale=1:1", "-pix_fmt", "rgb24"]
    command += ["-f", "rawvideo", "-"]
    return subprocess.run(command, input=picture, check=True, capture_output=True, timeout=60).stdout


async def test_the_picture_is_of_a_third_in(case: Case, tmp_path: Path) -> None:
    """Of 1.2 s: there it is green, and red before and behind."""
    colors = "drawbox=c=red:t=fill,drawbox=c=lime:t=fill:enable='between(t,0.35,0.45)'"
    clip = make_clip(tmp_path / "colors.mp4", ("-vf", colors, "-c:v", "mpeg4"), seconds=1.2)
    await case.objects.put(SOURCE, clip.read_bytes(), "video/mp4")
    await case.attempt()
    red, green, blue = color_of(await case.objects.get(PICTURE))
    assert green > 100 > max(red, blue)


async def test_the_picture_is_whole_in_its_frame(case: Case, tmp_path: Path) -> None:
    """Its pixels are twice as wide as high: it is 360 x 135 then, with 32 or 33 black lines above and below."""
    clip = make_clip(tmp_path / "wide.mp4", ("-vf", "drawbox=c=lime:t=fill,setsar=2", "-c:v", "mpeg4"))
    await case.objects.put(SOURCE, clip.read_bytes(), "video/mp4")
    await case.attempt()
    picture = await case.objects.get(PICTURE)
    for part in ("8:8:0:40", "8:8:352:152"):
        assert color_of(picture, f"crop={part},")[1] > 200
    for part in ("360:24:0:0", "360:24:0:176"):
        assert color_of(picture, f"crop={part},")[1] < 20


@pytest.mark.parametrize("held", [0, 1, 2])
async def test_an_attempt_that_lost_its_lease_writes_nothing_more(case: Case, held: int) -> None:
    """It asks before it stores the picture, before it moves the upload, and before it tells the catalogue."""
    case.looks = iter([True] * held + [False])
    with pytest.raises(NoLongerHeld):
        await case.attempt()
    assert (case.told, await case.stored()) == ([], {SOURCE, *(PICTURE, PLACE)[:held]})


async def test_a_look_whose_outcome_is_told_is_not_done_again_for_an_upload_that_cannot_be_removed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt would fetch and probe it once more; whoever looks for arrivals removes it."""
    await case.objects.put(SOURCE, bytes(UPLOAD_BYTES + 1), "video/mp4")
    delete = AsyncMock(side_effect=ReelwayError(ErrorReason.STORE_UNAVAILABLE))
    with monkeypatch.context() as away:
        away.setattr(case.objects, "delete", delete)
        assert await case.attempt() == {"outcome": "failure"}
    assert case.told == ["PROCESSING_FAILURE_TOO_LARGE"]
    delete.assert_awaited_once_with(SOURCE)


async def test_nothing_is_left_of_a_video_that_was_deleted_while_it_was_looked_at(case: Case) -> None:
    case.is_deleted = True
    assert await case.attempt() == {"outcome": "deleted"}
    assert await case.stored() == set()


async def test_an_upload_that_goes_before_it_is_looked_at_is_looked_for_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its video was deleted: the next attempt finds that out."""
    head = case.objects.head

    async def go(key: str) -> Any:
        info = await head(key)
        await case.objects.delete(key)
        return info

    monkeypatch.setattr(case.objects, "head", go)
    await is_tried_again(case)


async def test_an_upload_that_changes_while_it_is_looked_at_is_looked_at_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form was used again: what is described is not what would be moved."""
    describe = case.handler._describe

    async def change(*arguments: Any, **options: Any) -> Any:
        found = await describe(*arguments, **options)
        await case.objects.put(SOURCE, b"another", "video/mp4")
        return found

    monkeypatch.setattr(case.handler, "_describe", change)
    await is_tried_again(case)


async def is_tried_again(case: Case) -> None:
    with pytest.raises(JobFault) as raised:
        await case.attempt()
    assert (raised.value.failure.reason, raised.value.may_pass) == ("INPUT_UNAVAILABLE", True)
    assert case.told == []
