"""Joins the clips of an upload to one file, stored where services/common/joined.py says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelway.v1 import upload_pb2

from services.common import entity_tags, logs
from services.common.byte_messages import Buffer
from services.common.containers import KINDS, SNIFF_BYTES, goes_on_as_ogg, sniff
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import Extent, read_slices, slices
from services.common.joined import find_joined
from services.common.object_keys import joined_prefix
from services.common.s3_objects import Slice
from services.common.task_failure import TaskFailure
from services.common.upload_client import UploadClient, extents_of
from services.ffmpeg.clips import (
    Clip,
    Shape,
    copy_arguments,
    decodable,
    describe_clip,
    encode_arguments,
    hide_frames,
    match,
    parts_arguments,
)
from services.ffmpeg.error_text import last_words
from services.ffmpeg.job import JobFault, Progress
from services.ffmpeg.limits import JoinLimits
from services.ffmpeg.outputs import Outputs, key_of
from services.ffmpeg.plan import PlannedOutput
from services.ffmpeg.probe import ProbeCutShort, ProbeFailed
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.progress import ProgressReader
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import OutputMissing
from services.ffmpeg.worker.handler import JobContext, may_go_away
from services.ffmpeg.worker.new_file import write_new
from services.ffmpeg.worker.while_there import while_there

log = logs.get_logger(__name__)

# Clips that are encoded in one go: each has a decoder, its threads, frames that wait, and arguments.
_AT_ONCE = 16
# A first frame needs no more. A larger clip that cannot be read is damaged, and is never left out.
_BEGUN_BYTES = 2 * 2**20
_GONE = {ErrorReason.VIDEO_NOT_FOUND, ErrorReason.VIDEO_CHANGED, ErrorReason.UPLOAD_SEALED}


class JoinHandler:
    """Handler of JobKind.JOIN. Spec: `video_id` and `parameters` with the `etag` of the upload's version.

    Result: `key` of the joined file; `clips` that are in it, all or all but a last one that has only begun; and
    `encoded`: false where every packet of the picture was taken as it was.
    """

    def __init__(self, sandbox: Sandbox, uploads: UploadClient, outputs: Outputs, limits: JoinLimits) -> None:
        self._sandbox, self._uploads, self._outputs, self._limits = sandbox, uploads, outputs, limits

    async def __call__(self, context: JobContext) -> Mapping[str, Any]:
        """Raises JobFault, NoLongerHeld."""
        video_id, etag = context.job.spec["video_id"], context.job.spec["parameters"]["etag"]
        made = await find_joined(self._outputs.objects, video_id, etag)
        if made is not None:
            # The attempt that made it may have died before it removed its own copy.
            await self._outputs.remove(context.job.id, {})
            return {"key": made.key}
        runs = _clips(await self._extents(video_id, etag))
        total = sum(extent.length for run in runs for extent in run)
        most, most_bytes = self._limits.input_clips, self._limits.input_bytes
        if len(runs) > most or total > most_bytes:
            raise JobFault(TaskFailure.LIMIT_EXCEEDED, f"More than {most} clips or {most_bytes} bytes")
        with may_go_away("the upload"):
            runs = await self._whole(runs)
            paths = [await self._bring(context, index, run) for index, run in enumerate(runs)]
        output, clips, encoded = await while_there(
            self._made(context, paths), lambda: self._locate(video_id, 0, 1, etag)
        )
        key = f"{joined_prefix(video_id)}{entity_tags.unquoted(etag)}{output.suffix}"
        await self._publish(context, output, key)
        return {"key": key, "clips": clips, "encoded": encoded}

    async def _made(self, context: JobContext, paths: Sequence[Path]) -> tuple[Path, int, bool]:
        """The joined file, how many clips are in it, and whether they were encoded; all runs have one limit of time."""
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                return await self._join(context, paths)
        except TimeoutError:
            raise JobFault(TaskFailure.LIMIT_EXCEEDED, f"The join {Ended.WALL_CLOCK.value}") from None

    async def _join(self, context: JobContext, paths: Sequence[Path]) -> tuple[Path, int, bool]:
        extension = await asyncio.to_thread(_extension, paths[0])
        try:
            clips = await self._readable(context, paths, extension)
            if all(clip.video is None for clip in clips):
                raise ProbeFailed("it has no moving picture")
            encoded = len(clips) > 1 and (
                not match(clips, extension) or await hide_frames(self._sandbox, context.folder, clips)
            )
        except ProbeFailed as error:
            raise JobFault(TaskFailure.FFMPEG_FAILED, f"A clip is no video: {error}") from None
        output = context.folder.path / "out" / f"joined.{'mp4' if encoded else extension}"
        if len(clips) == 1:
            paths[0].rename(output)
        else:
            ffmpeg = _Ffmpeg(self._sandbox, self._limits, context, clips)
            await (ffmpeg.encode(output) if encoded else ffmpeg.copy(output))
        return output, len(clips), encoded

    async def _extents(self, video_id: str, etag: str) -> list[Extent]:
        found: list[Extent] = []
        size, offset = 1, 0
        while offset < size:
            located = await self._locate(video_id, offset, 2**62, etag)
            if not located.extents:
                raise JobFault(TaskFailure.INPUT_UNAVAILABLE, "The upload is joined already")
            found += extents_of(located)
            size, offset = located.size_bytes, found[-1].end
        return found

    async def _locate(self, video_id: str, offset: int, length: int, etag: str) -> upload_pb2.LocateExtentsResponse:
        try:
            return await self._uploads.locate(video_id, offset, length, etag)
        except ReelwayError as error:
            if error.reason in _GONE:
                raise JobFault(TaskFailure.INPUT_UNAVAILABLE, "The upload is gone") from None
            raise

    async def _whole(self, runs: Sequence[list[Extent]]) -> list[list[Extent]]:
        """The runs as clips: an Ogg file that was cut between the first pages of its streams looks like several."""
        whole = [runs[0]]
        for run in runs[1:]:
            before = whole[-1]
            if sum(extent.length for extent in before) <= SNIFF_BYTES and goes_on_as_ogg(
                await self._head(before), await self._head(run)
            ):
                before += run
            else:
                whole.append(run)
        return whole

    async def _bring(self, context: JobContext, index: int, run: Sequence[Extent]) -> Path:
        path = context.folder.path / "in" / f"clip{index:04d}"
        await write_new(path, self._read(run))
        return path

    async def _head(self, run: Sequence[Extent]) -> bytes:
        """At most SNIFF_BYTES."""
        wanted = slices(run, run[0].offset, SNIFF_BYTES)
        return b"".join([piece async for piece in read_slices(self._outputs.data, wanted)])

    def _read(self, run: Sequence[Extent]) -> AsyncIterator[Buffer]:
        return read_slices(self._outputs.data, [Slice(extent.key, 0, extent.length) for extent in run])

    async def _readable(self, context: JobContext, paths: Sequence[Path], extension: str) -> list[Clip]:
        """All clips, or all but the last one where it has only begun and cannot be read yet; raises ProbeFailed."""
        sandbox, folder = self._sandbox, context.folder
        clips = [await describe_clip(sandbox, folder, path) for path in paths[:-1]]
        may_have_begun = bool(clips) and paths[-1].stat().st_size <= _BEGUN_BYTES
        try:
            last = await describe_clip(sandbox, folder, paths[-1])
            if not clips or match([clips[0], last], extension):
                return [*clips, last]
            if (readable := await decodable(sandbox, folder, last)) is not None:
                return [*clips, readable]
            raise ProbeFailed("nothing of it can be decoded")
        except ProbeCutShort:
            raise
        except ProbeFailed as error:
            if not may_have_begun:
                raise
            why = str(error)
        log.warning("joined without the last clip", video_id=context.job.spec["video_id"], clips=len(paths), why=why)
        return clips

    async def _publish(self, context: JobContext, output: Path, key: str) -> None:
        """Under the job's own key first, which a stale attempt cannot complete; then, in one step, where it belongs."""
        try:
            collected = context.folder.collect([PlannedOutput("joined", output.name, f"out/{output.name}")])
        except OutputMissing:
            raise JobFault(TaskFailure.OUTPUT_MISSING, "ffmpeg wrote nothing") from None
        await self._outputs.publish(context.job.id, collected, context)
        await self._outputs.objects.copy(key_of(context.job.id, output.name), key)
        await self._outputs.objects.delete(key_of(context.job.id, output.name))


