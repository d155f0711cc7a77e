"""How much a join can take; what is too much ends the job with a reason and leaves nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reelway.v1 import upload_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import joined_prefix, journal_prefix
from services.ffmpeg.clips import Clip
from services.ffmpeg.job import JobFault
from services.ffmpeg.limits import JoinLimits
from services.ffmpeg.outputs import Outputs, key_of
from services.ffmpeg.worker import join_handler, while_there
from tests.support.clips import described, make_clip
from tests.support.joins import Context, Located, join

LIMITS = JoinLimits(wall_seconds=0.2, threads=1)
FAR = ("-fps_mode", "passthrough", "-enc_time_base", "1", "-video_track_timescale", "1")


async def fault(join_outputs: Outputs, join_job: Context, clips: list[bytes], limits: JoinLimits) -> JobFault:
    """How the join of these clips fails."""
    with pytest.raises(JobFault) as raised:
        await join(join_outputs, join_job, clips, limits)
    assert not [info async for info in join_outputs.objects.list(joined_prefix(join_job.job.spec["video_id"]))]
    return raised.value


def streams_of(path: Path) -> list[Any]:
    streams: list[Any] = described(path, "-count_frames", "-show_streams")["streams"]
    return streams


@pytest.mark.usefixtures("copies_described_once")
async def test_as_many_clips_as_there_may_be_are_encoded(
    join_outputs: Outputs, join_job: Context, tmp_path: Path
) -> None:
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    sound = ("-f", "lavfi", "-i", "sine=d=0.6", *x264, "-c:a", "aac", "-shortest")
    clips = [
        make_clip(tmp_path / "large.mp4", sound, seconds=0.6).read_bytes(),
        make_clip(tmp_path / "small.mp4", x264, seconds=0.4, size="64x48").read_bytes(),
    ]
    # One more than whole parts, and more than a command line holds.
    made = await join(join_outputs, join_job, clips * 64 + clips[:1], JoinLimits(threads=1))
    assert (made["clips"], made["encoded"]) == (129, True)
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(await join_outputs.objects.get(made["key"]) or b"")
    video, audio = streams_of(joined)
    assert (video["width"], video["height"]) == (128, 96)
    assert int(video["nb_read_frames"]) == 64 * (15 + 10) + 15
    # The sound of a clip of 0.6 s is a little longer; what matters is that it does not run away from the picture.
    assert float(audio["duration"]) == pytest.approx(float(video["duration"]), abs=0.1)
    assert join_job.shown[-1] == 1.0


async def test_the_last_frame_of_a_slow_clip_is_seen(join_outputs: Outputs, join_job: Context, tmp_path: Path) -> None:
    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    clips = [
        make_clip(tmp_path / "film.mp4", x264).read_bytes(),
        make_clip(tmp_path / "slides.mp4", ("-r", "2", *x264), seconds=3, size="64x48").read_bytes(),
    ]
    slides = int(streams_of(tmp_path / "slides.mp4")[0]["nb_read_frames"])
    made = await join(join_outputs, join_job, clips, JoinLimits(threads=1))
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(await join_outputs.objects.get(made["key"]) or b"")
    assert int(streams_of(joined)[0]["nb_read_frames"]) == 10 + slides


async def test_a_join_is_killed_after_its_time(join_outputs: Outputs, join_job: Context, tmp_path: Path) -> None:
    # Two sizes, so that it has to encode: several times as much work.
    clips = [
        make_clip(tmp_path / f"{size}.mp4", ("-c:v", "mpeg4"), seconds=10, size=size).read_bytes()
        for size in ("640x360", "480x270")
    ]
    failure = (await fault(join_outputs, join_job, clips, LIMITS)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join ran longer than allowed")


async def test_a_clip_that_says_it_lasts_for_a_year_is_not_encoded(
    join_outputs: Outputs, join_job: Context, tmp_path: Path
) -> None:
    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    clip = make_clip(tmp_path / "clip.mp4", ("-f", "lavfi", "-i", "sine=d=0.4", *x264, "-c:a", "aac"))
    far = make_clip(tmp_path / "far.mp4", ("-vf", "setpts=N*20000000/TB", *FAR, *x264), seconds=0.12)
    failure = (
        await fault(join_outputs, join_job, [clip.read_bytes(), far.read_bytes()], JoinLimits(wall_seconds=30))
    ).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "Clips that differ may last 24 hours together")


@pytest.fixture
def endless_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clip is ever described."""

    async def describe(*arguments: Any) -> Clip:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(join_handler, "describe_clip", describe)


@pytest.mark.usefixtures("endless_looks")
async def test_looking_at_the_clips_is_a_part_of_the_time(join_outputs: Outputs, join_job: Context) -> None:
    async with asyncio.timeout(10):
        failure = (await fault(join_outputs, join_job, [b"slow", b"slower"], LIMITS)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join ran longer than allowed")


@pytest.mark.usefixtures("endless_looks")
async def test_a_join_ends_when_its_video_is_deleted(
    join_outputs: Outputs, join_job: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(while_there, "_LOOK_SECONDS", 0.05)
    answer, asked = Located.locate, list[str]()

    async def locate(self: Located, video_id: str, *arguments: Any) -> upload_pb2.LocateExtentsResponse:
        asked.append(video_id)
        if len(asked) == 2:
            # Whether it is there cannot be told.
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        if len(asked) == 3:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return await answer(self, video_id, *arguments)

    monkeypatch.setattr(Located, "locate", locate)
    async with asyncio.timeout(10):
        failure = (await fault(join_outputs, join_job, [b"slow", b"slower"], JoinLimits())).failure
    assert (failure.reason, failure.message) == ("INPUT_UNAVAILABLE", "The upload is gone")


async def test_chunks_that_are_deleted_before_they_are_read_are_no_defect(
    join_outputs: Outputs, join_job: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Located.locate

    async def locate(self: Located, video_id: str, *arguments: Any) -> upload_pb2.LocateExtentsResponse:
        # The journal of a deleted video is there until it would have been compacted.
        await join_outputs.objects.delete_all(journal_prefix(video_id))
        return await answer(self, video_id, *arguments)

    monkeypatch.setattr(Located, "locate", locate)
    failed = await fault(join_outputs, join_job, [b"one", b"other"], JoinLimits())
    assert (failed.failure.reason, failed.may_pass) == ("INPUT_UNAVAILABLE", True)


@pytest.mark.usefixtures("copies_described_once")
async def test_the_parts_of_a_join_are_bounded_together(
    join_outputs: Outputs, join_job: Context, tmp_path: Path
) -> None:
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    sound = ("-f", "lavfi", "-i", "sine=d=1", *x264, "-c:a", "aac", "-shortest")
    clips = [
        make_clip(tmp_path / f"{size}.mp4", sound, seconds=1, size=size).read_bytes() for size in ("64x48", "32x24")
    ]
    # Of 3 MiB each, for their sound is samples; what is made of them has less than one.
    limits = JoinLimits(threads=1, output_bytes=5 * 2**20)
    failure = (await fault(join_outputs, join_job, clips * 16, limits)).failure
    assert (failure.reason, failure.message) == ("LIMIT_EXCEEDED", "The join wrote more than allowed")


async def test_more_clips_or_bytes_than_a_job_may_take_are_refused_before_they_are_fetched(
    join_outputs: Outputs, join_job: Context
) -> None:
    for few in ({"input_bytes": 10}, {"input_clips": 1}):
        limits = replace(LIMITS, **few)
        failure = (await fault(join_outputs, join_job, [b"no clip", b"at all"], limits)).failure
        assert failure.reason == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    "reason", [ErrorReason.VIDEO_NOT_FOUND, ErrorReason.VIDEO_CHANGED, ErrorReason.UPLOAD_SEALED, None]
)
async def test_clips_that_are_there_no_more_are_not_asked_for_again(
    join_outputs: Outputs, join_job: Context, monkeypatch: pytest.MonkeyPatch, reason: ErrorReason | None
) -> None:
    """Deleted, added to, sealed, or, without a reason, joined by another attempt."""

    async def locate(*_: Any) -> upload_pb2.LocateExtentsResponse:
        if reason:
            raise ReelwayError(reason)
        return upload_pb2.LocateExtentsResponse(size_bytes=1)

    monkeypatch.setattr(Located, "locate", locate)
    raised = await fault(join_outputs, join_job, [], LIMITS)
    assert (raised.failure.reason, raised.may_pass) == ("INPUT_UNAVAILABLE", False)


async def test_what_an_attempt_could_not_delete_goes_with_the_next_one(
    join_outputs: Outputs, join_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", ("-c:v", "libx264", "-preset", "ultrafast")).read_bytes()
    limits = JoinLimits(threads=1)

    async def away(key: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patched:
        patched.setattr(join_outputs.objects, "delete", away)
        with pytest.raises(ReelwayError):
            await join(join_outputs, join_job, [clip, clip], limits)
    made = await join(join_outputs, join_job, [clip, clip], limits)
    assert await join_outputs.objects.head(made["key"]) is not None
    assert [found async for found in join_outputs.objects.list(key_of(join_job.job.id, ""))] == []