class _Ffmpeg:
    """The runs that one join takes. Raises JobFault, OSError."""

    def __init__(self, sandbox: Sandbox, limits: JoinLimits, context: JobContext, clips: Sequence[Clip]) -> None:
        self._sandbox, self._limits, self._context, self._clips = sandbox, limits, context, clips
        self._seconds = sum(clip.duration_seconds for clip in clips)
        self._done = 0.0

    async def copy(self, output: Path) -> None:
        """Join clips that match."""
        await self._run(copy_arguments(self._clips, self._context.folder, output))

    async def encode(self, output: Path) -> None:
        """Join clips that differ: at once where they are few, else part by part."""
        if self._seconds > self._limits.media_seconds:
            hours = self._limits.media_seconds / 3600
            raise JobFault(TaskFailure.LIMIT_EXCEEDED, f"Clips that differ may last {hours:g} hours together")
        shape, folder = Shape.of(self._clips, self._limits), self._context.folder
        if len(self._clips) <= _AT_ONCE:
            await self._run(encode_arguments(self._clips, shape, output, self._limits))
            return
        # All parts are on the disk until the last one is made: together they may be as large as one output.
        parts, room = list[Path](), self._limits.output_bytes
        for start in range(0, len(self._clips), _AT_ONCE):
            clips = self._clips[start : start + _AT_ONCE]
            part = folder.path / "out" / f"part{start:04d}.mov"
            await self._run(encode_arguments(clips, shape, part, self._limits, is_part=True), room)
            room -= part.stat().st_size
            self._done += sum(clip.duration_seconds for clip in clips)
            parts.append(part.rename(folder.path / "in" / part.name))
            for clip in clips:
                clip.path.unlink()
        await self._run(parts_arguments(parts, folder, output))

    async def _run(self, arguments: Sequence[str], room: int | None = None) -> None:
        output_bytes = self._limits.output_bytes if room is None else room

        def show(progress: Progress) -> None:
            fraction = (self._done + progress.media_seconds) / self._seconds if self._seconds else 0.0
            self._context.show(replace(progress, fraction=min(fraction, 1.0)))

        result = await run_sandboxed(
            self._sandbox,
            [self._sandbox.ffmpeg, *arguments],
            self._context.folder,
            replace(self._limits, output_bytes=output_bytes),
            on_line=ProgressReader(None, show).line,
        )
        if result.ended is Ended.SUCCEEDED:
            return
        result.require_room()
        if result.ended is not Ended.FAILED:
            raise result.fault(f"The join {result.ended.value}")
        names = {str(clip.path): f"clip {number}" for number, clip in enumerate(self._clips, 1)}
        raise result.fault(last_words(result.stderr, names) or "ffmpeg failed")


def _clips(extents: Sequence[Extent]) -> list[list[Extent]]:
    runs: list[list[Extent]] = []
    for extent in extents:
        if extent.begins_clip or not runs:
            runs.append([])
        runs[-1].append(extent)
    return runs


def _extension(path: Path) -> str:
    with path.open("rb") as file:
        kind = KINDS.get(sniff(file.read(SNIFF_BYTES)))
    return kind.extension if kind is not None else "mkv"
